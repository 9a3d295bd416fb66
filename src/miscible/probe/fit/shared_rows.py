"""Many L2-penalised logistic regressions at once, on different subsets of the same rows.

Cross-fitting trains on overlapping subsets of a few rows. Here all subsets and all label columns of
a layer are one batch, so that the rows are read once a step for all of them and nothing is copied.
With c_i = 1 for the rows of a subset and 0 for others, each problem is

    minimise  sum_i c_i log(1 + exp(-(2 y_i - 1) f_i)) + penalty / 2 |w|^2,   f = X w + b,

X being standardised on the subset and divided by the root of the width, and b not penalised. The
coordinates are those of features standardised on all rows, which no optimum depends on: there the
penalty on w_j is multiplied by the ratio of the two variances.

Newton's method in float64 or float32, its steps from conjugate gradients (Nocedal & Wright,
Numerical Optimization, algorithm 7.1). They are preconditioned with the mean curvature of each
problem times the second moments of all rows, whose eigenvectors all problems of a layer share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import softplus

from miscible.probe.fit.fold_moments import Standardised, inside_of

_EMPTY = 1e-6
"""A direction with less than this fraction of the largest variance is rounding noise of float32."""

_MAX_STEPS = 100
_MAX_PRODUCTS = 500
_MAX_HALVINGS = 30


class Accuracy(NamedTuple):
    """When to stop.

    Attributes:
        step: largest last Newton step in any training score.
        residual: part of a Newton step that conjugate gradients may leave; the error left in the
            scores is about *step* times the sum of *step* and *residual*.
        slack: relative rounding error of a sum of losses.
        precision: of the arithmetic.
    """

    step: float
    residual: float
    slack: float
    precision: torch.dtype


ROUGH = Accuracy(1e-2, 3e-2, 1e-6, torch.float32)
"""To tell penalties apart."""
EXACT = Accuracy(1e-4, 1e-3, 1e-12, torch.float64)
"""To be tested."""


class SharedFits:
    """Fits of some layers without the rows of some folds, warm-started from penalty to penalty."""

    def __init__(
        self,
        states: torch.Tensor,
        folds: torch.Tensor,
        splits: Sequence[tuple[int, ...]],
        accuracy: Accuracy,
    ) -> None:
        """Standardise on the training rows of each split.

        Args:
            states: float32 [layers, rows, width].
            folds: fold of each row.
            splits: for each split, the folds that are left out.
            accuracy: of the solutions, and with it their precision.
        """
        self._rows = SharedRows.of(states, folds, splits, accuracy.precision)
        self._accuracy = accuracy
        self._last: _Newton | None = None

    def solve(
        self, labels: torch.Tensor, penalty: torch.Tensor, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return scores of all rows, [splits, layers, columns, rows].

        Args:
            labels: 0 or 1, [columns, rows].
            penalty: positive, [splits, layers, columns], or a shape that expands to it.
            wanted: which to fit; the others are left as they are, [splits, layers, columns].
        """
        shape = (len(self._rows.inside), len(self._rows.rows), len(labels))
        strength = penalty.expand(shape).transpose(0, 1).flatten(1)
        newton = _Newton(self._rows, labels, strength, self._last)
        if wanted is not None:
            newton.converged = ~wanted.transpose(0, 1).flatten(1)
        for _ in range(_MAX_STEPS):
            newton.step(self._accuracy)
            if newton.converged.all():
                break
        self._last = newton
        scores = newton.scores.double().reshape(shape[1], shape[0], shape[2], -1)
        by_split: torch.Tensor = scores.transpose(0, 1)
        return by_split

    @property
    def finished(self) -> torch.Tensor:
        """Whether the last fits of a layer have all converged, [layers]."""
        assert self._last is not None
        finished: torch.Tensor = self._last.converged.all(dim=1)
        return finished


@dataclass(frozen=True, slots=True)
class SharedRows:
    """Rows of several layers, and which of them each subset has.

    Attributes:
        rows: standardised on all rows and divided by the root of the width,
            [layers, rows, width].
        inside: 1 for the rows of a subset, 0 for others, [subsets, rows].
        ratio: variance of each feature in a subset over that in all rows; 0 for a feature that is
            constant in the subset and has no weight there, [layers, subsets, width].
        vectors, spectrum: eigenvectors of the mean second moments of all rows,
            [layers, width, directions], and eigenvalues, [layers, directions].
    """

    rows: torch.Tensor
    inside: torch.Tensor
    ratio: torch.Tensor
    vectors: torch.Tensor
    spectrum: torch.Tensor

    @classmethod
    def of(
        cls,
        states: torch.Tensor,
        folds: torch.Tensor,
        splits: Sequence[tuple[int, ...]],
        precision: torch.dtype,
    ) -> SharedRows:
        """Take the rows of each split; see `Standardised.of`."""
        held = Standardised.of(states, folds, splits, precision)
        bases = [_eigenvectors(layer) for layer in held.rows.float()]
        vectors, spectrum = (torch.stack(part) for part in zip(*bases, strict=True))
        others = (inside_of(folds, splits), held.ratio, vectors, spectrum)
        return cls(held.rows, *(part.to(precision) for part in others))


