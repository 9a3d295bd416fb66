"""Matrix products at the precision and speed that spectral methods need."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

_BLOCK = 224
"""Rows of a symmetric product computed at a time: only blocks on and right of the diagonal are."""
_SLICE = 2048
"""Columns widened to float64 at a time."""
_SMALL = 16
"""Dimension below which the choice of kernel does not matter."""
_FEW = 4_000_000
"""Multiplications below which it does not matter either."""


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ``a @ b`` of two matrices of one dtype.

    Float32 products on a CPU go through oneDNN where torch has it. Its kernels follow the
    processor; the BLAS that torch links runs at half speed on processors of other makers.
    """
    import torch

    kernel = _onednn()
    small = min(*a.shape, b.shape[1]) < _SMALL or a.numel() * b.shape[1] < _FEW
    if kernel is None or small or a.device.type != "cpu" or a.dtype != torch.float32:
        return a @ b
    # Strided views fall into a reference kernel a thousand times slower.
    return kernel(_packed(a), _packed(b.T), None, "none", [], "")


def gram(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``matrix @ matrix.T`` accumulated in *dtype*."""
    rows, columns = matrix.shape
    if dtype == matrix.dtype:
        packed = matrix.contiguous()
        return symmetric_product(packed, packed.T)
    total = matrix.new_zeros(rows, rows, dtype=dtype)
    for start in range(0, columns, _SLICE):
        part = matrix[:, start : start + _SLICE].to(dtype).contiguous()
        for top in range(0, rows, _BLOCK):
            total[top : top + _BLOCK, top:] += multiply(part[top : top + _BLOCK], part[top:].T)
    return _mirrored(total)


def holds(largest: float, dtype: torch.dtype) -> bool:
    """Return whether a Gram matrix in *dtype*, with this largest value, holds far smaller ones."""
    import torch

    return 0.0 < largest < math.inf if dtype == torch.float64 else 1e-24 < largest < 1e30


def symmetric_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ``a @ b`` where it is known to be symmetric, for little more than half its cost.

    So is the product of two symmetric matrices that commute: polynomials and inverses of one. It is
    fastest if *a* and ``b.T`` are contiguous.
    """
    total = a.new_empty(len(a), len(a))
    for top in range(0, len(a), _BLOCK):
        total[top : top + _BLOCK, top:] = multiply(a[top : top + _BLOCK], b[:, top:])
    return _mirrored(total)


def _mirrored(total: torch.Tensor) -> torch.Tensor:
    """Return a matrix, blockwise above the diagonal, with the blocks below filled in place."""
    for top in range(0, len(total), _BLOCK):
        below = top + _BLOCK
        total[below:, top:below] = total[top:below, below:].T
    return total


def _packed(matrix: torch.Tensor) -> torch.Tensor:
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()


@cache
def _onednn() -> Callable[..., torch.Tensor] | None:
    import torch

    if not torch._C._has_mkldnn:
        return None
    operators = getattr(torch.ops, "mkldnn", None)
    kernel: Callable[..., torch.Tensor] | None = getattr(operators, "_linear_pointwise", None)
    return kernel
