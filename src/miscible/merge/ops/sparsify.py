"""Sparsifiers: which elements of a delta stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from miscible.merge.ops.random import ElementRandom


def keep_largest(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the k = max(1, int(density * n)) elements largest in magnitude (TIES, 2306.01708).

    Elements that tie at the threshold are kept lowest index first. Density 1 keeps all, density 0
    none.
    """
    import torch

    if density >= 1.0 or delta.numel() == 0:
        return delta
    if density <= 0.0:
        return torch.zeros_like(delta)
    magnitude = delta.abs().flatten()
    count = max(1, int(density * magnitude.numel()))
    threshold = _kth_largest(magnitude, count)
    keep = magnitude > threshold
    ties = (magnitude == threshold).nonzero().flatten()
    keep[ties[: count - int(keep.sum())]] = True
    return delta * keep.reshape(delta.shape)


def drop_at_random(delta: torch.Tensor, density: float, random: ElementRandom) -> torch.Tensor:
    """Keep each element independently with probability *density* (DARE, 2311.03099)."""
    if density >= 1.0:
        return delta
    return delta * random.bernoulli(density, tuple(delta.shape)).to(delta.device)


def _kth_largest(magnitude: torch.Tensor, count: int) -> torch.Tensor:
    import numpy as np
    import torch

    # numpy selects in linear time; torch.kthvalue is some twenty times slower on a CPU.
    if magnitude.device.type == "cpu":
        values = magnitude.numpy()
        position = values.size - count
        return torch.tensor(np.partition(values, position)[position])
    return torch.topk(magnitude, count, sorted=True).values[-1]
