"""Which penalty fits the development rows best, for many layers and label columns at once.

The path runs from the strongest penalty to the weakest, each solution the start of the next. Its
solutions need only be good enough to tell the penalties apart, so it runs to a loose tolerance.
Every solution comes with a bound r on its distance to the optimum, and the development
loss L is convex in the weights, so the optimum's loss is within about r |grad L| of the one found.
Penalties whose losses are closer than such margins are solved to tighter tolerances before one is
chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from miscible.probe.fit.coordinates import Coordinates
from miscible.probe.fit.linear import PASSED, SETTLED
from miscible.probe.fit.multinomial import Fits, Problems, log_probabilities

LOOSE, CLOSER = 0.1, (0.03, 0.01, 0.003)
TIGHT = 2e-5
"""Bounds on the error of the weights, relative to their norm. Scores at the tight one
are within 1e-4 of the exact ones, relative to the largest, on real hidden states."""

_LOSS_ERROR = 0.3
"""Largest relative error of a development loss, in units of the tolerance. The bound holds always
but is 100 times too wide at weak penalties; on real hidden states the error was at most 0.06."""

_ROUNDING = 1e-12
"""Losses that differ by a smaller part are equal."""


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


class _Fit(NamedTuple):
    """Solutions, bounds on their error, their development losses and the margins of these."""

    weights: torch.Tensor
    error: torch.Tensor
    loss: torch.Tensor
    margin: torch.Tensor


class Walked(NamedTuple):
    """Fits along a path, to the loose tolerance.

    Attributes:
        losses: development log-losses in nats, inf where the path did not go,
            [problems, penalties].
        margins: of the losses.
        weights: float32 [problems, penalties, classes, directions + 1].
    """

    losses: torch.Tensor
    margins: torch.Tensor
    weights: torch.Tensor


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
        places: Coordinates,
        labels: torch.Tensor,
        train: int,
        dev: int,
        classes: int,
        penalties: Sequence[float],
    ) -> None:
        """Take *train* rows to fit, then *dev* rows to choose on.

        Args:
            places: of the rows of some layers.
            labels: of all these rows, int64 [columns, rows].
            train, dev: numbers of rows.
            classes: number of classes.
            penalties: strongest first.
        """
        layers, columns = len(places.training), len(labels)
        repeated = labels.repeat(layers, 1)
        own, marks = repeated[:, :train], repeated[:, train : train + dev]
        self._penalties = torch.tensor(penalties, dtype=torch.float64)
        self._classes = classes
        self._layer = torch.arange(layers).repeat_interleave(columns)
        self._fits = Fits(Problems(places, self._layer, own, classes))
        self._held, self._marks = places.others[:, :dev], marks
        counts = torch.zeros(len(repeated), classes, dtype=torch.int64)
        counts.scatter_add_(1, own, torch.ones_like(own))
        # Rows of classes that no training row has say nothing about the penalty.
        self._known = counts.gather(1, marks) > 0
        self.unseen = (counts == 0).sum(dim=1)
        self.unknown = (~self._known).sum(dim=1)

    def choose(self, whole_grid: bool = False) -> Chosen:
        """Choose the penalty of least development log-loss; the strongest of equals.

        Args:
            whole_grid: go on where `PASSED` would end the path.
        """
        walked = self.walk(len(self._penalties) if whole_grid else 0)
        left = self._parted(walked)
        _, margins, weights = walked
        problem, penalty = _candidates(left, margins)
        found = self._fit(problem, penalty, TIGHT, weights[problem, penalty])
        left.fill_(torch.inf)[problem, penalty] = found.loss
        margins[problem, penalty] = found.margin
        best = _strongest(left, margins)
        picked = (best[problem] == penalty).nonzero().squeeze(1)
        return Chosen(found.weights[picked], best, found.error[picked] <= TIGHT, walked.losses)

    def least(self, walked: Walked) -> torch.Tensor:
        """Return the penalty of least development log-loss, index [problems].

        Losses that are not told apart by the tolerances of `CLOSER` are equal: the strongest.
        """
        return _strongest(self._parted(walked), walked.margins)

    def _parted(self, walked: Walked) -> torch.Tensor:
        """Return losses after closer fits of rivals, inf for penalties that are ruled out."""
        left, (_, margins, weights) = walked.losses.clone(), walked
        for tolerance in CLOSER:
            problem, penalty = _candidates(left, margins)
            rivals = problem.bincount(minlength=len(left)) > 1
            if not rivals.any():
                break
            if tolerance != CLOSER[-1]:
                rivals &= _parting(left) >= tolerance
            problem, penalty = problem[rivals[problem]], penalty[rivals[problem]]
            if not len(problem):
                continue
            found = self._fit(problem, penalty, tolerance, weights[problem, penalty])
            weights[problem, penalty] = found.weights.to(weights.dtype)
            left[problem, penalty], margins[problem, penalty] = found.loss, found.margin
        return left

    def walk(self, at_least: torch.Tensor | int = 0) -> Walked:
        """Solve along the path to the loose tolerance.

        Args:
            at_least: index of a penalty that each problem must reach, [problems] or one for all.
        """
        going = torch.arange(len(self._layer))
        losses = torch.full((len(going), len(self._penalties)), torch.inf, dtype=torch.float64)
        margins = torch.zeros_like(losses)
        size = self._held.shape[2] + 1
        weights = torch.empty(*losses.shape, self._classes, size, dtype=torch.float32)
        for number in range(len(self._penalties)):
            penalty = torch.full_like(going, number)
            found = self._fit(going, penalty, LOOSE)
            weights[going, number] = found.weights.to(weights.dtype)
            losses[going, number], margins[going, number] = found.loss, found.margin
            kept = found.loss <= PASSED * losses[going].amin(dim=1)
            kept &= found.loss > SETTLED * self._known.sum(dim=1)[going]
            kept |= torch.as_tensor(at_least).expand(len(losses))[going] > number
            going = going[kept]
            if not len(going):
                break
        return Walked(losses, margins, weights)

    def losses_at(self, penalty: torch.Tensor, walked: Walked) -> torch.Tensor:
        """Return development log-losses in nats at one penalty of each problem, [problems].

        Args:
            penalty: index, [problems].
            walked: which must have been there.
        """
        every = torch.arange(len(penalty))
        start = walked.weights[every, penalty]
        return self._fit(every, penalty, CLOSER[-1], start).loss

    def log_probabilities(self, weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities at other rows, [problems, classes, rows]."""
        return log_probabilities(weights, rows, self._layer)

    def _fit(
        self,
        problem: torch.Tensor,
        penalty: torch.Tensor,
        tolerance: float,
        start: torch.Tensor | None = None,
    ) -> _Fit:
        found = self._fits.solve(problem, self._penalties[penalty], tolerance, start)
        layer, known = self._layer[problem], self._known[problem].unsqueeze(1)
        logs = log_probabilities(found.weights, self._held, layer)
        own = self._marks[problem].unsqueeze(1)
        losses = torch.where(known, -logs.gather(1, own), 0.0)
        residual = logs.exp()
        residual.scatter_add_(1, own, -torch.ones_like(losses))
        residual *= known
        slope = torch.stack(
            [
                (each.to(self._held.dtype) @ self._held[at]).norm()
                for each, at in zip(residual, layer.tolist(), strict=True)
            ]
        )
        free = residual.sum(dim=2).norm(dim=1)
        norm = found.weights[..., :-1].flatten(1).norm(dim=1)
        bound = found.error * (slope * norm + free * (1 + norm))
        loss = losses.double().sum(dim=(1, 2))
        reached = found.error.clamp(min=tolerance)
        margin = torch.minimum(bound, _LOSS_ERROR * reached * loss)
        return _Fit(found.weights, found.error, loss, torch.maximum(margin, _ROUNDING * loss))


def _candidates(losses: torch.Tensor, margins: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return problems (ascending) and penalties that may have the least loss; rule out the rest."""
    ceiling = (losses + margins).amin(dim=1, keepdim=True)
    losses.masked_fill_(losses - margins > ceiling, torch.inf)
    problem, penalty = losses.isfinite().nonzero(as_tuple=True)
    return problem, penalty


def _strongest(losses: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
    """Return the strongest penalty, the first, that may have the least loss, [problems]."""
    ceiling = (losses + margins).amin(dim=1, keepdim=True)
    return (losses - margins <= ceiling).to(torch.uint8).argmax(dim=1)


def _parting(losses: torch.Tensor) -> torch.Tensor:
    """Return the tolerance at which the margins of the two least losses part, [problems]."""
    first, second = losses.topk(2, dim=1, largest=False).values.unbind(dim=1)
    return (second - first) / (_LOSS_ERROR * (first + second))
