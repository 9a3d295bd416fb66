"""Means that are taken vector by vector within a tensor: its rows, or its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

_BLOCK = 1 << 20
"""Elements that are widened to float64 at a time."""


def gram_along(tensors: Sequence[torch.Tensor], dim: int) -> np.ndarray:
    """Return the inner products of the tensors' vectors along *dim*.

    A tensor of fewer than two dimensions is one vector.

    Returns:
        [vectors, models, models], float64; the vectors in the order of the other dimensions.
    """
    import numpy as np

    vectors = [_vectors(tensor, dim) for tensor in tensors]
    rows, length = vectors[0].shape
    gram = np.zeros((rows, len(vectors), len(vectors)))
    step = max(1, _BLOCK // max(1, length))
    for start in range(0, rows, step):
        block = [part[start : start + step].double() for part in vectors]
        for i, left in enumerate(block):
            for j, right in enumerate(block[: i + 1]):
                products = (left * right).sum(dim=1).cpu().numpy()
                gram[start : start + step, i, j] = gram[start : start + step, j, i] = products
    return gram


def combine_along(
    tensors: Sequence[torch.Tensor], coefficients: np.ndarray, dim: int
) -> torch.Tensor:
    """Return the sum of the tensors, each of its vectors along *dim* times its coefficient.

    Args:
        coefficients: [vectors, models], the vectors in the order of `gram_along`.
    """
    import torch

    first = tensors[0]
    shape = list(first.shape)
    if first.dim() < 2:
        shape = [1] * first.dim()
    else:
        shape[dim] = 1
    total = torch.zeros_like(first)
    for tensor, column in zip(tensors, coefficients.T, strict=True):
        factor = torch.from_numpy(column.copy()).to(first.device, first.dtype)
        total.addcmul_(tensor, factor.reshape(shape))
    return total


def _vectors(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    if tensor.dim() < 2:
        return tensor.reshape(1, -1)
    return tensor.movedim(dim, -1).flatten(0, -2)
