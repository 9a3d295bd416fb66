"""Many L2-penalised multinomial logistic regressions, each to a proven accuracy.

Those of few directions are fitted together by Newton's method (`miscible.probe.fit.newton`), those
of two classes and few rows by their inner products (`miscible.probe.fit.binary`), others one after
the other (`miscible.probe.fit.descent`, where the objective is written down).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from miscible.probe.fit.binary import MOST_ROWS, BinaryFits
from miscible.probe.fit.coordinates import Coordinates
from miscible.probe.fit.descent import Descent
from miscible.probe.fit.newton import LARGEST, newton


@dataclass(frozen=True, slots=True)
class Problems:
    """A batch of problems, each with the rows of one layer and the labels of one column.

    Attributes:
        coordinates: of the rows of each layer.
        layer: layer of each problem, ascending, int64 [problems].
        labels: int64 [problems, rows].
        classes: number of classes. Those that no row of a problem bears get no probability.
    """

    coordinates: Coordinates
    layer: torch.Tensor
    labels: torch.Tensor
    classes: int


@dataclass(frozen=True, slots=True)
class Solution:
    """Solutions of some problems.

    Attributes:
        weights: float64 [problems, classes, directions + 1], the last one the intercept, which is
            -inf for classes without rows.
        error: bound on the distance of the penalised weights to the optimum, in units of their
            norm, [problems]. The root mean square row has norm 1 at most, so the root mean square
            error of a score is at most this times the norm of the weights.
    """

    weights: torch.Tensor
    error: torch.Tensor


class Fits:
    """Fits of a batch of problems: each goes on from its last one, whatever was asked for."""

    def __init__(self, problems: Problems) -> None:
        """Take the problems; nothing is fitted yet."""
        self._problems = problems
        self._descents: dict[int, Descent] = {}
        counts = torch.zeros(len(problems.layer), problems.classes, dtype=torch.float64)
        counts.scatter_add_(1, problems.labels, counts.new_ones(problems.labels.shape))
        self._shares = counts / problems.labels.shape[1]
        rows, size = problems.coordinates.training.shape[1:]
        few_rows = problems.classes == 2 and rows <= MOST_ROWS
        self._binary = BinaryFits(problems.coordinates.training) if few_rows else None
        self._small = size * problems.classes <= LARGEST
        self._last = counts.new_zeros(*counts.shape, size + 1 if self._small else 0)
        if self._small:
            self._last[..., -1] = self._shares.log()

    def solve(
        self,
        which: torch.Tensor,
        penalty: torch.Tensor,
        tolerance: float,
        start: torch.Tensor | None = None,
    ) -> Solution:
        """Solve problems until the bound on each error is at most *tolerance*.

        Args:
            which: indices of problems, ascending, [asked].
            penalty: positive, [asked]. If two classes occur it counts twice, so that it is the
                penalty of a binary regression with the difference of the weights.
            tolerance: largest `Solution.error`; missed only where thousands of steps do not do.
            start: weights to start from, [asked, classes, directions + 1]; None for those of each
                problem's last fit, at first the log-frequencies of the classes.
        """
        problems, shares = self._problems, self._shares[which]
        if self._binary is not None and bool((shares > 0).all()):
            # A binary regression on the difference of both weights, each other's negative.
            found = self._binary.solve(problems.layer[which], problems.labels[which], penalty)
            half = torch.cat([found.weights, found.intercepts.unsqueeze(1)], dim=1) / 2
            error = torch.where(found.converged, 0.0, torch.inf)
            return Solution(torch.stack([-half, half], dim=1), error.double())
        if self._small:
            rows = problems.coordinates.training[problems.layer[which]]
            labels = problems.labels[which]
            start = self._last[which] if start is None else start
            weights, error = newton(rows.double(), labels, penalty, start, shares, tolerance)
            weights[..., -1].masked_fill_(shares == 0, -torch.inf)
            self._last[which] = weights
            return Solution(weights, error)
        starts = [None] * len(which) if start is None else list(start)
        fitted = [
            self._descent(each).fit(strength, tolerance, from_here)
            for each, strength, from_here in zip(
                which.tolist(), penalty.tolist(), starts, strict=True
            )
        ]
        weights = torch.stack([weights for weights, _ in fitted])
        return Solution(weights, torch.tensor([error for _, error in fitted], dtype=torch.float64))

    def _descent(self, which: int) -> Descent:
        if which not in self._descents:
            problems = self._problems
            self._descents[which] = Descent(
                problems.coordinates, int(problems.layer[which]), problems.labels[which],
                problems.classes,
            )  # fmt: skip
        return self._descents[which]


def log_probabilities(
    weights: torch.Tensor, rows: torch.Tensor, layer: torch.Tensor
) -> torch.Tensor:
    """Return log-probabilities of the classes at rows, float64 [problems, classes, rows].

    Args:
        weights: of a `Solution`.
        rows: in the coordinates that the weights were fitted in, [layers, rows, directions].
        layer: of each problem.
    """
    # The intercept may be -inf; a product must not meet it beside a 0.
    held = weights[..., :-1].to(rows.dtype)
    scores = [each @ rows[at].mT for each, at in zip(held, layer.tolist(), strict=True)]
    return (torch.stack(scores).double() + weights[..., -1:]).log_softmax(dim=1)
