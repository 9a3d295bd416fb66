"""Binary problems of few rows, each by one compiled call on the inner products of its rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from miscible.probe.fit.gram_kernels import fit_all
from miscible.probe.fit.shared_rows import EXACT

MOST_ROWS = 120
"""Up to which inner products are the cheaper."""


class BinarySolution(NamedTuple):
    """Logistic regressions with a free intercept, float64.

    Attributes:
        weights: [problems, directions].
        intercepts: [problems].
        converged: [problems].
    """

    weights: torch.Tensor
    intercepts: torch.Tensor
    converged: torch.Tensor


class BinaryFits:
    """Fits to the rows of some layers."""

    def __init__(self, rows: torch.Tensor) -> None:
        """Take rows, [layers, rows, directions]."""
        self._rows = rows.double()
        self._grams = (self._rows @ self._rows.mT).flatten(1).numpy()

    def solve(
        self, layer: torch.Tensor, labels: torch.Tensor, penalty: torch.Tensor
    ) -> BinarySolution:
        """Fit to convergence.

        Args:
            layer: of each problem, [problems].
            labels: 0 or 1, both of which occur, [problems, rows].
            penalty: positive, on half the squared norm of the weights, [problems].
        """
        problems, count = labels.shape
        coefficients, scores = torch.zeros(2, problems, 1, 1, count, dtype=torch.float64)
        intercepts = torch.zeros(problems, 1, 1, dtype=torch.float64)
        converged = torch.zeros(problems, 1, 1, dtype=torch.bool)
        marks, strength = labels.double().unsqueeze(1), penalty.double().view(-1, 1, 1)
        held = (marks, strength, coefficients, intercepts, scores, converged)
        start, every, size = np.zeros(1, np.int64), np.arange(count)[None], np.array([count])
        for at, *problem in zip(layer.tolist(), *(part.numpy() for part in held), strict=True):
            fit_all(self._grams[at], start, every, size, *problem, EXACT.step, EXACT.residual)
        weights = (coefficients.view(problems, 1, count) @ self._rows[layer]).squeeze(1)
        return BinarySolution(weights, intercepts.flatten(), converged.flatten())