def _eigenvectors(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    count, width = rows.shape
    if count >= width:
        values, vectors = torch.linalg.eigh(rows.mT @ rows)
        return vectors, values.clamp_(min=0) / count
    values, vectors = torch.linalg.eigh(rows @ rows.mT)
    sound = values > _EMPTY * values[-1]
    inverse = torch.where(sound, values, 1.0).rsqrt() * sound
    return rows.mT @ (vectors * inverse), values * sound / count


class _Newton:
    """The state of all problems of a batch."""

    def __init__(
        self,
        shared: SharedRows,
        labels: torch.Tensor,
        penalty: torch.Tensor,
        start: _Newton | None = None,
    ) -> None:
        """Begin at other solutions, or at zeros.

        Args:
            shared: rows and subsets.
            labels: 0 or 1, [columns, rows].
            penalty: positive, [layers, subsets * columns].
            start: of the same shapes.
        """
        rows = shared.rows
        columns, subsets = len(labels), len(shared.inside)
        self._rows = rows
        self._labels = labels.to(rows.dtype).repeat(subsets, 1)
        self._inside = shared.inside.repeat_interleave(columns, dim=0)
        self._penalty = penalty.to(rows.dtype).unsqueeze(-1)
        ratio = shared.ratio.repeat_interleave(columns, dim=1)
        self._ridge = self._penalty * ratio
        self._free = (ratio > 0).to(rows.dtype)
        self._vectors, self._spectrum = shared.vectors, shared.spectrum.unsqueeze(1)
        if start is None:
            self.weights = rows.new_zeros(*penalty.shape, rows.shape[2])
            self.intercept = rows.new_zeros(penalty.shape)
            self.scores = rows.new_zeros(*penalty.shape, rows.shape[1])
        else:
            self.weights, self.intercept = start.weights, start.intercept
            self.scores = start.scores
        self.converged = torch.zeros(penalty.shape, dtype=torch.bool)

    def step(self, accuracy: Accuracy) -> None:
        """Take a Newton step of every problem that has not converged."""
        chance = self.scores.sigmoid()
        curvature = self._inside * chance * (1 - chance)
        residual = self._inside * (chance - self._labels)
        slope = -(residual @ self._rows + self._ridge * self.weights) * self._free
        change, shift = self._direction(curvature, slope, -residual.sum(dim=-1), accuracy.residual)
        scores = change @ self._rows.mT + shift.unsqueeze(-1)
        size = self._halved(change, scores, accuracy.slack)
        self.weights = self.weights + size * change
        self.intercept = self.intercept + size.squeeze(-1) * shift
        self.scores = self.scores + size * scores
        largest = (self._inside * scores).abs().amax(dim=-1)
        self.converged = self.converged | (largest < accuracy.step)

    def _direction(
        self, curvature: torch.Tensor, slope: torch.Tensor, free: torch.Tensor, part: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Solve for the Newton step of weights and intercepts by conjugate gradients."""
        total = curvature.sum(dim=-1).clamp_(min=1e-12)
        inverse = 1 / (total.unsqueeze(-1) * self._spectrum + self._penalty)
        whole = self._vectors.shape[1] == self._vectors.shape[2]

        def preconditioned(vector: torch.Tensor) -> torch.Tensor:
            inner = vector @ self._vectors
            if whole:
                outer = (inner * inverse) @ self._vectors.mT
            else:
                inner = inner * (inverse - 1 / self._penalty)
                outer = inner @ self._vectors.mT + vector / self._penalty
            return outer * self._free

        change, shift = torch.zeros_like(slope), torch.zeros_like(free)
        rest, rest_free = slope, free
        ahead, ahead_free = preconditioned(rest), rest_free / total
        length = _dot(rest, ahead) + rest_free * ahead_free
        goal = part**2 * length
        going = ~self.converged & (length > 0)
        for _ in range(_MAX_PRODUCTS):
            if not going.any():
                break
            image = ahead @ self._rows.mT + ahead_free.unsqueeze(-1)
            image.mul_(curvature)
            bent = torch.addcmul(image @ self._rows, self._ridge, ahead) * self._free
            bent_free = image.sum(dim=-1)
            bending = _dot(ahead, bent) + ahead_free * bent_free
            size = torch.where(going & (bending > 0), length / bending, 0.0)
            change = torch.addcmul(change, size.unsqueeze(-1), ahead)
            shift = shift + size * ahead_free
            rest = torch.addcmul(rest, size.unsqueeze(-1), bent, value=-1)
            rest_free = rest_free - size * bent_free
            near, near_free = preconditioned(rest), rest_free / total
            left = _dot(rest, near) + rest_free * near_free
            going = going & (left > goal) & (bending > 0)
            turn = torch.where(going, left / length, 0.0)
            length = torch.where(going, left, length)
            ahead = torch.addcmul(near, turn.unsqueeze(-1), ahead)
            ahead_free = torch.addcmul(near_free, turn, ahead_free)
        return change, shift

    def _halved(self, change: torch.Tensor, scores: torch.Tensor, slack: float) -> torch.Tensor:
        """Return the step sizes, 1 or halved until the objective does not rise."""
        before = self._objective(self.weights, self.scores)
        allowed = before + slack * (1 + before.abs())
        size = torch.ones_like(self._penalty)
        for _ in range(_MAX_HALVINGS):
            after = self._objective(self.weights + size * change, self.scores + size * scores)
            worse = after > allowed
            if not worse.any():
                break
            size = torch.where(worse.unsqueeze(-1), size / 2, size)
        return size

    def _objective(self, weights: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        losses = self._inside * (softplus(scores) - self._labels * scores)
        return losses.sum(dim=-1, dtype=torch.float64) + _dot(self._ridge * weights, weights) / 2


def _dot(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (left * right).sum(dim=-1)
