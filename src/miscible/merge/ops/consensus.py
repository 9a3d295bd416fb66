"""Consensus: how deltas that disagree in sign are brought together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from miscible.merge.spaces import Delta, Deltas


def elect_signs(
    deltas: Sequence[torch.Tensor],
    weights: Sequence[float],
    *,
    normalize: bool,
    votes: Sequence[float] | None = None,
) -> torch.Tensor:
    """Sum the weighted deltas that agree with the majority sign (TIES, 2306.01708, section 4.2).

    The elected sign is that of the weighted sum, + where it is 0; with *votes*, that of the sum
    weighted by them. A zero delta agrees with neither sign. With *normalize* the sum is divided by
    the sum of the weights (with their signs) of the deltas that agree, by 1 where that is 0.
    """
    import torch

    # Products are rounded before they are summed, so that votes that cancel cancel exactly.
    contributions = [delta * weight for delta, weight in zip(deltas, weights, strict=True)]
    ballots = contributions
    if votes is not None:
        ballots = [delta * vote for delta, vote in zip(deltas, votes, strict=True)]
    total = ballots[0].clone()
    for ballot in ballots[1:]:
        total += ballot
    positive = total >= 0
    merged = torch.zeros_like(total)
    divisor = torch.zeros_like(total) if normalize else None
    for contribution, weight in zip(contributions, weights, strict=True):
        agrees = torch.where(positive, contribution > 0, contribution < 0)
        merged += contribution.mul_(agrees)
        if divisor is not None:
            divisor.add_(agrees, alpha=weight)
    if divisor is not None:
        divisor[divisor == 0] = 1.0
        merged /= divisor
    return merged


def sum_of_unique(
    deltas: Sequence[torch.Tensor], changed: Sequence[torch.Tensor], gains: Sequence[float]
) -> torch.Tensor:
    """Add what one model alone changed, average what several did (RAM, 2601.13572).

    Args:
        deltas: of each model.
        changed: a mask a model, of the elements that count as changed.
        gains: a factor a model, of the elements that it alone changed.
    """
    import torch

    count = torch.stack(list(changed)).sum(dim=0)
    alone = count == 1
    merged = torch.zeros_like(deltas[0])
    for delta, mask, gain in zip(deltas, changed, gains, strict=True):
        merged += torch.where(mask, torch.where(alone, delta * gain, delta), 0.0)
    return merged / count.clamp_(min=1)


def plain_sum(deltas: Deltas, weights: Sequence[float], *, normalize: bool) -> Delta:
    """Sum the weighted deltas; with *normalize* divide by the sum of the weights.

    A sum of weights below 1e-8 in magnitude divides by 1, as recipes in the wild expect.
    """
    total = sum(weights)
    merged = deltas.weighted_sum(weights)
    return merged.scaled(1.0 / total) if normalize and abs(total) >= 1e-8 else merged
