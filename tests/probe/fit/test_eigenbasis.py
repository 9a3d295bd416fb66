"""Standardised rows and their rotation, in both precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miscible.probe.fit.eigenbasis import eigenbasis, standardised

PRECISIONS = pytest.mark.parametrize("precision", [torch.float32, torch.float64])


@PRECISIONS
@pytest.mark.parametrize("power", [-70, 90])
def test_squares_that_float32_does_not_hold(precision: torch.dtype, power: int) -> None:
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    far = features * np.float32(2.0) ** np.float32(power)
    for near, away in zip(
        standardised(features[:30], features[30:], precision),
        standardised(far[:30], far[30:], precision),
        strict=True,
    ):
        assert away.dtype == precision
        torch.testing.assert_close(away, near, atol=1e-6, rtol=1e-6)


@PRECISIONS
@pytest.mark.parametrize("width", [20, 90])
def test_inner_products_are_those_of_standardised_rows(precision: torch.dtype, width: int) -> None:
    features = np.random.default_rng(1).normal(size=(60, 2, width)).astype(np.float32)
    basis = eigenbasis(features, np.arange(50), np.arange(50, 60), precision)
    for layer in range(2):
        rows, others = standardised(features[:50, layer], features[50:, layer], torch.float64)
        found = basis.training[layer].double()
        torch.testing.assert_close(found @ found.mT, rows @ rows.mT, atol=2e-5, rtol=0)
        across = basis.others[layer].double() @ found.mT
        torch.testing.assert_close(across, others @ rows.mT, atol=2e-5, rtol=0)
        torch.testing.assert_close(
            found.square().sum(dim=0), basis.spectrum[layer], atol=1e-4, rtol=1e-4
        )
        weights = torch.linspace(-1, 1, 3 * found.shape[1]).double().view(3, -1)
        scores, _ = basis.exact[layer].scores(weights)
        torch.testing.assert_close(scores, weights @ found.mT, atol=1e-4, rtol=1e-4)
