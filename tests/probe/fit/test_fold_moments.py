"""Rows standardised together, and their variance in subsets, against numpy."""

from __future__ import annotations

import numpy as np
import torch

from miscible.probe.fit.fold_moments import Standardised

SPLITS = [(0,), (2,), (0, 1)]


def rows_and_folds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 40, 7)) * rng.uniform(0.01, 1000, size=7) + rng.normal(size=7)
    return states.astype(np.float32), np.sort(rng.permutation(40) % 4)[::-1].copy()


def standardised(states: np.ndarray, folds: np.ndarray) -> Standardised:
    return Standardised.of(torch.from_numpy(states), torch.from_numpy(folds), SPLITS, torch.float64)


def test_rows_and_ratios_are_those_of_numpy() -> None:
    states, folds = rows_and_folds()
    found = standardised(states, folds)
    wide = states.astype(np.float64)
    expected = (wide - wide.mean(axis=1, keepdims=True)) / wide.std(axis=1, keepdims=True)
    np.testing.assert_allclose(found.rows.numpy(), expected / 7**0.5, rtol=1e-9, atol=1e-12)
    for number, left_out in enumerate(SPLITS):
        inside = ~np.isin(folds, left_out)
        ratio = wide[:, inside].var(axis=1) / wide.var(axis=1)
        np.testing.assert_allclose(found.ratio[:, number].numpy(), ratio, rtol=1e-9)


def test_what_is_constant_in_a_subset_has_no_variance_there() -> None:
    states, folds = rows_and_folds()
    states[:, :, 0] = 0.1  # everywhere
    states[:, folds != 0, 1] = 0.1  # without fold 0
    states[:, folds != 0, 2] = 0.0
    found = standardised(states, folds)
    assert (found.rows[..., 0] == 0).all()
    assert (found.ratio[..., 0] == 0).all()
    assert (found.ratio[:, [0, 2], 1:3] == 0).all()
    assert (found.ratio[:, 1, 1:3] > 0).all()
