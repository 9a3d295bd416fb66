"""One L2-penalised multinomial regression, fitted to a proven accuracy.

With rows x, labels y, and weights w_c and intercept b_c of each class c that occurs, it is

    minimise  sum_i -log softmax(W x_i + b)[y_i] + penalty / 2 sum_c |w_c|^2.

With S the second moments of the rows, the Hessian of class c is close to

    mean_i p_ic (1 - p_ic) S + penalty:

the bound of Boehning (1992, Annals of the Institute of Statistical Mathematics 44, 197-200),
1/2 (I - 11'/C) kron X'X, with the curvature that the class has now instead of the largest that it
can have. Its diagonal preconditions L-BFGS in float32, and then, for the last digits, Newton
steps: the gradient in float64, the step by conjugate gradients in float32. Where these take long
the rows are rotated so that S is diagonal (`miscible.probe.fit.coordinates`).

The penalised objective is strongly convex, so the distance to the optimum is at most the norm of
the gradient divided by the penalty. Fitting stops when that bound is small: convergence is proven,
not inferred from small steps.

The problem is fitted alone, not in a batch, because then its rows stay in the processor's second
cache from one product to the next; that makes a product two to three times as fast.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from miscible.probe.fit.conjugate_kernels import bend, follow
from miscible.probe.fit.coordinates import Coordinates
from miscible.probe.fit.exact import derivative
from miscible.probe.fit.small_descent import MOST_PRODUCTS, descend_whole, slow
from miscible.probe.fit.softmax_kernels import (
    FLAT,
    advance,
    descend,
    differentiate,
    finish_gradient,
    remember,
    shift,
)

_BELIEVED = 1e-3
"""Errors below it are not believed of float32: the gradient is taken in float64."""
_MARGIN = 0.7
"""Part of the tolerance to which float32 goes, so that float64 finds the error below it."""

_PAIRS = 8
_MAX_STEPS = 3000
_WINDOW = 20
"""Steps that must halve the bound on the error; if they do not, another way is tried: Newton's
method if the optimum is near, rotated rows if it is not."""
_NEAR = 0.1
_MAX_NEWTON = 60
_NEWTON_PATIENCE = 8
_MAX_PRODUCTS = 300
_UNROTATED_PRODUCTS = 100
"""Of a Newton step, after which rows are rotated: they have cost about as much as that."""
_REST = 0.05
"""Part of the gradient that conjugate gradients leave at first; the steps converge linearly, each
to about this part of the error before it, or quadratically where they are far away."""
_SMALL = 1e-6


class Descent:
    """The fit of one problem, from penalty to penalty and from tolerance to tolerance.

    What L-BFGS has learnt of the Hessian is kept: a change of the penalty adds a multiple of each
    remembered step to the change of gradient that it made.
    """

    def __init__(
        self, coordinates: Coordinates, layer: int, labels: torch.Tensor, classes: int
    ) -> None:
        """Take a problem.

        Args:
            coordinates: of its rows.
            layer: which of their layers.
            labels: class of each training row, int64 [rows].
            classes: number of classes. Those that no row bears get no probability.
        """
        present, self._labels, counts = np.unique(
            labels.numpy(), return_inverse=True, return_counts=True
        )
        self._coordinates, self._layer = coordinates, layer
        self._exact = coordinates.exact[layer]
        self._present, self._classes = torch.from_numpy(present), classes
        count, width = coordinates.training.shape[1:]
        bearing = len(present)
        self._weights = bearing * width  # the first part of a point; then come the intercepts
        size = self._weights + bearing
        self._point = np.zeros(size, np.float32)
        self._point[self._weights :] = np.log(counts / count)
        self._gradient, self._before = np.zeros((2, size), np.float32)
        self._direction, self._diagonal = np.zeros(size, np.float32), np.ones(size, np.float32)
        self._steps, self._changes = np.zeros((2, _PAIRS, size), np.float32)
        self._products, self._count = np.zeros(_PAIRS, np.float32), 0
        self._logits, self._change, self._chances, self._residual = np.zeros(
            (4, bearing, count), np.float32
        )
        self._logits += self._point[self._weights :, None]
        self._workspace = np.zeros((4, count), np.float32)
        self._curvature = np.zeros(bearing, np.float32)
        self._penalty = np.float32(0)
        # The same memory, as factors of matrix products.
        self._residual_factor = torch.from_numpy(self._residual)
        self._into_logits, self._into_change = map(torch.from_numpy, (self._logits, self._change))
        self._point_factor, self._direction_factor, self._into_gradient, self._into_before = (
            torch.from_numpy(flat)[: self._weights].view(bearing, width)
            for flat in (self._point, self._direction, self._gradient, self._before)
        )
        self._vectors: torch.Tensor | None = None
        self._rows = coordinates.training[layer].float()
        self._squares = self._rows.square().sum(dim=0).numpy()
        if coordinates.is_rotated(layer):
            self._rotate()

    def _rotate(self) -> None:
        """Go on in rotated coordinates, and forget what L-BFGS has learnt in the others."""
        rows, squares, self._vectors = self._coordinates.rotated(self._layer)
        self._rows, self._squares, self._count = rows, squares.numpy(), 0
        self._point_factor.copy_(self._point_factor @ self._vectors)

    def fit(
        self, penalty: float, tolerance: float, start: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, float]:
        """Fit at a penalty.

        Args:
            penalty: positive. If two classes occur it counts twice, so that it is the penalty of a
                binary regression with the difference of the weights.
            tolerance: largest bound on the error; missed only after thousands of steps.
            start: weights to start from, [classes, directions + 1], the intercept last; None to go
                on from the last ones, at first the log-frequencies of the classes.

        Returns:
            weights in float64, the intercept of classes without rows being -inf, and the bound: the
            distance of the penalised weights to the optimum is at most so many times their norm.
            The root mean square row has norm 1 at most, so the root mean square error of a score
            is at most this times the norm of the weights.
        """
        if len(self._present) == 1:
            return self._spread(torch.zeros(len(self._point), dtype=torch.float64)), 0.0
        strength = penalty * (2.0 if len(self._present) == 2 else 1.0)
        self._set_penalty(strength)
        surely = tolerance >= _BELIEVED
        if start is not None:
            self._go_to(start[self._present].float())
        elif not surely:
            self._take_logits()
        error = self._by_quasi_newton(tolerance if surely else _MARGIN * tolerance)
        if surely and error <= tolerance:
            return self._spread(self._unrotated(torch.from_numpy(self._point).double())), error
        return self._by_newton(strength, tolerance)

    def _rotated(self, point: torch.Tensor) -> torch.Tensor:
        """Return weights and intercepts in the coordinates of the rows in use."""
        if self._vectors is None:
            return point
        return self._turned(point, self._vectors)

    def _unrotated(self, point: torch.Tensor) -> torch.Tensor:
        if self._vectors is None:
            return point
        return self._turned(point, self._vectors.mT)

    def _turned(self, point: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        weights = point[: self._weights].view(len(self._present), -1)
        turned = weights @ vectors.to(point.dtype)
        return torch.cat([turned.flatten(), point[self._weights :]])

    def _spread(self, point: torch.Tensor) -> torch.Tensor:
        weights = point[: self._weights].view(len(self._present), -1)
        present = torch.cat([weights, point[self._weights :, None]], dim=1)
        if len(present) == self._classes:
            return present
        spread = present.new_zeros(self._classes, present.shape[1])
        spread[:, -1] = -torch.inf
        spread[self._present] = present
        return spread

    def _go_to(self, start: torch.Tensor) -> None:
        point = torch.cat([start[:, :-1].flatten(), start[:, -1]])
        self._point[:] = self._rotated(point).numpy()
        self._take_logits()

    def _take_logits(self) -> None:
        torch.mm(self._point_factor, self._rows.mT, out=self._into_logits)
        self._logits += self._point[self._weights :, None]

    def _by_quasi_newton(self, tolerance: float) -> float:
        """Go to the optimum in float32 and return the bound on the error."""
        errors, number, moved = np.empty(_MAX_STEPS), 0, False
        while number < _MAX_STEPS:
            if self._chances.size * self._rows.shape[1] <= MOST_PRODUCTS:
                number = self._descend_whole(errors, tolerance)
            else:
                errors[number] = self._differentiate(moved)
                number += 1
            if errors[number - 1] <= tolerance:
                break
            if slow(errors, number, _WINDOW):
                if errors[number - 1] <= _NEAR or self._vectors is not None:
                    break
                self._rotate()
                number, moved = 0, False
            elif number < _MAX_STEPS:
                self._step()
                moved = True
        return float(errors[number - 1])

    def _descend_whole(self, errors: npt.NDArray[np.float64], tolerance: float) -> int:
        number, self._count = descend_whole(
            self._rows.numpy(), self._labels, self._penalty, self._squares, self._point,
            self._logits, self._steps, self._changes, self._products, self._count, errors,
            tolerance, _WINDOW,
        )  # fmt: skip
        return int(number)

    def _set_penalty(self, penalty: float) -> None:
        more, self._penalty = np.float32(penalty) - self._penalty, np.float32(penalty)
        if more:
            shift(self._steps, self._changes, self._products, self._count, more, self._weights)

    def _differentiate(self, moved: bool) -> float:
        self._gradient, self._before = self._before, self._gradient
        self._into_gradient, self._into_before = self._into_before, self._into_gradient
        differentiate(
            self._logits, self._labels, self._chances, self._workspace, self._residual,
            self._curvature,
        )  # fmt: skip
        torch.mm(self._residual_factor, self._rows, out=self._into_gradient)
        error = finish_gradient(
            self._gradient, self._residual, self._point, self._penalty, self._squares,
            self._curvature, self._diagonal,
        )  # fmt: skip
        if moved:
            at = self._count % _PAIRS
            self._products[at] = remember(
                self._gradient, self._before, self._steps[at], self._changes[at]
            )
            self._count += 1
        return float(error)

    def _step(self) -> None:
        descend(
            self._gradient, self._diagonal, self._steps, self._changes, self._products,
            self._count, self._direction,
        )  # fmt: skip
        torch.mm(self._direction_factor, self._rows.mT, out=self._into_change)
        advance(
            self._logits, self._change, self._labels, self._point, self._direction,
            self._gradient, self._penalty, self._chances, self._workspace,
            self._steps[self._count % _PAIRS],
        )  # fmt: skip

    def _by_newton(self, penalty: float, tolerance: float) -> tuple[torch.Tensor, float]:
        """Go from where float32 ended to the optimum in float64."""
        point = self._unrotated(torch.from_numpy(self._point).double())
        best, least, waited = point, math.inf, 0
        for _ in range(_MAX_NEWTON):
            gradient, chances, error = self._exact_gradient(point, penalty)
            waited = 0 if error < least else waited + 1
            if error < least:
                best, least = point, error
            if error <= tolerance or waited >= _NEWTON_PATIENCE:
                break
            rest = max(_REST, 0.5 * tolerance / error) if error < 1 else _REST
            point = point + self._newton_step(gradient, chances, penalty, rest)
        return self._spread(best), least

    def _exact_gradient(
        self, point: torch.Tensor, penalty: float
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        weights, free = point[: self._weights].view(len(self._present), -1), point[self._weights :]
        slope, alone, chances = derivative(
            self._exact, torch.from_numpy(self._labels), weights, free, penalty
        )
        norm = float(weights.norm())
        curvature = (chances - chances.square()).sum(dim=1).clamp_(min=FLAT * chances.shape[1])
        error = max(
            float(slope.norm()) / (penalty * (norm + _SMALL)),
            float((alone / curvature).norm()) / (1 + norm),
        )
        return torch.cat([slope.flatten(), alone]), chances, error

    def _newton_step(
        self, gradient: torch.Tensor, chances: torch.Tensor, penalty: float, rest: float
    ) -> torch.Tensor:
        """Solve for the Newton step by conjugate gradients, preconditioned as L-BFGS is."""
        rows, cut = self._chances.shape[1], self._weights
        self._chances[:] = chances.numpy()
        curvature = (chances - chances.square()).mean(dim=1).clamp_(min=FLAT).float()
        along = torch.outer(curvature, torch.from_numpy(self._squares)) + penalty
        diagonal = torch.cat([along.flatten(), curvature * rows])
        scale = float(gradient.norm())
        left = self._rotated(gradient / -scale).float()  # of length 1: its squares do not underflow
        step, ahead = torch.zeros_like(left), left / diagonal
        length, goal = np.float32(left @ ahead), rest * float(left.norm())
        image, change = torch.empty_like(left), self._into_change
        direction, product = (flat[:cut].view(len(change), -1) for flat in (ahead, image))
        most = _UNROTATED_PRODUCTS if self._vectors is None else _MAX_PRODUCTS
        for _ in range(most):
            torch.mm(direction, self._rows.mT, out=change)
            bend(self._chances, self._change, ahead[cut:].numpy(), self._workspace)
            torch.mm(change, self._rows, out=product)
            length, rest_norm = follow(
                self._change, ahead.numpy(), image.numpy(), np.float32(penalty),
                diagonal.numpy(), step.numpy(), left.numpy(), length,
            )  # fmt: skip
            if rest_norm <= goal:
                break
        else:
            if self._vectors is None:
                self._rotate()
                return scale * step.double()
        return scale * self._unrotated(step.double())
