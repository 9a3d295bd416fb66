"""Derivatives of multinomial losses in float64.

Rows that are held in float32 are widened a few at a time, so that a pass over them needs no copy
of all and stays in the processor's caches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_ROWS = 96
"""That are widened at once."""


class Derivative(NamedTuple):
    """First derivatives at some weights and intercepts, float64.

    Attributes:
        weights: [classes, directions].
        intercepts: [classes].
        chances: probability of each class for each row, [classes, rows].
    """

    weights: torch.Tensor
    intercepts: torch.Tensor
    chances: torch.Tensor


def derivative(
    rows: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    intercepts: torch.Tensor,
    penalty: float,
) -> Derivative:
    """Return the derivative of the penalised loss.

    Args:
        rows: [rows, directions].
        labels: class of each row, int64 [rows].
        weights: float64 [classes, directions].
        intercepts: float64 [classes].
        penalty: on half the squared norm of the weights.
    """
    slope, alone = weights * penalty, torch.zeros_like(intercepts)
    chances = weights.new_empty(len(weights), len(rows))
    for start in range(0, len(rows), _ROWS):
        here = slice(start, start + _ROWS)
        wide, own = rows[here].double(), labels[here]
        residual = torch.addmm(intercepts.unsqueeze(1), weights, wide.mT).softmax(dim=0)
        chances[:, here] = residual
        residual[own, torch.arange(len(own))] -= 1
        slope.addmm_(residual, wide)
        alone += residual.sum(dim=1)
    return Derivative(slope, alone, chances)
