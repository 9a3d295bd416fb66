"""Inner products of low-rank differences from their factors, without multiplying them out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from miscible.measure.changes import Change
from miscible.models.delta import LowRank

Array = npt.NDArray[np.float64]


def factor_gram(changes: Sequence[Change]) -> Array | None:
    """Return the Gram [N, N] of differences that all are zero or low-rank, None if one is neither.

    <b1 a1, b2 a2> is the sum over the elements of (b1^T b2) * (a1 a2^T): two products of all
    factors side by side give those of every two models.
    """
    held = [(i, c.low_rank) for i, c in enumerate(changes) if c.low_rank is not None]
    whole = all(change.is_zero or change.low_rank is not None for change in changes)
    if not whole or len({low_rank.transposed for _, low_rank in held}) > 1:
        return None
    gram = np.zeros((len(changes), len(changes)))
    if not held:
        return gram
    left = np.concatenate([_left(low_rank) for _, low_rank in held], axis=1)
    right = np.concatenate([low_rank.a.numpy() for _, low_rank in held])
    products = (left.T @ left) * (right @ right.T)
    starts = np.cumsum([0, *(low_rank.a.shape[0] for _, low_rank in held)])[:-1]
    sums = np.add.reduceat(np.add.reduceat(products, starts, axis=0), starts, axis=1)
    places = [i for i, _ in held]
    gram[np.ix_(places, places)] = (sums + sums.T) / 2
    return gram


def _left(low_rank: LowRank) -> Array:
    found: Array = low_rank.scale * low_rank.b.numpy()
    return found
