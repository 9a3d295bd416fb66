"""Bases that several matrices share, and merging in their coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from miscible.merge.ops.products import multiply
from miscible.merge.ops.spectral import leading_side, sides, wide_dtype
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    import torch


def has_two_sides(deltas: Deltas) -> bool:
    """Return whether the differences are matrices of more than one row and column."""
    shape = deltas.factors[0].shape if deltas.factors else deltas.tensors[0].shape
    return len(shape) == 2 and min(shape) > 1


def column_basis(deltas: Deltas) -> torch.Tensor:
    """Return the left singular vectors of [d_1 | d_2 | ...], [rows, k], null ones left out."""
    import torch

    if deltas.factors is None:
        return leading_side(torch.cat(deltas.tensors, dim=1))
    pairs = [sides(factor) for factor in deltas.factors]
    left = torch.cat([left for left, _ in pairs], dim=1)
    basis, core = torch.linalg.qr(left)
    # The inner factors stand in blocks of their own: [left_1 right_1 | left_2 right_2 | ...].
    blocks = core.split([inner.shape[0] for _, inner in pairs], dim=1)
    turned = [block @ inner for block, (_, inner) in zip(blocks, pairs, strict=True)]
    u: torch.Tensor = basis @ leading_side(torch.cat(turned, dim=1))
    return u.to(wide_dtype(deltas.factors))


def factor_bases(deltas: Deltas) -> tuple[torch.Tensor, torch.Tensor]:
    """Return orthonormal bases of all columns and of all rows, [rows, k] and [columns, l].

    From factors, the left singular vectors of the stacked outer factors (scale included) and the
    right ones of the stacked inner factors; of dense differences, those of the differences stacked
    side by side and on top of each other.
    """
    import torch

    if deltas.factors is None:
        turned = Deltas([delta.T for delta in deltas.tensors])
        return column_basis(deltas), column_basis(turned)
    pairs = [sides(factor) for factor in deltas.factors]
    dtype = wide_dtype(deltas.factors)
    left = leading_side(torch.cat([left for left, _ in pairs], dim=1))
    right = leading_side(torch.cat([right for _, right in pairs]).T)
    return left.to(dtype), right.to(dtype)


def merge_within(
    deltas: Deltas,
    merge: Callable[[Deltas], Delta],
    columns: torch.Tensor,
    rows: torch.Tensor | None = None,
) -> Delta:
    """Merge ``columns.T @ d_i [@ rows]`` and map the result back by the same bases."""
    merged = merge(Deltas(_coordinates(deltas, columns, rows))).tensor
    inner = merged if rows is None else multiply(merged, rows.T)
    return Delta(multiply(columns, inner))


def _coordinates(
    deltas: Deltas, columns: torch.Tensor, rows: torch.Tensor | None
) -> Sequence[torch.Tensor]:
    if deltas.factors is None:
        turned = [multiply(columns.T, delta) for delta in deltas.tensors]
        return turned if rows is None else [multiply(one, rows) for one in turned]
    found = []
    for factor in deltas.factors:
        left, right = sides(factor)
        inner = right if rows is None else right @ rows.double()
        found.append(((columns.T.double() @ left) @ inner).to(columns.dtype))
    return found
