"""Matrix products at the precision and speed that spectral methods need."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

_BLOCK = 224
"""Rows of a Gram matrix computed at a time: only blocks on and right of the diagonal are."""
_SLICE = 2048
"""Columns widened to float64 at a time."""
_SMALL = 128
"""Dimension below which the choice of kernel does not matter."""


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ``a @ b`` of two matrices of one dtype.

    Float32 products on a CPU go through oneDNN where torch has it. Its kernels follow the
    processor; the BLAS that torch links runs at half speed on processors of other makers.
    """
    import torch

    kernel = _onednn()
    small = min(*a.shape, b.shape[1]) < _SMALL
    if kernel is None or small or a.device.type != "cpu" or a.dtype != torch.float32:
        return a @ b
    # Strided views fall into a reference kernel a thousand times slower.
    return kernel(_packed(a), _packed(b.T), None, "none", [], "")


def gram(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``matrix @ matrix.T`` accumulated in *dtype*."""
    rows, columns = matrix.shape
    total = matrix.new_zeros(rows, rows, dtype=dtype)
    step = columns if dtype == matrix.dtype else _SLICE
    for start in range(0, columns, step):
        part = matrix[:, start : start + step].to(dtype).contiguous()
        for top in range(0, rows, _BLOCK):
            total[top : top + _BLOCK, top:] += multiply(part[top : top + _BLOCK], part[top:].T)
    for top in range(0, rows, _BLOCK):
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
