"""Ridge regression of all penalties at once against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from miscible.probe.fit.linear import PENALTIES
from miscible.probe.fit.ridge import solve_ridge
from miscible.probe.fit.standardise import standardised


def both_of(features: np.ndarray, layer: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    train, others = np.arange(rows), np.arange(rows, len(features))
    width = features.shape[2]
    into = tuple(torch.empty(len(part), width, dtype=torch.float64) for part in (train, others))
    standardised(features, layer, train, others, into)
    return into


@pytest.mark.parametrize(("rows", "width"), [(60, 15), (40, 90), (30, 30)])
def test_every_penalty_and_column_equals_scikit_learn(rows: int, width: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows + 10, 2, width), loc=3).astype(np.float32)
    values = np.stack([features[:, 0, :3].sum(axis=1) + rng.normal(size=rows + 10)] * 2)
    values[1] = 100 * rng.normal(size=rows + 10)
    for layer in range(2):
        fitted, others = both_of(features, layer, rows)
        slopes, intercept = solve_ridge(
            fitted, torch.from_numpy(values[:, :rows]), torch.tensor(PENALTIES).double()
        )
        found = (slopes @ torch.cat([fitted, others]).mT + intercept).numpy()
        wide = features[:, layer].astype(np.float64)
        wide = (wide - wide[:rows].mean(axis=0)) / wide[:rows].std(axis=0)
        for number, penalty in enumerate(PENALTIES):
            model = Ridge(alpha=penalty * width, solver="svd").fit(wide[:rows], values[:, :rows].T)
            expected = model.predict(wide).T
            np.testing.assert_allclose(found[number], expected, atol=1e-6 * np.abs(expected).max())


def test_penalties_far_below_the_spectrum_are_solved_in_float64() -> None:
    rng = np.random.default_rng(1)
    features = (rng.normal(size=(50, 20)) * np.logspace(0, -3, 20)).astype(np.float32)
    features[:, 1] = features[:, 0] + 1e-4 * features[:, 1]
    rows, _ = both_of(features[:, None], 0, 50)
    values = torch.from_numpy(rng.normal(size=(1, 50)))
    slopes, _ = solve_ridge(rows, values, torch.tensor([1e-10, 1e-12]).double())
    for found, penalty in zip(slopes[:, 0], (1e-10, 1e-12), strict=True):
        whole = torch.cat([rows, penalty**0.5 * torch.eye(20)])
        right = torch.cat([values[0] - values.mean(), torch.zeros(20).double()])
        expected = torch.linalg.lstsq(whole, right).solution
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
