"""The rules by which tables become pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscible.errors import MiscibleError, UnknownNameError
from miscible.predict.tables import RATIO, read_tables

METRICS = """pair,task_a,task_b,cosine,angle
b__a,b,a,0.5,10
a__c,a,c,0.25,30
b__c,b,c,0.125,20
"""
OUTCOMES = """pair,task_a,task_b,method,acc_a,acc_b,norm_acc_a,norm_acc_b,error
a__b,a,b,ties,0.8,0.6,0.9,0.7,
c__a,c,a,ties,0.5,0.7,0.6,0.8,
c__b,c,b,ties,,,,,out of memory
a__b,a,b,dare,0.4,0.2,0.5,0.3,
"""
MODELS = "task,zero_shot,finetuned\na,0.4,0.8\nb,0.3,0.6\nc,0.2,0.5\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    held = {"metrics": METRICS, "outcomes": OUTCOMES, "models": MODELS}
    paths = {name: tmp_path / f"{name}.csv" for name in held}
    for name, text in held.items():
        paths[name].write_text(text)
    return paths


def test_directed_scores_follow_the_pair(files: dict[str, Path]) -> None:
    table = read_tables(files["metrics"], files["outcomes"])
    assert table.pairs.names() == [("a", "b"), ("a", "c"), ("b", "c")]
    assert table.pairs.metrics[:, 0].tolist() == [0.5, 0.25, 0.125]
    ties = table.examples("ties", "raw")
    assert ties.pairs.names() == [("a", "b"), ("a", "c")]
    assert ties.directed.tolist() == [[0.8, 0.6], [0.7, 0.5]]
    assert np.allclose(table.examples("ties").mean, [0.8, 0.7])
    assert table.counts == {"merges that failed (no outcome)": 1}


def test_scores_are_normalised_by_the_models(files: dict[str, Path]) -> None:
    plain = "\n".join(
        ",".join(cell for n, cell in enumerate(line.split(",")) if n not in (6, 7))
        for line in OUTCOMES.splitlines()
    )
    files["outcomes"].write_text(plain)
    with pytest.raises(MiscibleError, match="normalised score"):
        read_tables(files["metrics"], files["outcomes"]).examples("ties")
    table = read_tables(files["metrics"], files["outcomes"], files["models"])
    assert np.allclose(table.examples("ties").directed, [[1.0, 1.0], [0.7 / 0.8, 1.0]])
    assert table.counts["outcomes normalised by the column finetuned"] == 3
    at = table.pairs.scalar_names.index("zero_shot")
    assert table.pairs.scalars[:, at].tolist() == [0.4, 0.3, 0.2]


def test_the_ratio_of_scores_is_a_scalar(files: dict[str, Path]) -> None:
    pairs = read_tables(files["metrics"], None, files["models"]).pairs
    assert np.allclose(pairs.scalars[:, pairs.scalar_names.index(RATIO)], [0.5, 0.5, 0.4])


def test_repeats_are_dropped_and_contradictions_named(files: dict[str, Path]) -> None:
    files["outcomes"].write_text(OUTCOMES + "b__a,b,a,ties,0.6,0.8,0.7,0.9,\n")
    table = read_tables(files["metrics"], files["outcomes"])
    assert table.counts["repeated rows of outcomes (dropped)"] == 1
    files["outcomes"].write_text(OUTCOMES + "b__a,b,a,ties,0.6,0.9,0.7,0.9,\n")
    with pytest.raises(MiscibleError, match=r"line 6: .*line 2\."):
        read_tables(files["metrics"], files["outcomes"])
    files["metrics"].write_text(METRICS + "a__b,a,b,0.5,11\n")
    with pytest.raises(MiscibleError, match=r"line 5: .*line 2\."):
        read_tables(files["metrics"])


def test_a_merge_that_went_well_the_second_time_counts(files: dict[str, Path]) -> None:
    files["outcomes"].write_text(OUTCOMES + "b__c,b,c,ties,0.1,0.2,0.3,0.4,\n")
    table = read_tables(files["metrics"], files["outcomes"])
    assert table.examples("ties").directed[2].tolist() == [0.3, 0.4]


def test_columns_that_say_nothing_are_counted(files: dict[str, Path]) -> None:
    lines = METRICS.splitlines()
    more = [lines[0] + ",one,twin,empty,words", *(
        f"{line},1,{line.split(',')[3]},,good" for line in lines[1:]
    )]  # fmt: skip
    files["metrics"].write_text("\n".join(more))
    table = read_tables(files["metrics"])
    assert table.pairs.metric_names == ("cosine", "angle")
    assert table.counts == {
        "text columns of the metrics (not used)": 1,
        "metrics that are the same everywhere (not used)": 1,
        "metrics that repeat an earlier one cell by cell (not used)": 1,
        "metrics without any value (not used)": 1,
    }


def test_missing_cells_are_kept_or_left_out(files: dict[str, Path]) -> None:
    files["metrics"].write_text(METRICS.replace("0.25", ""))
    table = read_tables(files["metrics"])
    assert np.isnan(table.pairs.metrics[1, 0]) and len(table.pairs) == 3
    assert table.counts["missing cells of metrics (taken for the training mean)"] == 1
    whole = read_tables(files["metrics"], complete=True)
    assert whole.pairs.names() == [("a", "b"), ("b", "c")]


def test_metrics_in_both_directions_do_not_depend_on_the_order(tmp_path: Path) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("task_a,task_b,loss_a,loss_b\na,b,1,3\na,c,2,5\n")
    other.write_text("task_a,task_b,loss_a,loss_b\nb,a,3,1\nc,a,5,2\n")
    first, second = read_tables(one).pairs, read_tables(other).pairs
    assert first.metric_names == ("loss_mean", "loss_gap")
    assert np.array_equal(first.metrics, second.metrics)


def test_a_measurement_is_a_table(tmp_path: Path) -> None:
    value = {"value": 0.5, "status": "ok", "coverage": 1.0}
    none = {"value": None, "status": "undefined", "coverage": 0.0}
    held = {
        "base": "base", "metrics": ["cosine", "loss"], "models": [],
        "pairs": [
            {"a": "b", "b": "a", "metrics": {"cosine": value, "loss": value},
             "reverse": {"loss": {"value": 1.0}}},
            {"a": "a", "b": "c", "metrics": {"cosine": {"value": 0.1}, "loss": none},
             "reverse": {"loss": none}},
        ],
    }  # fmt: skip
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(held))
    pairs = read_tables(path).pairs
    assert pairs.metric_names == ("cosine", "loss_mean", "loss_gap")
    assert pairs.metrics[0].tolist() == [0.5, 0.75, 0.5]
    assert np.isnan(pairs.metrics[1, 1:]).all()


def test_parquet_is_read_as_csv_is(files: dict[str, Path], tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "metrics.parquet"
    pd.read_csv(files["metrics"]).to_parquet(path)
    one, other = read_tables(files["metrics"]).pairs, read_tables(path).pairs
    assert one.metric_names == other.metric_names
    assert np.array_equal(one.metrics, other.metrics)


def test_names_are_suggested(files: dict[str, Path]) -> None:
    table = read_tables(files["metrics"], files["outcomes"])
    with pytest.raises(UnknownNameError, match="Did you mean 'ties'"):
        table.examples("tie")
    with pytest.raises(MiscibleError, match="Did you mean 'cosine'"):
        read_tables(files["metrics"], drop=["cosin"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows"),
        ("task_a,task_b,x\n", "no rows"),
        ("task_a,task_b,x\na,b\n", "line 2.* 2 cells"),
        ("task_a,task_b,x,x\na,b,1,2\n", "two columns"),
        ("task_a,task_b,x\na,b,1\na,c,one\n", "line 3.*no number"),
        ("task_a,task_b,x\na,a,1\n", "with itself"),
        ("task_a,task_b,x\na,,1\n", "two models"),
        ("left,right,x\na,b,1\n", "task_a and task_b"),
        ("task_a,task_b\na,b\n", "no column of numbers"),
        ('task_a,task_b,x\n"a,b,1\n', "valid CSV"),
        ("task_a;task_b;x\na;b;0,5\n", "'0,5', which is no number. Write a decimal point"),
        ("task_a,task_b,method\na,b,ties\na,b,dare\n", "no column of numbers"),
        ("task_a,task_b,method,x\na,b,ties,1\na,b,dare,2\n", "Is it a table of outcomes"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(MiscibleError, match=says):
        read_tables(path)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_semicolons_tabs_and_a_byte_order_mark_are_read(files: dict[str, Path], mark: str) -> None:
    plain = read_tables(files["metrics"], files["outcomes"])
    for path in files.values():
        path.write_text("\ufeff" + path.read_text().replace(",", mark), encoding="utf-8")
    found = read_tables(files["metrics"], files["outcomes"], files["models"])
    assert np.array_equal(found.pairs.metrics, plain.pairs.metrics)
    assert np.array_equal(found.examples("ties").mean, plain.examples("ties").mean)


def test_overflown_numbers_are_missing_cells(files: dict[str, Path]) -> None:
    files["metrics"].write_text(METRICS.replace("0.25", "1e39").replace("0.125", "-inf"))
    table = read_tables(files["metrics"])
    assert table.counts["missing cells of metrics (taken for the training mean)"] == 2


def test_why_no_merge_has_a_score_is_said(files: dict[str, Path]) -> None:
    files["outcomes"].write_text(OUTCOMES.replace("a__b,a,b,dare", "a__b,a,B,dare"))
    with pytest.raises(MiscibleError, match=r"\(not used\): 1\. Merge .* alike in both tables"):
        read_tables(files["metrics"], files["outcomes"]).examples("dare")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='ab,1.\n" _', max_size=60), st.booleans())
def test_any_text_is_a_table_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, headed: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "any.csv"
    path.write_text(("task_a,task_b,x\n" if headed else "") + text)
    try:
        pairs = read_tables(path).pairs
    except MiscibleError:
        return
    assert len(pairs) >= 1 and (pairs.first < pairs.second).all()
