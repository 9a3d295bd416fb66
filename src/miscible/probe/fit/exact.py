"""Derivatives of multinomial losses in float64, for rows that are held in float32.

The rows are widened a few at a time, so that a pass over them needs no copy of all and stays in
the processor's caches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch

_ROWS = 96
"""That are widened at once."""


class Derivative(NamedTuple):
    """First derivatives at some weights and intercepts, float64.

    Attributes:
        weights: with the penalty, [classes, directions].
        intercepts: [classes].
        chances: probability of each class for each row, [classes, rows].
    """

    weights: torch.Tensor
    intercepts: torch.Tensor
    chances: torch.Tensor


class Exact(ABC):
    """What a problem's rows are, where the coordinates that it is fitted in are rounded."""

    @abstractmethod
    def derivative(
        self, weights: torch.Tensor, free: torch.Tensor, labels: torch.Tensor, penalty: float
    ) -> Derivative:
        """Return the derivative of the penalised loss.

        Args:
            weights: in the coordinates, float64 [classes, directions].
            free: intercepts, float64 [classes].
            labels: class of each row, int64 [rows].
            penalty: on the weights.
        """


@dataclass(frozen=True, slots=True)
class ByFeatures(Exact):
    """The coordinates are the rows.

    Attributes:
        rows: [rows, directions].
    """

    rows: torch.Tensor

    def derivative(
        self, weights: torch.Tensor, free: torch.Tensor, labels: torch.Tensor, penalty: float
    ) -> Derivative:
        """See `Exact.derivative`."""
        found, _ = _derivative(self.rows, weights, free, labels)
        found.weights.add_(weights, alpha=penalty)
        return found


@dataclass(frozen=True, slots=True)
class ByProducts(Exact):
    """Coordinates made of the rows' inner products, which are right.

    Weights w stand for coefficients of the rows: w *factor*^-1, or w *into*'.

    Attributes:
        products: [rows, rows].
        factor: its Cholesky factor, float64; or
        into: float64 [rows, directions].
    """

    products: torch.Tensor
    factor: torch.Tensor | None = None
    into: torch.Tensor | None = None

    def derivative(
        self, weights: torch.Tensor, free: torch.Tensor, labels: torch.Tensor, penalty: float
    ) -> Derivative:
        """See `Exact.derivative`."""
        if self.factor is not None:
            outer = torch.linalg.solve_triangular(self.factor, weights, upper=False, left=False)
        else:
            assert self.into is not None
            outer = weights @ self.into.mT
        found, scores = _derivative(self.products, outer, free, labels)
        # The squared norm of the weights is outer . scores.
        slope = found.weights.add_(scores, alpha=penalty)
        if self.factor is not None:
            slope = torch.linalg.solve_triangular(self.factor.mT, slope, upper=True, left=False)
        else:
            assert self.into is not None
            slope = slope @ self.into
        return found._replace(weights=slope)


def _derivative(
    rows: torch.Tensor, weights: torch.Tensor, free: torch.Tensor, labels: torch.Tensor
) -> tuple[Derivative, torch.Tensor]:
    """Return the derivative without the penalty, and the scores without the intercepts."""
    slope = torch.zeros_like(weights)
    scores = weights.new_empty(len(weights), len(rows))
    chances = torch.empty_like(scores)
    alone = torch.zeros_like(free)
    for start in range(0, len(rows), _ROWS):
        here = slice(start, start + _ROWS)
        wide, own = rows[here].double(), labels[here]
        scores[:, here] = weights @ wide.mT
        chances[:, here] = residual = (scores[:, here] + free.unsqueeze(1)).softmax(dim=0)
        residual[own, torch.arange(len(own))] -= 1
        slope.addmm_(residual, wide)
        alone += residual.sum(dim=1)
    return Derivative(slope, alone, chances), scores
