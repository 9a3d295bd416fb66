"""Masks that localise tasks in a sum of task vectors (TALL masks, 2405.07813)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def sum_of(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the multi-task vector: the sum of the task vectors."""
    total = vectors[0]
    for vector in vectors[1:]:
        total = total + vector
    return total


def tall_mask(vector: torch.Tensor, total: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return where a task's own vector outweighs all others in their sum.

    |t| >= lambda_t |sum - t|, the TALL mask of 2405.07813.

    Args:
        vector: the task vector.
        total: the sum of all task vectors, this one among them.
        threshold: the paper's lambda_t; 0 keeps everything.
    """
    return vector.abs() >= (total - vector).abs() * threshold


def agreed(masks: Sequence[torch.Tensor], least: int) -> torch.Tensor:
    """Return where at least *least* of the masks are true (the consensus mask of 2405.07813)."""
    return sum_of([mask.float() for mask in masks]) >= least
