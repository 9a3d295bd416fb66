"""Ridge regression of all penalties at once against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from miscible.probe.fit.eigenbasis import eigenbasis
from miscible.probe.fit.linear import PENALTIES
from miscible.probe.fit.ridge import solve_ridge


@pytest.mark.parametrize(("rows", "width"), [(60, 15), (40, 90), (30, 30)])
def test_every_penalty_and_column_equals_scikit_learn(rows: int, width: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows + 10, 2, width), loc=3).astype(np.float32)
    values = np.stack([features[:, 0, :3].sum(axis=1) + rng.normal(size=rows + 10)] * 2)
    values[1] = 100 * rng.normal(size=rows + 10)
    basis = eigenbasis(features, np.arange(rows), np.arange(rows, rows + 10))
    weights = solve_ridge(
        basis, torch.from_numpy(values[:, :rows]), torch.tensor(PENALTIES).double()
    )
    found = (weights @ basis.rows[:, None].mT).numpy()
    for layer in range(2):
        wide = features[:, layer].astype(np.float64)
        wide = (wide - wide[:rows].mean(axis=0)) / wide[:rows].std(axis=0)
        for number, penalty in enumerate(PENALTIES):
            model = Ridge(alpha=penalty * width, solver="svd").fit(wide[:rows], values[:, :rows].T)
            expected = model.predict(wide).T
            np.testing.assert_allclose(
                found[layer, number], expected, atol=1e-6 * np.abs(expected).max()
            )
