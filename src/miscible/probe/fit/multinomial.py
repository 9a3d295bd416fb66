"""Many L2-penalised multinomial logistic regressions, each to a proven accuracy.

Small ones are fitted together by Newton's method (`miscible.probe.fit.newton`), others one after
the other (`miscible.probe.fit.descent`, where the objective is written down).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from miscible.probe.fit.descent import Descent
from miscible.probe.fit.eigenbasis import Eigenbasis
from miscible.probe.fit.newton import is_small, newton

_SMALL = 1000
"""Directions times classes up to which float64 costs too little to do without."""


def precision_for(rows: int, width: int, classes: int) -> torch.dtype:
    """Return the precision in which problems want the eigenbasis of their rows."""
    return torch.float64 if min(rows, width) * classes <= _SMALL else torch.float32


@dataclass(frozen=True, slots=True)
class Problems:
    """A batch of problems, each with the rows of one layer and the labels of one column.

    Attributes:
        basis: eigenbasis of the rows of each layer, in the precision of `precision_for`.
        layer: layer of each problem, ascending, int64 [problems].
        labels: int64 [problems, rows].
        classes: number of classes. Those that no row of a problem bears get no probability.
    """

    basis: Eigenbasis
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

    def initial(self) -> torch.Tensor:
        """Return weights that give every row the log-frequencies of the classes."""
        count, size = len(self._problems.layer), self._problems.basis.spectrum.shape[1] + 1
        weights = self._shares.new_zeros(count, self._problems.classes, size)
        weights[..., -1] = self._shares.log()
        return weights

    def solve(
        self, which: torch.Tensor, penalty: torch.Tensor, start: torch.Tensor, tolerance: float
    ) -> Solution:
        """Solve problems until the bound on each error is at most *tolerance*.

        Args:
            which: indices of problems, ascending, [asked].
            penalty: positive, [asked]. If two classes occur it counts twice, so that it is the
                penalty of a binary regression with the difference of the weights.
            start: weights to start from, [asked, classes, directions + 1].
            tolerance: largest `Solution.error`; missed only where thousands of steps do not do.
        """
        problems, shares = self._problems, self._shares[which]
        small = is_small(problems.basis.training.shape[2], problems.classes)
        if small and (problems.classes > 2 or bool((shares > 0).all())):
            rows = problems.basis.training[problems.layer[which]]
            labels = problems.labels[which]
            weights, error = newton(rows, labels, penalty, start, shares, tolerance)
            weights[..., -1].masked_fill_(shares == 0, -torch.inf)
            return Solution(weights, error)
        found = [
            self._descent(each).fit(strength, from_here, tolerance)
            for each, strength, from_here in zip(
                which.tolist(), penalty.tolist(), start, strict=True
            )
        ]
        weights = torch.stack([weights for weights, _ in found])
        return Solution(weights, torch.tensor([error for _, error in found], dtype=torch.float64))

    def _descent(self, which: int) -> Descent:
        if which not in self._descents:
            problems = self._problems
            self._descents[which] = Descent(
                problems.basis, int(problems.layer[which]), problems.labels[which],
                problems.classes,
            )  # fmt: skip
        return self._descents[which]


def log_probabilities(
    weights: torch.Tensor, rows: torch.Tensor, layer: torch.Tensor
) -> torch.Tensor:
    """Return log-probabilities of the classes at rows, float64 [problems, classes, rows].

    Args:
        weights: of a `Solution`.
        rows: in the basis that the weights were fitted in, [layers, rows, directions].
        layer: of each problem.
    """
    # The intercept may be -inf; a product must not meet it beside a 0.
    held = weights[..., :-1].to(rows.dtype)
    scores = [each @ rows[at].mT for each, at in zip(held, layer.tolist(), strict=True)]
    return (torch.stack(scores).double() + weights[..., -1:]).log_softmax(dim=1)
