"""Rescaling: what a sparsified delta is multiplied by to make up for what it lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def restore_l1(sparse: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
    """Scale *sparse* to the L1 norm of *original*; a delta that lost everything stays zero."""
    import torch

    left = sparse.abs().sum(dtype=torch.float64)
    if left == 0:
        return sparse
    return sparse * float(original.abs().sum(dtype=torch.float64) / left)
