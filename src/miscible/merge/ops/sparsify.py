"""Sparsifiers: which elements of a delta stay.

Each is a small object that takes a delta and returns it with the other elements set to zero; what
it is made of says all that the streamed engine needs to do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from miscible.merge.ops.random import ElementRandom


_BLOCK = 1 << 20
"""Elements that are ranked or widened to float64 at a time."""


class Sparsifier(Protocol):
    """Sets elements of a delta to zero."""

    def __call__(self, delta: torch.Tensor, random: ElementRandom | None) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class KeepAll:
    """Keep everything."""

    def __call__(self, delta: torch.Tensor, random: ElementRandom | None = None) -> torch.Tensor:
        return delta


@dataclass(frozen=True, slots=True)
class KeepLargest:
    """Keep the k = max(1, int(density * n)) elements largest in magnitude (TIES, 2306.01708).

    Elements that tie at the threshold are kept lowest index first. Density 1 keeps all, density 0
    none.
    """

    density: float

    def __call__(self, delta: torch.Tensor, random: ElementRandom | None = None) -> torch.Tensor:
        import torch

        if self.density >= 1.0 or delta.numel() == 0:
            return delta
        if self.density <= 0.0:
            return torch.zeros_like(delta)
        count = max(1, int(self.density * delta.numel()))
        return delta * largest(delta.abs().flatten(), count).reshape(delta.shape)


@dataclass(frozen=True, slots=True)
class KeepAtRandom:
    """Keep each element independently with probability *density* (DARE, 2311.03099)."""

    density: float

    def __call__(self, delta: torch.Tensor, random: ElementRandom | None = None) -> torch.Tensor:
        if self.density >= 1.0:
            return delta
        assert random is not None
        return delta * random.bernoulli(self.density, tuple(delta.shape)).to(delta.device)


@dataclass(frozen=True, slots=True)
class KeepByRank:
    """Keep each element with a probability that grows with its rank in its row (DELLA, 2406.11617).

    Of a row (along the last dimension; a tensor of fewer than two dimensions is one row) of n
    elements, the one of rank r = 0 ... n - 1 in ascending magnitude, the lowest index first of
    equals, is kept with probability p = density - epsilon + 2 epsilon r / (n - 1); the only element
    of a row with probability density. It is kept where its draw, a uniform 32-bit word, is
    below p * 2**32, all in float64 and from left to right. Density 1 keeps all and density 0 none,
    whatever epsilon is.
    """

    density: float
    epsilon: float

    def __call__(self, delta: torch.Tensor, random: ElementRandom | None = None) -> torch.Tensor:
        import torch

        from miscible.merge.ops.random import RANGE

        if self.density >= 1.0 or delta.numel() == 0:
            return delta
        if self.density <= 0.0:
            return torch.zeros_like(delta)
        assert random is not None
        rows = delta.reshape(-1, delta.shape[-1]) if delta.dim() > 1 else delta.reshape(1, -1)
        words = random.words(delta.numel()).reshape(rows.shape)
        chances = self.chances(rows.shape[1]).to(delta.device)
        kept = torch.empty_like(rows)
        step = max(1, _BLOCK // rows.shape[1])
        for block in (slice(i, i + step) for i in range(0, len(rows), step)):
            part = rows[block]
            order = part.abs().argsort(dim=1, stable=True)
            chance = torch.empty(part.shape, dtype=torch.float64, device=delta.device)
            chance.scatter_(1, order, chances.expand(part.shape))
            draws = torch.from_numpy(words[block].astype("f8")).to(delta.device)
            kept[block] = part * (draws < chance * RANGE)
        return kept.reshape(delta.shape)

    def chances(self, length: int) -> torch.Tensor:
        """Return the probabilities by rank in a row of *length* elements, float64."""
        import torch

        if length == 1:
            return torch.tensor([self.density], dtype=torch.float64)
        ranks = torch.arange(length, dtype=torch.float64)
        return (self.density - self.epsilon) + 2.0 * self.epsilon * ranks / (length - 1)


@dataclass(frozen=True, slots=True)
class KeepBand:
    """Drop the largest elements, keep those that follow (Model Breadcrumbs, 2312.06795).

    Of n elements in descending magnitude, the lowest index first of equals, the first
    min(int(gamma * n), n - k) are dropped and the next k = int(density * n) are kept.
    """

    density: float
    gamma: float

    def __call__(self, delta: torch.Tensor, random: ElementRandom | None = None) -> torch.Tensor:
        size = delta.numel()
        count = int(self.density * size)
        top = min(int(self.gamma * size), size - count)
        if count == size:
            return delta
        magnitude = delta.abs().flatten()
        keep = largest(magnitude, top + count) & ~largest(magnitude, top)
        return delta * keep.reshape(delta.shape)


def most_varying(deltas: Sequence[torch.Tensor], share: float) -> torch.Tensor:
    """Return a mask of the positions at which the deltas vary most (SCE, 2408.07990).

    Of the m positions whose variance over the deltas is not zero, those with the int(share * m)
    largest are chosen, the lowest index first of equals. Variances and the product share * m are
    rounded to float32, so that an interpolated share of a little less than 0.4 counts as 0.4.
    """
    import numpy as np
    import torch

    flat = [delta.flatten() for delta in deltas]
    variance = torch.empty(flat[0].shape, dtype=torch.float32, device=flat[0].device)
    for block in (slice(i, i + _BLOCK) for i in range(0, len(variance), _BLOCK)):
        # In float64, so that the order of the models does not show; from the first model's, so
        # that deltas that are equal in all vary by exactly zero.
        stacked = torch.stack([delta[block] for delta in flat]).double()
        variance[block] = (stacked - stacked[0]).var(dim=0, correction=0)
    varying = int(variance.count_nonzero())
    chosen = largest(variance, min(varying, int(np.float32(share) * np.float32(varying))))
    return chosen.reshape(deltas[0].shape)


def largest(magnitude: torch.Tensor, count: int) -> torch.Tensor:
    """Return a mask of the *count* largest of a flat tensor, the lowest index first of equals."""
    if count <= 0:
        return magnitude < 0
    threshold = _kth_largest(magnitude, count)
    keep = magnitude > threshold
    ties = (magnitude == threshold).nonzero().flatten()
    keep[ties[: count - int(keep.sum())]] = True
    return keep


def _kth_largest(magnitude: torch.Tensor, count: int) -> torch.Tensor:
    import numpy as np
    import torch

    # numpy selects in linear time; torch.kthvalue is some twenty times slower on a CPU.
    if magnitude.device.type == "cpu":
        values = magnitude.numpy()
        position = values.size - count
        return torch.tensor(np.partition(values, position)[position])
    return torch.topk(magnitude, count, sorted=True).values[-1]
