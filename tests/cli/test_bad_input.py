"""Whatever is wrong with the input: one clear error, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from study.small import write_small_study
from tiny import WIDTH, WORDS, tiny_tensors, write_adapter, write_model


def damage_nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def damage_truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def damage_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((10**15).to_bytes(8, "little") + path.read_bytes()[8:])


def damage_index(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def damage_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def damage_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(WIDTH + 1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def damage_architecture(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if "layers.1" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def damage_tokenizer(folder: Path) -> None:
    write_model(folder, tiny_tensors(1), words=WORDS[::-1])


def damage_missing(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (damage_nan, "holds NaN or infinity"),
    (damage_truncated, "ends before the data"),
    (damage_header, "claims a header"),
    (damage_index, "outside the model folder"),
    (damage_pickle, "pickled weights"),
    (damage_shape, "has shape"),
    (damage_architecture, "is missing"),
    (damage_tokenizer, "tokenizers differ"),
    (damage_missing, "there is no folder"),
]


def recipe(folder: Path, *models: Path, **keys: object) -> Path:
    sources = [{"model": str(model), "parameters": {"weight": 0.5}} for model in models]
    path = folder / "recipe.yml"
    path.write_text(yaml.safe_dump({"merge_method": "linear", "models": sources, **keys}))
    return path


def assert_refused(outcome: object, message: str) -> None:
    assert getattr(outcome, "code") == 2, outcome  # noqa: B009
    err = " ".join(str(getattr(outcome, "err")).split())  # noqa: B009
    assert message in err, err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("damage", "message"), [case for case in DAMAGES if case[0] is not damage_architecture]
)
def test_merging_a_damaged_model(
    miscible: Callable[..., object],
    tiny_children: list[Path],
    tmp_path: Path,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    one, two = tiny_children
    damage(two)
    before = sorted(tmp_path.iterdir())
    path = recipe(tmp_path, one, two)
    outcome = miscible("merge", path, tmp_path / "out")
    assert_refused(outcome, message)
    assert sorted(tmp_path.iterdir()) == sorted([*before, path]), "something was left behind"


def test_merging_models_of_which_one_lacks_a_layer(
    miscible: Callable[..., object], tiny_children: list[Path], tmp_path: Path
) -> None:
    """Tensors that only some models have are averaged over those that have them."""
    one, two = tiny_children
    damage_architecture(two)
    path = recipe(tmp_path, one, two)
    outcome = miscible("merge", path, tmp_path / "out")
    assert getattr(outcome, "code") == 0, outcome  # noqa: B009
    merged = load_file(tmp_path / "out" / "model.safetensors")
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    left = sorted(name for name in first if "layers.1" in name)
    assert left
    assert merged.keys() == first.keys()
    assert all(merged[name].equal(first[name]) for name in left)
    for name, tensor in second.items():
        assert torch.allclose(merged[name], (first[name] + tensor) / 2, rtol=1e-6, atol=1e-7)
    said = " ".join(str(getattr(outcome, "out")).split())  # noqa: B009
    assert f"Note: {len(left)} tensors are in only some of the models" in said
    assert left[0] in (tmp_path / "out" / "README.md").read_text()


def test_an_adapter_of_another_base(
    miscible: Callable[..., object], tiny_base: Path, tmp_path: Path
) -> None:
    factors = {"model.layers.0.self_attn.q_proj": (torch.ones(2, 99), torch.ones(WIDTH, 2))}
    adapter = write_adapter(tmp_path / "lora", factors, base="acme/other")
    path = recipe(tmp_path, Path(f"{tiny_base}+{adapter}"))
    assert_refused(miscible("merge", path, tmp_path / "out"), "does not fit")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"merge_method": "slurp"}, "Did you mean 'slerp'?"),
        ({"parameters": {"normalise": False}}, "Did you mean 'normalize'?"),
        ({"base_modle": "x"}, "Did you mean 'base_model'?"),
        ({"dtype": "float3"}, "dtype"),
    ],
)
def test_misspelt_recipes(
    miscible: Callable[..., object],
    tiny_children: list[Path],
    tmp_path: Path,
    keys: dict[str, object],
    message: str,
) -> None:
    path = recipe(tmp_path, *tiny_children, **keys)
    assert_refused(miscible("merge", path, tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["a: &a [*a, *a]", "x: !!python/name:os.system", "models: [", "\x00", "- a\n- b"]
)
def test_hostile_files(miscible: Callable[..., object], tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yml").write_text(text)
    assert_refused(miscible("merge", tmp_path / "bad.yml", tmp_path / "out"), "bad.yml")
    assert_refused(miscible("study", "run", tmp_path / "bad.yml"), "bad.yml")


@pytest.mark.parametrize("name", ["[/x].yml", "[red]x.yml"])
def test_brackets_in_a_name_are_shown_as_they_are(
    miscible: Callable[..., object], tmp_path: Path, name: str
) -> None:
    assert_refused(miscible("merge", tmp_path / name, tmp_path / "out"), name)


@pytest.mark.parametrize(
    ("damage", "message"), [case for case in DAMAGES if case[0] is not damage_tokenizer]
)
@pytest.mark.parametrize("verb", ["evaluate", "probe"])
def test_measuring_a_damaged_model(
    miscible: Callable[..., object],
    tiny_base: Path,
    tmp_path: Path,
    verb: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    damage(tiny_base)
    arguments = ["--tasks", "text_bpb"] if verb == "evaluate" else ["--limit", 12]
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "the cat sleeps ."}\n' * 6)
    if verb == "evaluate":
        arguments += ["--data", f"text_bpb={data}"]
    outcome = miscible(verb, tiny_base, *arguments, "--output", tmp_path / "rows.json")
    expected = {"has shape": "has shape", "is missing": "missing"}.get(message, message)
    assert_refused(outcome, expected)
    assert not (tmp_path / "rows.json").exists()


def test_rows_that_cannot_be_written(
    miscible: Callable[..., object], tiny_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    outcome = miscible("probe", tiny_base, "--limit", 12, "--output", tmp_path / "file" / "x.json")
    assert_refused(outcome, "cannot be written")


def test_a_disk_that_fills_up_while_writing(
    miscible: Callable[..., object],
    tiny_children: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = recipe(tmp_path, *tiny_children)
    monkeypatch.setattr("os.fsync", full)
    assert_refused(miscible("merge", path, tmp_path / "out"), "the disk is full")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder(
    miscible: Callable[..., object], tiny_children: list[Path], tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    outcome = miscible("merge", recipe(tmp_path, *tiny_children), closed / "out")
    assert_refused(outcome, "cannot be written")


def test_a_file_where_a_folder_should_be(
    miscible: Callable[..., object], tiny_children: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    path = recipe(tmp_path, *tiny_children)
    assert_refused(miscible("merge", path, tmp_path / "file"), "exists already")
    assert_refused(miscible("merge", path, tmp_path / "file" / "out"), "cannot be written")


def test_a_full_disk(
    miscible: Callable[..., object],
    tiny_children: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    outcome = miscible("merge", recipe(tmp_path, *tiny_children), tmp_path / "out")
    assert_refused(outcome, "the disk has 0.0 GB free")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changes", [{"base": "nowhere"}, {"behaviour": {"tasks": ["arc_eazy"]}}])
def test_wrong_studies(
    miscible: Callable[..., object], tmp_path: Path, changes: dict[str, object]
) -> None:
    path = write_small_study(tmp_path, **changes)  # type: ignore[arg-type]
    assert_refused(miscible("study", "run", path), "nowhere" if "base" in changes else "arc_easy")


SLOW = """
import sys, time
from pathlib import Path
from miscible.models.shard import ShardWriter
real, left = ShardWriter.check_complete, [{tensors}]
def slow(shard, name):
    left[0] -= 1
    if left[0] < 0:
        Path({mark!r}).touch()
        time.sleep(3)
    real(shard, name)
