"""Subspace Boosting: raise the small singular values of a merged task matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from miscible.merge.contract import shared, wrapper
from miscible.merge.ops.spectral import scale_spectrum
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    import torch


@wrapper("subspace_boosting", paper="2506.16506")
def subspace_boosting(
    deltas: Deltas,
    merge: Callable[[Deltas], Delta],
    *,
    beta: float = shared(0.01, low=0.0, high=1.0),
) -> Delta:
    """Clamp the merged matrix's small singular values to the one at the cut.

    The cut is the first singular value at which the cumulative share of their sum reaches *beta*
    (2506.16506, algorithm 1): 0 raises all to the largest, 1 none. Numerically null directions,
    which have no direction to raise, stay 0; what is no matrix stays as it is.
    """
    merged = merge(deltas).tensor
    if merged.ndim != 2 or min(merged.shape) == 1:
        return Delta(merged)
    return Delta(scale_spectrum(merged, lambda s: _boost(s, beta)))


def _boost(s: torch.Tensor, beta: float) -> torch.Tensor:
    """Return what each singular value is multiplied by."""
    if len(s) == 0:
        return s
    cumulative = s.cumsum(0)
    cut = min(int((cumulative < beta * cumulative[-1]).sum()), len(s) - 1)
    return s.clamp(min=float(s[cut])) / s
