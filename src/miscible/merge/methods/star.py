"""STAR: spectral truncation and rescale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miscible.merge.contract import Laws, PerModel, merge_method, per_model, shared
from miscible.merge.ops.consensus import plain_sum
from miscible.merge.ops.spectral import (
    Singular,
    as_matrix,
    decompose_each,
    is_matrix,
    scale_spectrum,
)
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    import torch


@merge_method("star", paper="2502.10339", exempt=(Laws.ONE_MODEL,))  # one model is truncated, too
def star(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    eta: PerModel[float] = per_model(0.4, low=0.0, high=1.0),
    normalize: bool = shared(True),
    lambda_: float = shared(1.0),
) -> Delta:
    """Truncate each task matrix to a share of its nuclear norm, rescale it, and average.

    The rank kept is the least whose singular values sum to *eta* of all (at least 1); they are then
    scaled to the sum of all (2502.10339, section 3). Vectors are averaged as they are.
    """
    if deltas.factors is not None:
        parts = decompose_each(deltas)
        dense = [
            Singular(part.u, part.s * _kept(part.s, share), part.v).dense()
            for part, share in zip(parts, eta, strict=True)
        ]
        return plain_sum(Deltas(dense), weight, normalize=normalize).scaled(lambda_)
    if is_matrix(deltas.tensors[0]):
        deltas = Deltas([_truncated(t, s) for t, s in zip(deltas.tensors, eta, strict=True)])
    return plain_sum(deltas, weight, normalize=normalize).scaled(lambda_)


def _truncated(delta: torch.Tensor, share: float) -> torch.Tensor:
    changed = scale_spectrum(as_matrix(delta), lambda s: _kept(s, share))
    return changed.reshape(delta.shape).to(delta.dtype)


def _kept(s: torch.Tensor, share: float) -> torch.Tensor:
    """Return what each singular value is multiplied by."""
    if len(s) == 0:
        return s
    cumulative = s.cumsum(0)
    # The last sum itself as the total, so that a share of 1 keeps all in spite of rounding.
    rank = min(int((cumulative < share * cumulative[-1]).sum()) + 1, len(s))
    factors = s.new_zeros(len(s))
    factors[:rank] = cumulative[-1] / cumulative[rank - 1]
    return factors
