"""Coordinates of rows: their inner products, their derivatives in float64, their rotation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miscible.probe.fit.coordinates import Coordinates, coordinates
from miscible.probe.fit.standardise import standardised

ROWS, OTHERS = np.arange(150), np.arange(150, 170)


def features_of(width: int, repeated: int = 0) -> np.ndarray:
    features = np.random.default_rng(1).normal(size=(170, 2, width)).astype(np.float32)
    features[:repeated] = features[1 : repeated + 1]
    features[..., 3] = 5.0
    return features


def rows_of(features: np.ndarray, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    both = tuple(
        torch.empty(len(part), features.shape[2], dtype=torch.float64) for part in (ROWS, OTHERS)
    )
    standardised(features, layer, ROWS, OTHERS, both)
    return both


def made(features: np.ndarray, classes: int) -> Coordinates:
    return coordinates(features, slice(0, 2), ROWS, OTHERS, classes, 1)


CASES = pytest.mark.parametrize(
    ("width", "classes", "repeated", "directions"),
    [
        (40, 3, 0, 40),
        (40, 60, 0, 40),
        (160, 2, 0, 160),  # shorter rows would not pay for inner products
        (900, 3, 0, 150),
        (900, 30, 0, 150),
        (900, 30, 9, 150),  # of less than full rank
    ],
)


@CASES
def test_inner_products_are_those_of_standardised_rows(
    width, classes, repeated, directions
) -> None:
    features = features_of(width, repeated)
    found = made(features, classes)
    small = found.training.shape[2] * classes <= 1000
    assert found.training.dtype == (torch.float64 if small else torch.float32)
    for layer in range(2):
        assert found.training.shape[2] == directions
        rows, others = rows_of(features, layer)
        # Up to a constant, which an intercept makes up for.
        training = found.training[layer].double()
        centre = training.mean(dim=0)
        across = (found.others[layer].double() - centre) @ (training - centre).mT
        torch.testing.assert_close(
            (training - centre) @ (training - centre).mT, rows @ rows.mT, atol=2e-5, rtol=0
        )
        torch.testing.assert_close(across, others @ rows.mT, atol=2e-4, rtol=0)


@CASES
def test_exact_rows_are_the_training_rows_unrounded(width, classes, repeated, directions) -> None:
    found = made(features_of(width, repeated), classes)
    for training, exact in zip(found.training, found.exact, strict=True):
        torch.testing.assert_close(exact.to(training.dtype), training, atol=0, rtol=0)
        assert directions == width or exact.dtype == torch.float64


def test_rotated_rows_have_diagonal_moments_and_the_same_products() -> None:
    found = made(features_of(40), 3)
    assert not found.is_rotated(0)
    rows, squares, vectors = found.rotated(0)
    assert found.is_rotated(0) and not found.is_rotated(1)
    assert found.rotated(0).rows is rows
    torch.testing.assert_close(rows.mT @ rows, squares.diag(), atol=1e-4, rtol=0)
    torch.testing.assert_close(rows @ vectors.mT, found.training[0].float(), atol=1e-5, rtol=0)
