"""The published measurements of *Demystifying Mergeability* give its published scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miscible.predict.contract import make
from miscible.predict.interpret.collinearity import collinearity
from miscible.predict.pairs import PairTable, Target
from miscible.predict.pearson import Pearson
from miscible.predict.tables import read_tables
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import leave_one_task_out
from miscible.predict.validation.scores import score_loto

METHODS = ("weight_avg", "arithmetic", "tsv", "ties", "dare")


@pytest.fixture(scope="module")
def table(shared_data: Path) -> PairTable:
    folder = shared_data / "mergeability"
    return read_tables(
        folder / "metrics_ViT-B-16.csv", folder / "performance_ViT-B-16.csv",
        drop=["right_subspace_overlap"], complete=True,
    )  # fmt: skip


def loto(table: PairTable, predictor: object, target: Target, seed: int = 0) -> list[float]:
    found = []
    for method in METHODS:
        examples = table.examples(method, target)
        folds = leave_one_task_out(examples.pairs)
        forecasts = crossvalidate(predictor, examples, folds, seed=seed)  # type: ignore[arg-type]
        found.append(score_loto(folds, [f.mean for f in forecasts], examples.mean).r_mean)
    return found


def test_least_squares(table: PairTable) -> None:
    raw = loto(table, make("ols"), "raw")
    assert np.abs(np.subtract(raw, (0.572, 0.420, 0.646, 0.431, 0.567))).max() < 0.015
    normalised = loto(table, make("ols"), "normalised")
    assert np.abs(np.subtract(normalised, (0.465, 0.432, 0.535, 0.488, 0.458))).max() < 0.015


def test_the_papers_objective(table: PairTable) -> None:
    found = np.mean([loto(table, Pearson(), "raw", seed) for seed in range(3)], axis=0)
    assert np.abs(found - (0.589, 0.445, 0.627, 0.463, 0.596)).max() < 0.05
    assert abs(found.mean() - 0.544) < 0.03


def test_independent_metrics(table: PairTable) -> None:
    found = collinearity(table.pairs)
    assert (found.features, found.rank) == (28, 25)
