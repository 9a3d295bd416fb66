"""Both ways to cross-fit do the same, and leave alone what is not wanted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miscible.probe.fit.gram_fits import GramFits
from miscible.probe.fit.shared_rows import EXACT, SharedFits

SPLITS = [(0,), (1, 2), (3,)]


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(2, 45, 80)).astype(np.float32)
    labels = (rng.random((2, 45)) < 0.5).astype(np.float64)
    states[:, :, 0] += 2 * labels[0]
    folds = np.arange(45) % 7 % 4
    return torch.from_numpy(states), torch.from_numpy(labels), torch.from_numpy(folds)


@pytest.mark.parametrize("penalty", [10.0, 0.1, 1e-4])
def test_gram_matrices_and_rows_give_the_same_scores(penalty: float) -> None:
    states, labels, folds = data()
    strength = torch.full((1, 1, 1), penalty).double()
    by_gram, by_rows = (
        kind(states, folds, SPLITS, EXACT).solve(labels, strength)
        for kind in (GramFits, SharedFits)
    )
    torch.testing.assert_close(by_gram, by_rows, atol=1e-4, rtol=1e-4)


def test_a_warm_start_changes_only_the_time() -> None:
    states, labels, folds = data()
    warm, cold = (GramFits(states, folds, SPLITS, EXACT) for _ in range(2))
    weak = torch.full((1, 1, 1), 0.01).double()
    warm.solve(labels, 100 * weak)
    torch.testing.assert_close(
        warm.solve(labels, weak), cold.solve(labels, weak), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("kind", [GramFits, SharedFits])
def test_what_is_not_wanted_stays_as_it_was(kind: type[GramFits | SharedFits]) -> None:
    states, labels, folds = data()
    fits = kind(states, folds, SPLITS, EXACT)
    before = fits.solve(labels, torch.ones(1, 1, 1).double()).clone()
    wanted = torch.zeros(len(SPLITS), 2, 2, dtype=torch.bool)
    wanted[0, 1, 0] = True
    after = fits.solve(labels, torch.full((1, 1, 1), 0.1).double(), wanted)
    assert (after[0, 1, 0] != before[0, 1, 0]).all()
    torch.testing.assert_close(after[~wanted], before[~wanted], atol=0, rtol=0)
    assert fits.finished.all()
