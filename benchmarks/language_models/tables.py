"""Small tables out of a work folder: models, outcomes, items, and how they were made.

python benchmarks/language_models/tables.py ADAPTERS_FOLDER WORK_FOLDER RESULTS_FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from merges import BASE, METHODS, pairs
from tasks import TASKS

LOGPROB = "likelihood"
BITS = "answer_bits_per_byte"
KEYS = ["model", "task", "dtype"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("adapters", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    results = arguments.results
    results.mkdir(parents=True, exist_ok=True)
    rows = read(arguments.work)
    rows = rows[rows["dtype"] == arguments.dtype]
    items = per_item(rows)
    models = model_table(items)
    outcomes = outcome_table(items, models)
    larger = larger_table(items, models)
    tables = {
        "models": models, "training": training_table(items, arguments.adapters),
        "children": cross_table(items), "outcomes": outcomes,
        "outcomes-gain": gain_table(outcomes, models),
    }  # fmt: skip
    if len(larger):
        tables["three-way"] = larger
    for name, table in tables.items():
        table.to_csv(results / f"{name}.csv", index=False, float_format="%.6g")
    items.to_parquet(results / "items.parquet", index=False, compression="zstd")
    (results / "runs.json").write_text(json.dumps(runs(rows, arguments.adapters), indent=1) + "\n")
    missing = outcomes["error"].str.len().gt(0).sum()
    print(f"{len(outcomes)} outcomes, {missing} without numbers, {len(larger)} of more models")


def read(work: Path) -> pd.DataFrame:
    """Return all rows of items and scores that are stored."""
    pattern = str(work / "scores" / "*" / "steps" / "*.parquet").replace("'", "''")
    query = f"SELECT *, substr(dataset, 4) AS task FROM read_parquet('{pattern}')"
    return duckdb.sql(query).df()


def per_item(rows: pd.DataFrame) -> pd.DataFrame:
    """Return likelihood and bits per byte of each model, task and item."""
    held = rows[(rows["kind"] == "item") & rows["metric"].isin([LOGPROB, BITS])]
    # The same weights may have been scored twice, by two parts of a run: with equal results.
    held = held.drop_duplicates(["model", "task", "item", "metric"])
    wide = held.pivot(index=["model", "task", "item"], columns="metric", values="value")
    found = wide.reset_index().rename_axis(columns=None)
    return found.astype({LOGPROB: np.float32, BITS: np.float32})


def model_table(items: pd.DataFrame) -> pd.DataFrame:
    """Return the base's and the child's score on each task: all that a predictor may know."""
    means = items.groupby(["model", "task"])[LOGPROB].mean()
    rows = [(task, means.loc[(BASE, task)], means.loc[(task, task)]) for task in TASKS]
    return pd.DataFrame(rows, columns=["task", "zero_shot", "finetuned"])


def training_table(items: pd.DataFrame, adapters: Path) -> pd.DataFrame:
    """Return how the children were trained, and their scores in bits per byte."""
    bits = items.groupby(["model", "task"])[BITS].mean()
    rows = []
    for task, record in records(adapters).items():
        settings, loss = record["settings"], record["held_out_nats_per_token"]
        rows.append(
            {
                "task": task, "tokens": record["tokens"], "steps": record["steps"],
                "learning_rate": settings["learning_rate"], "rank": settings["rank"],
                "seed": settings["seed"], "seconds": record["seconds"],
                "held_out_nats_before": loss["before"], "held_out_nats_after": loss["after"],
                "items": int((items["model"].eq(BASE) & items["task"].eq(task)).sum()),
                "base_bits_per_byte": bits.loc[(BASE, task)],
                "child_bits_per_byte": bits.loc[(task, task)],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def records(adapters: Path) -> dict[str, dict[str, Any]]:
    """Return the training records by task."""
    return {task: json.loads((adapters / task / "training.json").read_text()) for task in TASKS}


def cross_table(items: pd.DataFrame) -> pd.DataFrame:
    """Return the score of base and children (rows) on every task (columns), as far as known."""
    means = items.groupby(["model", "task"])[LOGPROB].mean().unstack("task")
    return means.reindex(index=[BASE, *TASKS], columns=list(TASKS)).reset_index()


def outcome_table(items: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return one row a pair and method; a merge that was not scored says so in ``error``."""
    scores = items.groupby(["model", "task"])[LOGPROB].mean().to_dict()
    best = models.set_index("task")["finetuned"].to_dict()
    rows = []
    for method in METHODS:
        if not any(name.startswith(f"{method}:") for name, _ in scores):
            continue
        for a, b in pairs():
            merge = f"{method}:{a}__{b}"
            one, two = (scores.get((merge, task), np.nan) for task in (a, b))
            norm = one / best[a], two / best[b]
            rows.append(
                {
                    "pair": f"{a}__{b}", "task_a": a, "task_b": b, "method": method,
                    "acc_a": one, "norm_acc_a": norm[0], "acc_b": two, "norm_acc_b": norm[1],
                    "acc_mean": (one + two) / 2, "norm_acc_mean": sum(norm) / 2,
                    "error": "" if np.isfinite(one + two) else "not scored",
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def gain_table(outcomes: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return *outcomes* with the share of the child's gain that is kept as normalised score.

    0 is the base and 1 the child. The quotient of scores that is usual depends on how far the base
    already was; this one does not.
    """
    low, high = (models.set_index("task")[name] for name in ("zero_shot", "finetuned"))
    found = outcomes.copy()
    for side in "ab":
        task = found[f"task_{side}"]
        gain = task.map(high) - task.map(low)
        found[f"norm_acc_{side}"] = (found[f"acc_{side}"] - task.map(low)) / gain
    found["norm_acc_mean"] = (found["norm_acc_a"] + found["norm_acc_b"]) / 2
    return found


def larger_table(items: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return one row a merge of more than two models and task."""
    best = models.set_index("task")["finetuned"].to_dict()
    means = items.groupby(["model", "task"])[LOGPROB].mean()
    rows = [
        {
            "models": name.split(":")[1], "method": name.split(":")[0], "task": task,
            "acc": value, "norm_acc": value / best[task],
        }
        for (name, task), value in means.items()
        if name.count("__") > 1
    ]  # fmt: skip
    return pd.DataFrame(rows)


def runs(rows: pd.DataFrame, adapters: Path) -> dict[str, object]:
    """Return what the tables depend on, and what they cost."""
    scores = rows[(rows["kind"] == "score") & rows["metric"].eq(LOGPROB)]
    trained = records(adapters)
    for record in trained.values():
        losses = record.pop("train_loss")
        record["train_loss"] = {"first": losses[0], "last": losses[-1]}
    return {
        "base": "demo:smollm2-135m-instruct",
        "code": sorted(set(scores["code"])),
        "libraries": sorted(set(scores["libraries"])),
        "dtype": sorted(set(scores["dtype"])),
        "scores": len(scores),
        "scoring_seconds": round(float(scores["wall_seconds"].sum())),
        "methods": {name: list(held) for name, held in METHODS.items()},
        "training": trained,
    }


if __name__ == "__main__":
    main()
