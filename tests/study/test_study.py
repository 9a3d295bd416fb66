from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file, save_file

from miscible.errors import SpecError, StoreError, UnknownNameError
from miscible.records import Provenance, ScoreRow
from miscible.study import Study
from miscible.study.store import Store
from study.small import open_small_study, write_small_study

TIMES = ["wall_seconds"]


def result(study: Study) -> pd.DataFrame:
    return study.rows().drop(columns=TIMES)


def edit(path: Path, **changes: object) -> Study:
    spec = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**spec, **changes}, sort_keys=False))
    return Study.open(path)


def test_rows_of_a_whole_study(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    summary = study.run()
    assert not summary.failed
    assert summary.done == len(study.plan.steps) == 6 + 3 + 6  # internals, doses, similarities
    scores = study.rows("score")
    assert set(scores["model"]) == {"base", "one", "two", "linear 0.25", "linear 0.75", "ties 0.5"}
    probes = scores[scores["metric"] == "probe_accuracy"]
    assert sorted(probes["layer"].unique()) == [0, 1, 2]
    assert (probes["low"] <= probes["estimate"]).all()
    assert scores["key"].str.len().eq(20).all()
    doses = study.rows("dose").set_index(["model", "parent"])
    assert doses.loc[("linear 0.25", "two"), "coefficient"] == pytest.approx(0.25, abs=1e-4)
    matched = doses["coefficient"].groupby("model").sum()
    assert matched["ties 0.5"] == pytest.approx(1.0, abs=1e-6)


def test_every_model_is_compared_with_base_and_parents(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    study.run()
    rows = study.rows("similarity")
    pairs = set(zip(rows["model"], rows["other"], strict=True))
    models = ("base", "one", "two", "linear 0.25", "linear 0.75", "ties 0.5")
    assert pairs == {(a, a) for a in models} | {
        (a, b) for a in models for b in models[:3] if a != b
    }
    cka = rows[(rows["metric"] == "cka") & (rows["layer"] == rows["other_layer"])]
    near = cka[(cka["model"] == "linear 0.25")].groupby("other")["estimate"].mean()
    assert near["one"] > near["two"]  # three quarters of it are the first parent
    assert set(rows["metric"]) == {
        "cka", "norm_ratio", "cosine", "relative_distance", "effective_rank", "anisotropy",
        "participation_ratio", "lens_kl", "lens_gap",
    }  # fmt: skip


def test_no_comparison_where_none_is_wanted(tmp_path: Path) -> None:
    pairs = {"datasets": [{"minimal_pairs": str(tmp_path / "pairs.jsonl")}], "similarity": 0}
    study = open_small_study(tmp_path, internals=pairs)
    assert study.run().done == 6 + 3
    assert study.rows("similarity").empty


def test_items_make_up_the_scores(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    study.run()
    items = study.rows("item")
    keys = ["model", "dataset", "metric", "layer"]
    product = items["value"] * items["weight"]
    sums = items.assign(product=product).groupby(keys, dropna=False)[["product", "weight"]].sum()
    means = (sums["product"] / sums["weight"]).rename("mean").reset_index()
    joined = study.rows("score").merge(means, on=keys)
    assert len(joined)
    assert (joined["estimate"] - joined["mean"]).abs().max() < 1e-9


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    study.run()
    again = Study.open(tmp_path / "study.yml")
    summary = again.run()
    assert (summary.done, summary.reused) == (0, 15)
    pd.testing.assert_frame_equal(study.rows(), again.rows())


def test_changing_one_merge_recomputes_that_merge_alone(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    study.run()
    changed = edit(
        tmp_path / "study.yml",
        merges=[{"method": "linear", "dose": [0.25, 0.6]}, {"method": "ties", "dose": 0.5}],
    )
    summary = changed.run()
    assert (summary.done, summary.reused) == (3, 12)
    assert "linear 0.75" not in set(changed.rows()["model"])


def test_changing_a_parent_recomputes_it_and_its_merges(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    study.run()
    weights = tmp_path / "one" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] += 0.5
    save_file(tensors, weights, metadata={"format": "pt"})
    summary = Study.open(tmp_path / "study.yml").run()
    # What is measured of the base and the other parent stays; all are compared with the parents.
    assert (summary.done, summary.reused) == (1 + 6 + 6, 2)


def test_renaming_a_parent_recomputes_only_what_names_it(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    study.run()
    renamed = edit(tmp_path / "study.yml", parents={"uno": "one", "two": "two"})
    summary = renamed.run()
    # Doses and similarities name parents; what is matched depends on doses.
    assert summary.done == 3 + 6 + 1
    assert "uno" in set(renamed.rows("score")["model"])


@pytest.mark.parametrize("kills", [2])
def test_killed_at_any_moment_it_goes_on_and_ends_the_same(tmp_path: Path, kills: int) -> None:
    (tmp_path / "whole").mkdir()
    whole = open_small_study(tmp_path / "whole")
    whole.run()
    path = write_small_study(tmp_path)
    steps = tmp_path / "small" / "steps"
    for _ in range(kills):
        before = len(list(steps.glob("*.parquet")))
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from miscible.study import Study; Study.open({str(path)!r}).run()",
            ]
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(steps.glob("*.parquet"))) <= before + 1:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list(steps.glob("*.parquet"))) > before
    finished = {file.name: file.stat().st_mtime_ns for file in steps.glob("*.parquet")}
    study = Study.open(path)
    summary = study.run()
    assert summary.reused == len(finished) >= 2
    after = {file.name: file.stat().st_mtime_ns for file in steps.glob("*.parquet")}
    assert finished.items() <= after.items(), "a finished step was written again"
    pd.testing.assert_frame_equal(result(study), result(whole))


def test_a_broken_model_does_not_lose_the_others(tmp_path: Path) -> None:
    path = write_small_study(tmp_path)
    weights = tmp_path / "two" / "model.safetensors"
    good = load_file(weights)
    bad = {name: tensor.clone() for name, tensor in good.items()}
    bad["model.layers.1.mlp.up_proj.weight"][0, 0] = math.nan
    save_file(bad, weights, metadata={"format": "pt"})
    study = Study.open(path)
    summary = study.run()
    failed = {step.model for step, _ in summary.failed}
    assert {"linear 0.25", "linear 0.75", "ties 0.5"} <= failed
    assert {"base", "one"} <= set(study.rows("score")["model"])
    states = {(s.step.model, s.state) for s in study.status()}
    assert ("base", "finished") in states
    assert ("ties 0.5", "failed") in states
    failures = study.tables().failures
    assert "holds NaN" in " ".join(failures["error"])
    save_file(good, weights, metadata={"format": "pt"})
    assert not Study.open(path).run().failed


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    with study.store.locked(), pytest.raises(StoreError, match="another process"):
        study.run()


def test_views_and_kinds(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    assert study.store.connect().execute("select count(*) from items").fetchone() == (0,)
    assert study.rows().empty
    study.run()
    connection = study.store.connect()
    counts = dict(connection.execute("select kind, count(*) from rows group by kind").fetchall())
    assert counts == study.rows()["kind"].value_counts().to_dict()
    assert connection.execute("select count(*) from doses").fetchone() == (6,)
    with pytest.raises(Exception, match="not a kind of row"):
        study.rows("scores")


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    study.run()
    victim = next(study.store.steps.glob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(StoreError, match="damaged"):
        study.rows()


def test_a_full_disk_leaves_no_half_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    row = ScoreRow("m", "behaviour", "d", "acc", 0.5, 0.4, 0.6, 10)
    origin = Provenance("k" * 20, "f", "0", "torch==0", 0, "float32", "cpu", 1.0)

    def full(*args: object, **kwargs: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with store.locked(), pytest.raises(StoreError, match="disk is full"):
        store.write(origin, [row], {})
    assert not list(store.steps.iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"merges": [{"method": "liner", "dose": 0.5}]}, UnknownNameError, "mean 'linear'"),
        ({"merges": [{"method": "linear", "dose": 1.5}]}, SpecError, "less than or equal to 1"),
        ({"merges": [{"dose": 0.5}]}, SpecError, "either 'method' or 'recipe'"),
        ({"merges": [{"method": "linear"}, {"method": "linear"}]}, SpecError, "called 'linear'"),
        ({"merges": [{"method": "ties", "dose": 0.5, "parameters": {"densty": 1}}]},
         UnknownNameError, "mean 'density'"),
        ({"behavior": {}}, SpecError, "mean 'behaviour'"),
        ({"internals": None}, SpecError, "nothing to measure"),
        ({"parents": {"base": "one", "two": "two"}}, SpecError, "names the base"),
        ({"parents": {"one": "one"}}, SpecError, "needs two parents"),
        ({"dtype": "int4"}, SpecError, "not one of"),
    ],
)  # fmt: skip
def test_wrong_study_files(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_small_study(tmp_path, **changes).plan  # noqa: B018


def test_a_recipe_of_the_users_own(tmp_path: Path) -> None:
    write_small_study(tmp_path)
    recipe = {
        "merge_method": "slerp", "base_model": str(tmp_path / "one"),
        "models": [{"model": str(tmp_path / "one")}, {"model": str(tmp_path / "two")}],
        "parameters": {"t": [0.2, 0.8]},
    }  # fmt: skip
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(recipe))
    study = edit(tmp_path / "study.yml", merges=[{"recipe": "mine.yml"}])
    assert not study.run().failed
    assert "mine" in set(study.rows("score")["model"])
