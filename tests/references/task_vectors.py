"""Sparsified sums of task vectors in float64, element by element where that is the definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def keep_largest(d: np.ndarray, density: float) -> np.ndarray:
    """Trim of TIES (2306.01708, section 4.2, step 1), the lowest index first of equals."""
    return keep_band(d, 0, max(1, int(density * d.size)))


def keep_band(d: np.ndarray, skip: int, count: int) -> np.ndarray:
    """Elements at ranks skip ... skip + count - 1 in descending magnitude."""
    flat = d.ravel()
    order = sorted(range(flat.size), key=lambda i: (-abs(flat[i]), i))
    kept = np.zeros(flat.size)
    for i in order[skip : skip + count]:
        kept[i] = flat[i]
    return kept.reshape(d.shape)


def breadcrumbs(d: np.ndarray, density: float, gamma: float) -> np.ndarray:
    """2312.06795: no outliers, then the largest; fewer outliers go where density asks for them."""
    count = int(density * d.size)
    return keep_band(d, min(int(gamma * d.size), d.size - count), count)


def magprune_chances(d: np.ndarray, density: float, epsilon: float) -> np.ndarray:
    """Chances of DELLA (2406.11617) by rank in the row."""
    rows = d.reshape(-1, d.shape[-1])
    chances = np.full(rows.shape, density)
    for row, out in zip(rows, chances, strict=True):
        order = sorted(range(row.size), key=lambda i: (abs(row[i]), i))
        for rank, i in enumerate(order):
            if row.size > 1:
                out[i] = density - epsilon + 2 * epsilon * rank / (row.size - 1)
    return chances.reshape(d.shape)


def restore_l1(sparse: np.ndarray, original: np.ndarray) -> np.ndarray:
    """The L1 norm of *original* given back to *sparse*."""
    left = np.abs(sparse).sum()
    return sparse * (np.abs(original).sum() / left) if left else sparse


def weighted(d: Sequence[np.ndarray], weight: Sequence[float], normalize: bool) -> np.ndarray:
    """Task arithmetic (2212.04089)."""
    total = sum(w * delta for w, delta in zip(weight, d, strict=True))
    return total / sum(weight) if normalize else total


def elected(d: Sequence[np.ndarray], weight: Sequence[float], normalize: bool) -> np.ndarray:
    """Elect and disjoint merge of TIES (2306.01708, section 4.2, steps 2 and 3), weighted."""
    result = np.zeros(d[0].shape)
    for place in np.ndindex(d[0].shape):
        votes = [w * delta[place] for w, delta in zip(weight, d, strict=True)]
        sign = 1 if sum(votes) >= 0 else -1
        agree = [i for i, vote in enumerate(votes) if vote * sign > 0]
        total = sum(votes[i] for i in agree)
        divisor = sum(weight[i] for i in agree) if normalize else 1
        result[place] = total / divisor if divisor else total
    return result
