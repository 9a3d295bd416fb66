"""Elections by magnitude: of several values for an element, the largest wins.

`largest_magnitude` lets all values compete (MagMax, 2407.06322), `unified` only those that agree
with the sign of their sum (EMR-Merging, 2405.17461). Both ignore the order of the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miscible.merge.ops.masks import sum_of

if TYPE_CHECKING:
    import torch


def largest_magnitude(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the value of largest magnitude of each element; of -v and v, v."""
    high, low = _extremes(vectors)
    return high.where(high >= -low, low)


def unified(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the unified task vector ("elect" in 2405.17461).

    Its sign is that of the sum, its magnitude the largest among the vectors of that sign; it is 0
    where the sum is.
    """
    high, low = _extremes(vectors)
    total = sum_of(vectors)
    # The largest value with the sign of the sum is the extreme on that side of zero.
    return high.where(total > 0, low) * (total != 0)


def restored(vector: torch.Tensor, unified: torch.Tensor) -> torch.Tensor:
    """Return a task vector's image in the unified one ("mask" and "rescale" in 2405.17461).

    Elements whose sign differs from that of *vector* are masked, and the rest is rescaled to the
    L1 norm of *vector*.
    """
    import torch

    kept = unified * (torch.sign(vector) == torch.sign(unified))
    left = kept.abs().sum(dtype=torch.float64)
    if left == 0:
        return kept
    return kept.mul_(float(vector.abs().sum(dtype=torch.float64) / left))


def _extremes(vectors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    high = low = vectors[0]
    for vector in vectors[1:]:
        high, low = high.maximum(vector), low.minimum(vector)
    return high, low
