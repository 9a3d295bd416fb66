"""How strongly each element of a task vector competes with the other tasks (PCB, 2410.02396)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def balance(vectors: Sequence[torch.Tensor], index: int) -> torch.Tensor:
    """Return the competition balancing scores of one task vector (2410.02396).

    beta_i = softmax(N norm(t_i t_i)) * sum_j softmax(norm(t_i t_j)): intra-balancing times
    inter-balancing, where norm maps the elements of the tensor linearly to [0, 1], softmax runs
    over them, and all products are element by element. Scores of all tasks are
    multiplied by the squared number of elements, so that they do not underflow; only their ratios
    matter.
    """
    import torch

    own = vectors[index].flatten()
    inter = torch.zeros_like(own)
    for other in vectors:
        inter += torch.softmax(_unit_range(own * other.flatten()), dim=0)
    intra = torch.softmax(_unit_range(own * own).mul_(len(vectors)), dim=0)
    size = max(1, own.numel())
    return (intra.mul_(size) * inter.mul_(size)).reshape(vectors[index].shape)


def strongest(scores: torch.Tensor, density: float) -> torch.Tensor:
    """Return *scores* with those outside the largest share *density* set to 0 (2410.02396, "drop").

    At least one is kept, and all that tie at the threshold; density 0 keeps none.
    """
    import torch

    from miscible.merge.ops.sparsify import largest

    if density >= 1.0 or scores.numel() == 0:
        return scores
    if density <= 0.0:
        return torch.zeros_like(scores)
    flat = scores.flatten()
    kept = largest(flat, max(1, int(density * flat.numel())))
    return scores * (scores >= flat[kept].min())


def _unit_range(values: torch.Tensor) -> torch.Tensor:
    if values.numel() == 0:
        return values
    low, high = values.aminmax()
    span = high - low
    return (values - low).div_(span if span > 0 else 1.0)
