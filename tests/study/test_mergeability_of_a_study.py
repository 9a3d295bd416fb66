"""A study measures its parents before any merge: one step, and a section of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from miscible.analyse import Resampling, analyse
from miscible.errors import DatasetError, SpecError, UnknownNameError
from miscible.measure.api import measure
from miscible.report.page import render
from miscible.study import Study
from study.small import open_small_study, write_small_study

METRICS = {"names": ["task_vector", "activation", "loss"], "samples": 4, "length": 8}
ALONE = {"merges": [], "metrics": METRICS}


def test_the_parents_are_measured_once(tmp_path: Path) -> None:
    study = open_small_study(tmp_path, **ALONE)
    (step,) = [step for step in study.plan.steps if step.kind == "mergeability"]
    assert (step.model, str(step)) == ("base", "base · mergeability · parents")
    assert not study.run().failed
    rows = study.rows("mergeability")
    wanted = measure(
        str(tmp_path / "base"), {name: str(tmp_path / name) for name in ("one", "two")},
        metrics="task_vector", cache=False,
    ).pairs[0]  # fmt: skip
    whole = rows[(rows["scope"] == "") & (rows["second"] == "two")].set_index("metric")
    for name, value in wanted.metrics.items():
        assert whole.loc[name, "value"] == pytest.approx(value.value)
    assert whole.loc["loss_barrier", "status"] == "ok"
    assert {"model.layers.0", "model.layers.1"} < set(rows["scope"])
    assert study.run().done == 0
    tables = study.tables()
    html = render(tables, analyse(tables, Resampling(resamples=50, flips=99)))
    assert 'id="mergeability"' in html and "metric-pair" in html


def test_the_key_follows_what_is_asked_and_the_text(tmp_path: Path) -> None:
    def key(**changes: object) -> str:
        path = write_small_study(tmp_path, **{**ALONE, **changes})
        steps = Study.open(path).plan.steps
        return next(step.key for step in steps if step.kind == "mergeability")

    (tmp_path / "text.txt").write_text("the cat sees .")
    first = key(metrics={**METRICS, "calibration": "text.txt"})
    assert first == key(metrics={**METRICS, "calibration": "text.txt"})
    (tmp_path / "text.txt").write_text("the dog sees .")
    second = key(metrics={**METRICS, "calibration": "text.txt"})
    assert len({first, second, key(), key(metrics="all"), key(seed=1)}) == 5


def test_bad_requests_are_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'task_vector'"):
        _ = open_small_study(tmp_path, merges=[], metrics=["task_vectr"]).plan
    with pytest.raises(SpecError, match="only one"):
        open_small_study(tmp_path, merges=[], metrics="all", parents={"one": "one"})
    with pytest.raises((DatasetError, OSError), match=r"no\.txt"):
        _ = open_small_study(tmp_path, merges=[], metrics={"calibration": "no.txt"}).plan


def test_results_of_before_there_were_such_rows_are_read(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    study = open_small_study(tmp_path, merges=[])
    study.run()
    for path in study.store.steps.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["scope", "status", "first", "second"]), path)
    assert len(study.rows("score")) and study.rows("mergeability").empty
