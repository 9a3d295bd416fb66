"""The verb from the outside: exit codes, what it prints, and what it asks a Hub for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakehub import HubModel, fake_hub, write_header_only
from tiny import tiny_tensors, write_model, write_tokenizer


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def write_recipe(path: Path, **recipe: Any) -> Path:
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_models_that_merge(
    miscible: Callable[..., Any], tiny_base: Path, tiny_children: list[Path]
) -> None:
    outcome = miscible("doctor", *tiny_children, "--base", tiny_base)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].startswith("Will merge: 3 models by task_arithmetic")
    assert "all 20 tensors" in outcome.out
    assert lines[-1].startswith("Needs 0 kB to download, 19 kB of disk for the merge")
    assert "\x1b" not in outcome.out
    strict = miscible("doctor", *tiny_children, "--base", tiny_base, "--strict")
    assert strict.code == 1, "cards without licences are warnings"
    quiet = miscible("doctor", *tiny_children, "--format", "quiet")
    assert (quiet.code, quiet.out) == (0, "")


def test_models_that_need_a_fix(miscible: Callable[..., Any], tiny_children: list[Path]) -> None:
    edit_config(tiny_children[1], rope_theta=1e6)
    outcome = miscible("doctor", *tiny_children)
    assert outcome.code == 1
    assert outcome.out.startswith("Will not merge: 2 models by linear, 1 thing to fix")
    assert "Fix 1: Merge only models that agree in 'rope_theta'" in outcome.out
    assert miscible("doctor", *tiny_children, "--format", "quiet").code == 1
    found = json.loads(miscible("doctor", *tiny_children, "--format", "json").out)
    assert found["will_merge"] is False
    assert found["models"] == [str(folder) for folder in tiny_children]
    first = found["findings"][0]
    assert first.keys() == {"severity", "check", "models", "what", "fix"}
    assert (first["severity"], first["check"]) == ("error", "config")
    assert found["needs"]["download_bytes"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/no/such", "/no/where"], "no folder '/no/such'"),
        (["{a}"], "at least 2 models"),
        (["{a}", "{a}"], "at least 2 models"),
        (["nowhere.yml"], "cannot be read"),
        (["{recipe}", "{a}"], "Give the recipe alone"),
        (["{recipe}"], "Did you mean 'linear'?"),
        (["{a}", "{b}", "--bass", "x"], "No such option"),
    ],
)
def test_bad_input(
    miscible: Callable[..., Any], tiny_children: list[Path], tmp_path: Path,
    arguments: list[str], said: str,
) -> None:  # fmt: skip
    recipe = write_recipe(tmp_path / "r.yml", merge_method="linaer", models=[{"model": "x/y"}])
    held = {"a": tiny_children[0], "b": tiny_children[1], "recipe": recipe}
    outcome = miscible("doctor", *(argument.format(**held) for argument in arguments))
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_a_base_that_is_a_parent(
    miscible: Callable[..., Any], tiny_base: Path, tiny_children: list[Path], tmp_path: Path
) -> None:
    parents = [str(tiny_base), str(tiny_children[0])]
    recipe = write_recipe(
        tmp_path / "r.yml", merge_method="ties", base_model=parents[0],
        models=[{"model": p, "parameters": {"weight": 1.0}} for p in parents],
    )  # fmt: skip
    outcome = miscible("doctor", recipe, "--format", "json")
    assert outcome.code == 0
    said = [f["what"] for f in json.loads(outcome.out)["findings"] if f["check"] == "base"]
    assert any("ties only scales or trims the task vector" in what for what in said), said
    copied = write_model(tmp_path / "copy", tiny_tensors(0))
    outcome = miscible("doctor", copied, tiny_children[0], "--base", tiny_base, "--format", "json")
    said = [f["what"] for f in json.loads(outcome.out)["findings"] if f["check"] == "base"]
    assert any("has the weights of the base" in what and "methods on task vectors" in what
               for what in said)  # fmt: skip
    plain = miscible("doctor", tiny_base, tiny_children[0], "--format", "json")
    assert not [f for f in json.loads(plain.out)["findings"] if "task vector" in f["what"]]


def test_what_a_recipe_can_do_is_no_error(
    miscible: Callable[..., Any], tiny_children: list[Path], tmp_path: Path
) -> None:
    write_tokenizer(tiny_children[1], ["the", "a", "new", "words", "here"])
    assert miscible("doctor", *tiny_children).code == 1
    models = [{"model": str(p), "parameters": {"weight": 1.0}} for p in tiny_children]
    plain = write_recipe(tmp_path / "plain.yml", merge_method="linear", models=models)
    assert miscible("doctor", plain).code == 1
    union = write_recipe(
        tmp_path / "union.yml", merge_method="linear", models=models, tokenizer_source="union"
    )
    outcome = miscible("doctor", union, "--format", "json")
    assert outcome.code == 0, outcome.out
    found = {f["check"]: f["severity"] for f in json.loads(outcome.out)["findings"]}
    assert found["tokenizer"] == "warning"


def test_slices_of_models_of_other_depths(
    miscible: Callable[..., Any], tiny_children: list[Path], tmp_path: Path
) -> None:
    edit_config(tiny_children[1], num_hidden_layers=5)
    first, second = map(str, tiny_children)
    recipe = write_recipe(
        tmp_path / "r.yml", merge_method="linear", parameters={"weight": 1.0},
        slices=[{"sources": [{"model": first, "layer_range": [0, 2]}]},
                {"sources": [{"model": second, "layer_range": [1, 2]}]}],
    )  # fmt: skip
    assert miscible("doctor", recipe).code == 0


def write_large(folder: Path, layers: int) -> None:
    """Write a model of the Hub with 0.5 GB a layer, all of it a hole."""
    write_model(folder, tiny_tensors(0))
    tensors = {f"model.layers.{i}.mlp.up_proj.weight": ("BF16", [16384, 16384])
               for i in range(layers)}  # fmt: skip
    tensors["model.embed_tokens.weight"] = ("BF16", [14, 16])
    write_header_only(folder / "model.safetensors", tensors)
    edit_config(folder, num_hidden_layers=layers)


def test_models_of_the_hub_are_not_downloaded(tmp_path: Path) -> None:
    for name, layers in (("one", 8), ("two", 8), ("deep", 9)):
        write_large(tmp_path / name, layers)
    with fake_hub(
        one=HubModel(tmp_path / "one", card={"license": "mit", "base_model": "acme/zero"}),
        two=HubModel(tmp_path / "two", card={"license": "mit", "base_model": "acme/zero"}),
        deep=HubModel(tmp_path / "deep"),
    ) as hub:
        home = tmp_path / "home"

        def ask(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
            clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
            settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "COLUMNS": "120", **env}
            return subprocess.run(
                [sys.executable, "-m", "miscible", "doctor", *arguments], capture_output=True,
                text=True, env={**clean, **settings}, check=False, timeout=120,
            )  # fmt: skip

        good = ask("acme/one", "acme/two", HF_TOKEN="hf_secretsecret")
        assert good.returncode == 0, good.stdout + good.stderr
        assert "all state the same base, acme/zero" in good.stdout
        assert "Needs 8.6 GB to download, 4.3 GB of disk" in good.stdout
        assert "secret" not in good.stdout + good.stderr
        assert hub.sent(".safetensors") < 10_000, "headers alone"
        assert not list(home.rglob("*.safetensors"))
        bad = ask("acme/one", "acme/deep", "acme/none", "--format", "json")
        assert bad.returncode == 1
        found = {(f["severity"], f["check"]) for f in json.loads(bad.stdout)["findings"]}
        assert {("error", "tensors"), ("error", "config"), ("error", "access")} <= found
        offline = ask("acme/one", "acme/two", HF_HUB_OFFLINE="1")
        assert offline.returncode == 2
        assert "HF_HUB_OFFLINE" in offline.stderr
        assert offline.stderr.count("\n") == 1
        hub.answers["/api/models/acme/one"] = lambda handler: handler.reply(b"<html>", "text/html")
        portal = ask("acme/one", "acme/two")
        assert (portal.returncode, "HF_ENDPOINT" in portal.stderr) == (2, True)
