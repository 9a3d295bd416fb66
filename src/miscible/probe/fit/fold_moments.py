"""Means and variances of features in many subsets of the same rows, from those of their folds.

A feature that is constant in a subset has a variance of exactly 0 there: float32 values are summed
and averaged in float64 without rounding, as long as they are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from miscible.probe.fit.compiled import in_order
from miscible.probe.fit.standardise import CONSTANT, rescale


@dataclass(frozen=True, slots=True)
class Standardised:
    """Rows of several layers, and how features vary in subsets of them.

    Attributes:
        rows: of mean 0 and variance 1 / width over all rows; features that are constant are 0;
            [layers, rows, width].
        ratio: variance of each feature in a subset over that in all rows; 0 for a feature that is
            constant in the subset, float64 [layers, subsets, width].
    """

    rows: torch.Tensor
    ratio: torch.Tensor

    @classmethod
    def of(
        cls,
        states: torch.Tensor,
        folds: torch.Tensor,
        splits: Sequence[tuple[int, ...]],
        precision: torch.dtype,
    ) -> Standardised:
        """Standardise on all rows, and compare with those of each split.

        Args:
            states: finite, float32 [layers, rows, width].
            folds: fold of each row.
            splits: for each subset, the folds that it leaves out.
            precision: of the rows.
        """
        counts = torch.bincount(folds).double()
        inside = torch.ones(len(splits) + 1, len(counts), dtype=torch.float64)
        for number, left_out in enumerate(splits):
            inside[number, list(left_out)] = 0
        layers, rows, width = states.shape
        every = np.arange(rows)
        standard = torch.empty(layers, rows, width, dtype=precision)
        ratio = torch.empty(layers, len(splits), width, dtype=torch.float64)
        means, squares = torch.empty(2, len(counts), width, dtype=torch.float64)
        mean, deviation = torch.empty(2, len(inside), width, dtype=torch.float64)
        for layer in range(layers):
            _moments(states[layer].numpy(), folds.numpy(), means.numpy(), squares.numpy())
            _combine(
                inside.numpy(), counts.numpy(), means.numpy(), squares.numpy(), mean.numpy(),
                deviation.numpy(),
            )  # fmt: skip
            factor = torch.where(deviation[-1] > 0, 1 / deviation[-1], 0.0)
            torch.square(deviation[:-1] * factor, out=ratio[layer])
            factor *= width**-0.5
            rescale(
                states[layer].numpy()[:, None], 0, every, mean[-1].numpy(), factor.numpy(),
                standard[layer].numpy(),
            )  # fmt: skip
        return cls(standard, ratio)


def inside_of(folds: torch.Tensor, splits: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Return whether the fold of each row is not one that a split leaves out, [splits, rows]."""
    return torch.stack([torch.isin(folds, torch.tensor(out), invert=True) for out in splits])


@in_order
def _moments(states: Any, folds: Any, means: Any, squares: Any) -> None:
    """Fill in the mean of each feature in each fold, and the sum of squares about it."""
    counts = np.zeros(len(means))
    means[:], squares[:] = 0.0, 0.0
    for row in range(len(states)):
        fold = folds[row]
        counts[fold] += 1.0
        for j in range(states.shape[1]):
            means[fold, j] += states[row, j]
    for fold in range(len(means)):
        for j in range(states.shape[1]):
            means[fold, j] /= max(counts[fold], 1.0)
    for row in range(len(states)):
        fold = folds[row]
        for j in range(states.shape[1]):
            squares[fold, j] += (states[row, j] - means[fold, j]) ** 2


@in_order
def _combine(inside: Any, counts: Any, means: Any, squares: Any, mean: Any, deviation: Any) -> None:
    """Fill in the mean of each feature in each subset of folds, and its deviation if it moves."""
    width = means.shape[1]
    for subset in range(len(inside)):
        at, square = mean[subset], deviation[subset]
        at[:], square[:] = 0.0, 0.0
        total = 0.0
        for fold in range(len(counts)):
            count = inside[subset, fold] * counts[fold]
            total += count
            if count > 0.0:
                for j in range(width):
                    at[j] += count * means[fold, j]
        for j in range(width):
            at[j] /= total
        for fold in range(len(counts)):
            count = inside[subset, fold] * counts[fold]
            if count > 0.0:
                for j in range(width):
                    square[j] += squares[fold, j] + count * (means[fold, j] - at[j]) ** 2
        for j in range(width):
            root = math.sqrt(square[j] / total)
            square[j] = root if root > CONSTANT * abs(at[j]) else 0.0
