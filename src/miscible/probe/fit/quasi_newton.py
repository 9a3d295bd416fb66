"""The limited-memory inverse Hessian of many problems at once (L-BFGS)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_NOTHING = 1e-30
"""A product below it is rounding of a step that went nowhere; its inverse would not be finite."""
_PAIRS = 6


@dataclass(slots=True)
class History:
    """The last steps of each problem and the changes of gradient that they made.

    The two-loop recursion (Nocedal & Wright, Numerical Optimization, algorithm 7.4) runs on the
    inner products of the vectors, as in Chen et al. (NIPS 2014, "Large-scale L-BFGS using
    MapReduce"): the vectors are read by a few batched products instead of one by one.

    Attributes:
        steps, changes: [problems, 6, variables]; the newest overwrites the oldest.
        count: number of steps so far.
    """

    steps: torch.Tensor
    changes: torch.Tensor
    count: int = 0

    @classmethod
    def empty(cls, like: torch.Tensor) -> History:
        """Return a history of no steps for variables [problems, ...]."""
        size = like[0].numel()
        return cls(like.new_zeros(len(like), _PAIRS, size), like.new_zeros(len(like), _PAIRS, size))

    def push(self, step: torch.Tensor, change: torch.Tensor) -> None:
        """Remember a step [problems, ...] and forget the oldest."""
        self.steps[:, self.count % _PAIRS] = step.flatten(1)
        self.changes[:, self.count % _PAIRS] = change.flatten(1)
        self.count += 1

    def select(self, kept: torch.Tensor) -> History:
        """Return the history of the problems at the indices *kept*."""
        return History(self.steps[kept], self.changes[kept], self.count)

    def direction(self, gradient: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
        """Return minus the estimated inverse Hessian times the gradient.

        Args:
            gradient: [problems, ...].
            diagonal: positive, the Hessian where nothing is remembered; may differ at every call.
        """
        plain = (gradient / diagonal).flatten(1)
        if self.count == 0:
            return -plain.view_as(gradient)
        used = min(self.count, _PAIRS)
        oldest_first = [(self.count - used + age) % _PAIRS for age in range(used)]
        steps, changes = self.steps[:, :used], self.changes[:, :used]
        scaled = changes / diagonal.flatten(1).unsqueeze(1)
        flat = gradient.flatten(1).unsqueeze(-1)
        # Small matrices, in which differences cancel: float64 whatever the vectors are.
        across = (steps @ changes.mT).double()
        within = (changes @ scaled.mT).double()
        of_steps = (steps @ flat).squeeze(-1).double()
        of_changes = (scaled @ flat).squeeze(-1).double()

        product = across.diagonal(dim1=-2, dim2=-1)
        length = within.diagonal(dim1=-2, dim2=-1)
        usable = (product > _NOTHING) & (length > _NOTHING)
        inverse = torch.where(usable, 1 / product, 0.0)
        size = torch.where(usable, product / length, 1.0)[:, oldest_first[-1:]]
        first = torch.zeros_like(of_steps)
        for pair in reversed(oldest_first):
            inner = of_steps[:, pair] - (first * across[:, pair]).sum(dim=1)
            first[:, pair] = inverse[:, pair] * inner
        second = torch.zeros_like(of_steps)
        middle = size * (of_changes - (within @ first.unsqueeze(-1)).squeeze(-1))
        for pair in oldest_first:
            inner = middle[:, pair] + (second * across[:, :, pair]).sum(dim=1)
            second[:, pair] = first[:, pair] - inverse[:, pair] * inner

        found = torch.baddbmm(
            plain.unsqueeze(1) * size.unsqueeze(-1).to(plain.dtype),
            (-size * first).to(plain.dtype).unsqueeze(1),
            scaled,
        )
        found = torch.baddbmm(found, second.to(plain.dtype).unsqueeze(1), steps)
        return -found.view_as(gradient)