ShardWriter.check_complete = slow
from miscible.cli import main
main()
"""
"""So slow after some tensors that the signal always comes while others are being written."""


def interrupted(
    recipe: Path, out: Path, mark: Path, *, tensors: int, signals: int = 1, shard_size: str = "5GB"
) -> None:
    """Merge, press Ctrl-C after so many tensors, and check what is said."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(tensors=tensors, mark=str(mark)), "merge", recipe, out,
         "--shard-size", shard_size, "--threads", "2"],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not mark.exists():
        time.sleep(0.01)
    assert mark.exists(), "it was never being written"
    assert list(out.parent.glob(f".{out.name}.partial/*.safetensors"))
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in err
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.parametrize("signals", [1, 3])
def test_ctrl_c_leaves_nothing_half_written(
    tiny_children: list[Path], tmp_path: Path, signals: int
) -> None:
    path = recipe(tmp_path, *tiny_children)
    out = tmp_path / "out"
    interrupted(path, out, tmp_path / "mark", tensors=4, signals=signals)
    assert not list(tmp_path.glob(".out*")), "no shard was finished"


def test_ctrl_c_keeps_finished_shards_for_the_next_run(
    miscible: Callable[..., object], tiny_children: list[Path], tmp_path: Path
) -> None:
    path = recipe(tmp_path, *tiny_children)
    out, sharded = tmp_path / "out", ("--shard-size", "2KB")
    interrupted(path, out, tmp_path / "mark", tensors=6, shard_size="2KB")
    (partial,) = tmp_path.glob(".out*")
    finished = {file: file.stat().st_ino for file in sorted(partial.glob("*.safetensors"))[:-1]}
    assert finished
    assert getattr(miscible("merge", path, out, *sharded), "code") == 0  # noqa: B009
    assert {f: (out / f.name).stat().st_ino for f in finished} == finished
    assert not partial.exists()
    whole = tmp_path / "elsewhere" / "out"
    assert getattr(miscible("merge", path, whole, *sharded), "code") == 0  # noqa: B009
    for file in whole.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name
