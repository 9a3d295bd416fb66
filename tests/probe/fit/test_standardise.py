"""Standardised rows, whatever the size of the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miscible.probe.fit.standardise import standardised


def both_of(features: np.ndarray, precision: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    train, others = np.arange(30), np.arange(30, 40)
    into = (torch.empty(30, 6, dtype=precision), torch.empty(10, 6, dtype=precision))
    standardised(features, 1, train, others, into)
    return into


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [-70, 90])
def test_squares_that_float32_does_not_hold(precision: torch.dtype, power: int) -> None:
    features = np.random.default_rng(0).normal(size=(40, 2, 6)).astype(np.float32)
    far = features * np.float32(2.0) ** np.float32(power)
    for near, away in zip(both_of(features, precision), both_of(far, precision), strict=True):
        torch.testing.assert_close(away, near, atol=1e-6, rtol=1e-6)


def test_rows_are_those_of_numpy_and_constants_are_nothing() -> None:
    rng = np.random.default_rng(1)
    features = (rng.normal(size=(40, 2, 6)) * rng.uniform(0.1, 10, size=6) + 3).astype(np.float32)
    features[:30, 1, 4] = 0.1
    rows, others = both_of(features, torch.float64)
    wide = features[:, 1].astype(np.float64)
    deviation = wide[:30].std(axis=0)
    deviation[4] = np.inf
    expected = (wide - wide[:30].mean(axis=0)) / deviation / 6**0.5
    np.testing.assert_allclose(torch.cat([rows, others]).numpy(), expected, atol=1e-12)
    assert (rows[:, 4] == 0).all() and (others[:, 4] == 0).all()
