"""What the tables show, as Markdown: methods, tasks, pairs, and the noise of it all.

    python benchmarks/language_models/summary.py RESULTS_FOLDER

Intervals are of 2,000 resamples of the eight tasks; a pair counts as often as the product of how
often its two tasks were drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

RESAMPLES = 2_000
SEED = 0

Array = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("results", type=Path)
    results = parser.parse_args().results
    models = pd.read_csv(results / "models.csv").set_index("task")
    outcomes = pd.read_csv(results / "outcomes.csv")
    outcomes = outcomes[outcomes["error"].isna()]
    sides = long_table(outcomes, models)
    show("Methods", methods(outcomes, sides, list(models.index)))
    show("Tasks: share of the gain that is kept", by_task(sides))
    show("Pairs: normalised score", by_pair(outcomes))
    show("Agreement of methods: Spearman's rank correlation over pairs", agreement(outcomes))
    items = pd.read_parquet(results / "items.parquet")
    show("Noise of a score against its spread over partners, within a method", noise_table(items))


def long_table(outcomes: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return one row a merge and task: score, normalised score, share of the gain kept."""
    parts = []
    for side, other in (("a", "b"), ("b", "a")):
        part = outcomes[["pair", "method", f"task_{side}", f"task_{other}", f"acc_{side}"]]
        parts.append(part.set_axis(["pair", "method", "task", "partner", "score"], axis=1))
    found = pd.concat(parts, ignore_index=True)
    low, high = (found["task"].map(models[name]) for name in ("zero_shot", "finetuned"))
    return found.assign(
        normalised=found["score"] / high, kept=(found["score"] - low) / (high - low),
        above=found["score"] > high, below_base=found["score"] < low,
    )  # fmt: skip


def methods(outcomes: pd.DataFrame, sides: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    rows = []
    for method, held in outcomes.groupby("method", sort=False):
        own = sides[sides["method"] == method]
        low, high = task_interval(held, tasks)
        rows.append(
            {
                "method": method, "pairs": len(held),
                "normalised": f"{held['norm_acc_mean'].mean():.3f} [{low:.3f}, {high:.3f}]",
                "lowest": held["norm_acc_mean"].min(), "highest": held["norm_acc_mean"].max(),
                "sd over pairs": held["norm_acc_mean"].std(),
                "gain kept (median)": own["kept"].median(),
                "above the child": own["above"].mean(), "below the base": own["below_base"].mean(),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def task_interval(held: pd.DataFrame, tasks: list[str]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over pairs, from a bootstrap of tasks."""
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(len(tasks), [1 / len(tasks)] * len(tasks), size=RESAMPLES)
    place = {task: number for number, task in enumerate(tasks)}
    a, b = (held[f"task_{side}"].map(place).to_numpy() for side in "ab")
    weights: Array = (drawn[:, a] * drawn[:, b]).astype(np.float64)
    weights = weights[weights.sum(axis=1) > 0]
    means = weights @ held["norm_acc_mean"].to_numpy() / weights.sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def by_task(sides: pd.DataFrame) -> pd.DataFrame:
    found = sides.pivot_table(index="task", columns="method", values="kept", sort=False)
    return found.reset_index()


def by_pair(outcomes: pd.DataFrame) -> pd.DataFrame:
    wide = outcomes.pivot(index="pair", columns="method", values="norm_acc_mean")
    wide = wide[list(dict.fromkeys(outcomes["method"]))]
    return wide.assign(mean=wide.mean(axis=1)).sort_values("mean").reset_index()


def agreement(outcomes: pd.DataFrame) -> pd.DataFrame:
    wide = outcomes.pivot(index="pair", columns="method", values="norm_acc_mean")
    found = wide[list(dict.fromkeys(outcomes["method"]))].corr(method="spearman")
    return found.rename_axis(columns=None).reset_index()


def noise_table(items: pd.DataFrame) -> pd.DataFrame:
    """Return, by task, how far scores of one method's merges differ, and how much of it is noise.

    Items are common to all merges, so what counts is the deviation of a merge from the mean of the
    method's merges, item by item: its standard error against the standard deviation of scores.
    """
    merges = items[items["model"].str.count("__") == 1]
    method = merges["model"].str.partition(":")[0]
    rows = []
    for task, held in merges.groupby("task", sort=False):
        spread, noise = [], []
        for _, own in held.groupby(method):
            wide = own.pivot(index="item", columns="model", values="likelihood")
            if wide.shape[1] > 2:
                apart = wide.sub(wide.mean(axis=1), axis=0)
                spread.append(apart.mean().var())
                noise.append((apart.var() / len(wide)).mean())
        reliability = 1 - np.mean(noise) / np.mean(spread)
        rows.append(
            {
                "task": task, "items": held["item"].nunique(),
                "sd over partners": float(np.sqrt(np.mean(spread))),
                "standard error": float(np.sqrt(np.mean(noise))), "reliability": reliability,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n## {title}\n")
    names = [str(name) for name in table.columns]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in table.itertuples(index=False):
        print(f"| {' | '.join(_cell(value) for value in row)} |")


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
