"""Which penalty fits the development rows best, for many layers and label columns at once.

The path runs from the strongest penalty to the weakest, each solution the start of the next. Its
solutions need only be good enough to tell the penalties apart, so it runs in float32 to a loose
tolerance. Every solution comes with a bound r on its distance to the optimum, and the development
loss L is convex in the weights, so the optimum's loss is within about r |grad L| of the one found.
Penalties whose losses are closer than such margins are solved to tighter tolerances, the last one
in float64, before one is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from miscible.probe.fit.eigenbasis import Eigenbasis
from miscible.probe.fit.linear import PASSED, SETTLED
from miscible.probe.fit.multinomial import Problems, initial, log_probabilities, solve

LOOSE, CLOSER, TIGHT = 0.1, (0.03, 0.003, 2e-5), 2e-5
"""Bounds on the error of the weights, relative to their norm. Scores at the tight one
are within 1e-4 of the exact ones, relative to the largest, on real hidden states."""

_PATIENCE = 10
"""Steps in float32 without a lower bound on the error, after which float64 takes over."""

_LOSS_ERROR = 0.3
"""Largest relative error of a development loss, in units of the tolerance. The bound holds always
but is 100 times too wide at weak penalties; on real hidden states the error was at most 0.06."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The fit of each problem at its chosen penalty.

    Attributes:
        weights: float64 [problems, classes, directions + 1].
        penalty: index of the chosen penalty, [problems].
        converged: whether the bound on the error is at most `TIGHT`, [problems].
        losses: development log-loss along the path in nats, summed over rows, inf where the path
            did not go, [problems, penalties].
    """

    weights: torch.Tensor
    penalty: torch.Tensor
    converged: torch.Tensor
    losses: torch.Tensor


class _Rows(NamedTuple):
    """The rows to fit and the development rows, in one precision."""

    fitted: Problems
    held: Problems


class _Fit(NamedTuple):
    """Solutions, bounds on their error, their development losses and the margins of these."""

    weights: torch.Tensor
    error: torch.Tensor
    loss: torch.Tensor
    margin: torch.Tensor


class PenaltyPath:
    """Fits of every layer and label column at penalties of a grid.

    Problems are ordered by layer, then by column. A development row whose class no training row
    bears does not count in a loss.

    Attributes:
        unseen: number of classes without training rows, [problems].
        unknown: number of development rows of such classes, [problems].
    """

    def __init__(
        self,
        basis: Eigenbasis,
        labels: torch.Tensor,
        train: int,
        dev: int,
        classes: int,
        penalties: Sequence[float],
    ) -> None:
        """Take the rows of a basis: *train* rows to fit, then *dev* rows to choose on.

        Args:
            basis: of some layers.
            labels: of all rows of the basis, int64 [columns, rows].
            train, dev: numbers of rows.
            classes: number of classes.
            penalties: strongest first.
        """
        layers, columns = len(basis.rows), len(labels)
        repeated = labels.repeat(layers, 1)
        self._penalties = torch.tensor(penalties, dtype=torch.float64)
        fitted = Problems(
            basis.rows[:, :train],
            basis.spectrum,
            torch.arange(layers).repeat_interleave(columns),
            repeated[:, :train],
            classes,
            self._penalties[:1].expand(layers * columns),
        )
        rows, marks = basis.rows[:, train : train + dev], repeated[:, train : train + dev]
        held = replace(fitted, rows=rows, labels=marks)
        self._double = _Rows(fitted, held)
        self._single = _Rows(_single(fitted), _single(held))
        counts = torch.zeros(len(repeated), classes, dtype=torch.int64)
        counts.scatter_add_(1, fitted.labels, torch.ones_like(fitted.labels))
        # Rows of classes that no training row has say nothing about the penalty.
        self._known = counts.gather(1, held.labels) > 0
        self.unseen = (counts == 0).sum(dim=1)
        self.unknown = (~self._known).sum(dim=1)

    def choose(self, whole_grid: bool = False) -> Chosen:
        """Choose the penalty of least development log-loss; the strongest of equals.

        Args:
            whole_grid: go on where `PASSED` would end the path.
        """
        losses, margins, weights = self.walk(len(self._penalties) if whole_grid else 0)
        left = losses.clone()
        for tolerance in CLOSER:
            problem, penalty = _candidates(left, margins)
            if tolerance != CLOSER[-1]:
                rivals = problem.bincount(minlength=len(left))[problem] > 1
                problem, penalty = problem[rivals], penalty[rivals]
                if not len(problem):
                    continue
            found = self._fit(self._single, problem, penalty, weights[problem, penalty], tolerance)
            weights[problem, penalty] = found.weights
            left[problem, penalty], margins[problem, penalty] = found.loss, found.margin
        problem, penalty = _candidates(left, margins)
        start = weights[problem, penalty].double()
        found = self._fit(self._double, problem, penalty, start, TIGHT)
        left.fill_(torch.inf)[problem, penalty] = found.loss
        # argmin keeps the first of equals, which is the strongest penalty.
        best = left.argmin(dim=1)
        picked = (best[problem] == penalty).nonzero().squeeze(1)
        return Chosen(found.weights[picked], best, found.error[picked] <= TIGHT, losses)

    def walk(
        self, at_least: torch.Tensor | int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Solve along the path to the loose tolerance.

        Args:
            at_least: index of a penalty that each problem must reach, [problems] or one for all.

        Returns:
            development log-losses in nats, their margins, and weights, each
            [problems, penalties, ...]; losses are inf where the path did not go.
        """
        current = initial(self._single.fitted)
        going = torch.arange(len(current))
        losses = torch.full((len(current), len(self._penalties)), torch.inf, dtype=torch.float64)
        margins = torch.zeros_like(losses)
        weights = current.new_empty(*losses.shape, *current.shape[1:])
        for number in range(len(self._penalties)):
            penalty = torch.full_like(going, number)
            found = self._fit(self._single, going, penalty, current, LOOSE)
            weights[going, number] = found.weights
            losses[going, number], margins[going, number] = found.loss, found.margin
            kept = found.loss <= PASSED * losses[going].amin(dim=1)
            kept &= found.loss > SETTLED * self._known.sum(dim=1)[going]
            kept |= torch.as_tensor(at_least).expand(len(losses))[going] > number
            going, current = going[kept], found.weights[kept]
            if not len(going):
                break
        return losses, margins, weights

    def losses_at(self, penalty: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return development log-losses in nats at one penalty of each problem, [problems].

        Args:
            penalty: index, [problems].
            weights: of `walk`, which must have been there.
        """
        every = torch.arange(len(penalty))
        start = weights[every, penalty]
        return self._fit(self._single, every, penalty, start, CLOSER[1]).loss

    def log_probabilities(self, weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities at other rows of the basis, [problems, classes, rows]."""
        return log_probabilities(weights, replace(self._double.fitted, rows=rows))

    def _fit(
        self,
        rows: _Rows,
        problem: torch.Tensor,
        penalty: torch.Tensor,
        start: torch.Tensor,
        tolerance: float,
    ) -> _Fit:
        strength = self._penalties[penalty].to(start.dtype)
        wanted = _select(rows.fitted, problem, strength)
        last = tolerance == CLOSER[-1] and start.dtype == torch.float32
        solution = solve(wanted, start, tolerance, *([_PATIENCE] if last else []))
        held, known = _select(rows.held, problem, strength), self._known[problem].unsqueeze(1)
        logs = log_probabilities(solution.weights, held)
        own = held.labels.unsqueeze(1)
        losses = torch.where(known, -logs.gather(1, own), 0.0)
        residual = logs.exp()
        residual.scatter_add_(1, own, -torch.ones_like(losses))
        residual *= known
        slope = torch.stack(
            [
                (each @ held.rows[layer]).norm()
                for each, layer in zip(residual, held.layer, strict=True)
            ]
        )
        norm = solution.weights[..., :-1].flatten(1).norm(dim=1)
        loss = losses.double().sum(dim=(1, 2))
        reached = solution.error.double().clamp(min=tolerance)
        margin = torch.minimum(slope * solution.error * norm, _LOSS_ERROR * reached * loss)
        return _Fit(solution.weights, solution.error, loss, margin)


def _candidates(losses: torch.Tensor, margins: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return problems (ascending) and penalties that may have the least loss; rule out the rest."""
    ceiling = (losses + margins).amin(dim=1, keepdim=True)
    losses.masked_fill_(losses - margins > ceiling, torch.inf)
    problem, penalty = losses.isfinite().nonzero(as_tuple=True)
    return problem, penalty


def _single(problems: Problems) -> Problems:
    return replace(
        problems,
        rows=problems.rows.float(),
        spectrum=problems.spectrum.float(),
        penalty=problems.penalty.float(),
    )


def _select(problems: Problems, which: torch.Tensor, penalty: torch.Tensor) -> Problems:
    return replace(
        problems, layer=problems.layer[which], labels=problems.labels[which], penalty=penalty
    )
