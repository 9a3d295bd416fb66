"""A model is its weights, its config and its tokenizer; a study tells them apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from miscible.errors import MiscibleError, SpecError
from miscible.models import LiveModel, open_checkpoint
from miscible.study import Study
from study.small import open_small_study, write_small_study


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def keys(path: Path) -> dict[str, str]:
    return {str(step): step.key for step in Study.open(path).plan.steps}


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"rms_norm_eps": 0.1}),
        ("config.json", {"rope_theta": 1e6}),
        ("tokenizer_config.json", {"bos_token": "</s>"}),
    ],
)
def test_keys_depend_on_config_and_tokenizer(
    tmp_path: Path, file: str, change: dict[str, Any]
) -> None:
    path = write_small_study(tmp_path)
    before = keys(path)
    change_json(tmp_path / "one" / file, **change)
    changed = {step for step, key in keys(path).items() if before[step] != key}
    assert {step for step in before if step.startswith("one")} <= changed
    assert not {step for step in changed if step.startswith(("base", "two"))}


def test_keys_do_not_depend_on_what_computes_nothing(tmp_path: Path) -> None:
    path = write_small_study(tmp_path)
    before = keys(path)
    change_json(tmp_path / "one" / "config.json", transformers_version="0", use_cache=False)
    assert keys(path) == before


def test_a_parent_with_another_config_is_measured_under_its_own(tmp_path: Path) -> None:
    path = write_small_study(tmp_path)
    change_json(tmp_path / "one" / "config.json", rms_norm_eps=0.5)
    study = Study.open(path)
    assert any("rms_norm_eps" in warning for warning in study.plan.warnings)
    assert not study.run().failed
    margins = study.rows("score").query("metric == 'preference_margin'").set_index("model")
    live = LiveModel.load(open_checkpoint(str(tmp_path / "one")))
    ids = live.tokenizer("the cat sleeps .", return_tensors="pt").input_ids
    alone = live.model(ids).logits
    other = LiveModel.load(open_checkpoint(str(tmp_path / "base")))
    other.swap(open_checkpoint(str(tmp_path / "one")))
    assert not torch.allclose(alone, other.model(ids).logits), "the config must matter here"
    change_json(tmp_path / "base" / "config.json", rms_norm_eps=0.5)
    change_json(tmp_path / "two" / "config.json", rms_norm_eps=0.5)
    same = Study.open(path)
    same.run()
    again = same.rows("score").query("metric == 'preference_margin'").set_index("model")
    assert again.loc["one", "estimate"] == pytest.approx(margins.loc["one", "estimate"], abs=1e-9)
    assert again.loc["base", "estimate"] != pytest.approx(margins.loc["base", "estimate"], abs=1e-9)


def test_a_parent_that_is_the_base_is_told(tmp_path: Path) -> None:
    study = open_small_study(tmp_path, parents={"one": "base", "two": "two"})
    assert any("has the weights of the base" in warning for warning in study.plan.warnings)


def test_paths_are_relative_to_the_study_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_small_study(tmp_path, internals={"datasets": [{"minimal_pairs": "pairs.jsonl"}]})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(Study.open(path).plan.datasets) == 1


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    study = open_small_study(tmp_path, merges=[{"method": "liner", "dose": 0.5}])
    with pytest.raises(MiscibleError):
        study.status()
    good = open_small_study(tmp_path / "good")
    good.status()
    good.cost()
    assert good.rows().empty
    assert not (tmp_path / "small").exists()
    assert not (tmp_path / "good" / "small").exists()


def test_a_limit_for_a_task_that_is_not_asked_for(tmp_path: Path) -> None:
    path = write_small_study(tmp_path, with_task=True)
    spec = yaml.safe_load(path.read_text())
    spec["behaviour"]["limit"] = {"smal_bpb": 3}
    path.write_text(yaml.safe_dump(spec))
    with pytest.raises(SpecError, match="Did you mean 'small_bpb'"):
        Study.open(path)


def test_a_base_that_cannot_be_loaded_ends_the_run(tmp_path: Path) -> None:
    path = write_small_study(tmp_path)
    for name in ("base", "one", "two"):
        change_json(tmp_path / name / "config.json", model_type="unheard_of")
    with pytest.raises(MiscibleError, match="unheard_of"):
        Study.open(path).run()
