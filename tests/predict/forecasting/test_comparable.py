"""Whether a new measurement can be compared with that of the training pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miscible.measure.api import measure
from miscible.measure.calibrate import Calibration
from miscible.measure.calibration import CalibrationText
from miscible.predict.forecasting.comparable import Comparability, compare, measured_how
from predict.merged_tables import write_tables
from tiny import WORDS, tiny_tensors, write_model

COSINE, OVERLAP, RANK = (
    "task_vector_cosine_similarity", "subspace_overlap", "layerwise_effective_rank",
)  # fmt: skip
STATES = "activation_cosine_similarity"
TEXT = CalibrationText("sentences", tuple(" ".join([*WORDS[n:], *WORDS[:n]]) for n in range(9)) * 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Full fine-tunes, and two of the query projections alone."""
    folder, base = tmp_path_factory.mktemp("models"), tiny_tensors(0)
    found = {"base": write_model(folder / "base", base)}
    for seed, name in enumerate(("one", "two", "three", "queries", "query"), 1):
        own = tiny_tensors(seed)
        part = "q_proj" if name.startswith("quer") else ""
        changed = {n: t + 0.05 * own[n] if part in n else t for n, t in base.items()}
        found[name] = write_model(folder / name, changed)
    return found


def run(models: dict[str, Path], *names: str, **how: Any) -> dict[str, Any]:
    asked = {"metrics": [COSINE, OVERLAP, RANK], "cache": False} | how
    given = {name: str(models[name]) for name in names}
    return measure(str(models["base"]), given, **asked).as_dict()


def ran(models: dict[str, Path], **how: Any) -> dict[str, Any]:
    asked = {"data": TEXT, "length": 8, "samples": 8} | how
    return run(models, "one", "two", metrics=[COSINE, STATES], calibration=Calibration(**asked))


def against(then: dict[str, Any], now: dict[str, Any]) -> Comparability:
    return compare(json.loads(json.dumps(measured_how(then))), now)


def test_the_same_way_leaves_no_doubt(models: dict[str, Path]) -> None:
    assert against(run(models, "one", "two"), run(models, "two", "three")) == Comparability()
    assert against(ran(models), ran(models)) == Comparability()


def test_a_metric_that_covers_another_part_of_the_base_is_told_by_pair(
    models: dict[str, Path],
) -> None:
    found = against(run(models, "one", "two"), run(models, "one", "two", "queries", "query"))
    assert not found.otherwise and not found.doubts("two", "one")
    assert set(found.doubts("query", "queries")) == {OVERLAP, RANK}
    assert found.doubts("one", "query")[RANK] == (
        "it covers 11% of the base's parameters, in training 100%."
    )


def test_other_data_layers_and_counts_concern_the_metrics_that_read_them(
    models: dict[str, Path],
) -> None:
    then = ran(models)
    other = against(then, ran(models, samples=6)).otherwise
    assert COSINE not in other
    assert (
        "sentences with 6 samples, 48 tokens, seed 0; in training sentences with 8" in other[STATES]
    )
    layer = against(then, ran(models, layer=0)).otherwise
    assert layer[STATES] == "states are those of layer 0, in training -1."
    assert "encoder_gradient_dot_product" not in layer
    compat = against(run(models, "one", "two"), run(models, "one", "two", compat=True)).otherwise
    assert OVERLAP in compat and COSINE not in compat


def test_cutting_the_same_data_into_folds_makes_no_difference(models: dict[str, Path]) -> None:
    one, four = ran(models), ran(models, folds=4)
    assert against(one, four) == Comparability()
    value, again = (held["pairs"][0]["metrics"][STATES]["value"] for held in (one, four))
    assert value == pytest.approx(again, rel=1e-5)


def test_a_changed_definition_is_no_match(models: dict[str, Path]) -> None:
    then = run(models, "one", "two")
    then["definitions"][RANK] = 0
    found = against(then, run(models, "one", "two"))
    assert found.otherwise == {RANK: "its definition is version 1, in training 0."}


def test_other_bases_and_numerics_and_silent_tables_are_notes(
    models: dict[str, Path], tmp_path: Path
) -> None:
    then = run(models, "one", "two")
    moved = {**then, "base": "org/other"}
    assert against(then, moved).notes == (
        f"the models' base is org/other, in training {models['base']}.",
    )
    small = against(then, {**then, "parameters": 100})
    assert small.notes[0].startswith("the models' base has 100 parameters, in training")
    coarse = against(ran(models), ran(models, dtype="bfloat16"))
    assert coarse.notes == ("models were run in bfloat16, in training in float32.",)
    table, _ = write_tables(tmp_path)
    assert "do not say" in compare({}, then).notes[0]
    assert "does not say" in compare(measured_how(then), table).notes[0]
