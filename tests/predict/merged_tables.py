"""Tables of metrics, outcomes and models with a known law, for the tests of predicting."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

METRICS = ("alpha", "beta", "noise")


def write_tables(
    folder: Path,
    tasks: int = 9,
    *,
    methods: Sequence[str] = ("ties", "average"),
    noise: float = 0.01,
    unmerged: Sequence[tuple[str, str]] = (),
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write metrics and outcomes of all pairs of *tasks* models m0, m1, ...

    The mean outcome is 0.8 + 0.1 alpha - 0.05 beta, and 0.02 more by the first method.

    Args:
        unmerged: pairs without an outcome.
    """
    rng = np.random.default_rng(seed)
    names = [f"m{number}" for number in range(tasks)]
    measured: list[list[object]] = []
    merged: list[list[object]] = []
    for a, b in combinations(names, 2):
        alpha, beta, nothing = rng.uniform(-1, 1, 3)
        measured.append([a, b, alpha, beta, nothing])
        for place, method in enumerate(methods):
            mean = 0.8 + 0.1 * alpha - 0.05 * beta + 0.02 * (place == 0)
            mean += noise * rng.standard_normal()
            if (a, b) not in unmerged:
                merged.append([a, b, method, mean + 0.03, mean - 0.03, mean + 0.03, mean - 0.03])
    head = ["task_a", "task_b"]
    scores = ["method", "acc_a", "acc_b", "norm_acc_a", "norm_acc_b"]
    return (
        _write(folder / "metrics.csv", [*head, *METRICS], measured),
        _write(folder / "outcomes.csv", [*head, *scores], merged),
    )


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
    return path
