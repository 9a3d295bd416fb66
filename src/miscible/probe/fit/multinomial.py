"""Many L2-penalised multinomial logistic regressions at once, each to a proven accuracy.

With rows x whose last entry is the constant 1, labels y and weights w_c of each class c, each
problem is

    minimise  sum_i -log softmax(w x_i)[y_i] + penalty / 2 sum_c |w_c|^2,

the weight of the constant (the intercept) not penalised. The rows come in the eigenbasis of their
second moments (`miscible.probe.fit.eigenbasis`). There the Hessian of class c is close to

    mean_i p_ic (1 - p_ic) S + penalty,

S being diagonal: the bound of Boehning (1992, Annals of the Institute of Statistical Mathematics
44, 197-200), 1/2 (I - 11'/C) kron X'X, with the curvature that the class has now instead of the
largest that it can have. It preconditions L-BFGS; a step costs two products of the weights of all
classes with the rows, line search included, since scores are linear in the step.

The penalised objective is strongly convex, so the distance to the optimum is at most the norm of
the gradient divided by the penalty. Solving stops when that bound is small: convergence is
proven, not inferred from small steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import torch

from miscible.probe.fit.newton import is_small, newton
from miscible.probe.fit.quasi_newton import History

_MAX_STEPS = 5000
_STALLED = 100

_MAX_TRIALS = 20
_LEAP = 8.0
"""Most that one trial of the line search lengthens the step."""

_FLAT = 1e-9
"""Least mean curvature of a class: a class without rows has none, and must not be divided by."""

_SMALL = 1e-6
_REFRESH = 0.8
"""Copying costs about a step: drop solved problems when at most this share is unsolved."""


@dataclass(frozen=True, slots=True)
class Problems:
    """A batch of problems, each with the rows of one layer and the labels of one column.

    Attributes:
        rows: float32 or float64 [layers, rows, directions + 1], the last entry 1.
        spectrum: sum of squares along each direction, [layers, directions + 1].
        layer: layer of each problem, ascending, int64 [problems].
        labels: int64 [problems, rows].
        classes: number of classes. Those that no row of a problem bears get no probability.
        penalty: positive, [problems]. If two classes occur it counts twice, so that it is the
            penalty of a binary regression with the difference of the weights.
    """

    rows: torch.Tensor
    spectrum: torch.Tensor
    layer: torch.Tensor
    labels: torch.Tensor
    classes: int
    penalty: torch.Tensor


@dataclass(frozen=True, slots=True)
class Solution:
    """Solutions of a batch of problems.

    Attributes:
        weights: [problems, classes, directions + 1], the last one the intercept, which is -inf for
            classes without rows.
        error: bound on the distance of the penalised weights to the optimum, in units of their
            norm, [problems]. The root mean square row has norm 1 at most, so the root mean square
            error of a score is at most this times the norm of the weights.
    """

    weights: torch.Tensor
    error: torch.Tensor


def initial(problems: Problems) -> torch.Tensor:
    """Return weights that give every row the log-frequencies of the classes."""
    count, size = len(problems.layer), problems.rows.shape[-1]
    weights = problems.rows.new_zeros(count, problems.classes, size)
    weights[..., -1] = _frequencies(problems).log()
    return weights


def solve(
    problems: Problems, start: torch.Tensor, tolerance: float, patience: int = _STALLED
) -> Solution:
    """Solve every problem until the bound on its error is at most *tolerance*.

    Each problem takes the same steps whatever other layers are in the batch.

    Args:
        problems: what to solve, in the precision of its rows.
        start: weights to start from, [problems, classes, directions + 1].
        tolerance: largest `Solution.error`; missed only after 5,000 steps or where the precision
            of the rows does not reach it:
        patience: steps without a lower bound on the error that show that.
    """
    counts = _frequencies(problems)
    if is_small(problems, counts):
        weights, error = newton(problems, start, counts, tolerance)
        weights[..., -1].masked_fill_(counts == 0, -torch.inf)
        return Solution(weights, error)
    state = _State.begin(problems, start)
    weights, error = torch.empty_like(start), torch.empty_like(problems.penalty)
    active = torch.arange(len(problems.layer))
    least, waited = torch.full_like(error, torch.inf), torch.zeros_like(active)
    for step in range(_MAX_STEPS):
        bound, diagonal = state.differentiate()
        waited = torch.where(bound < least, 0, waited + 1)
        least = torch.minimum(bound, least)
        unsolved = (bound > tolerance) & (waited < patience) & (step < _MAX_STEPS - 1)
        if unsolved.sum() <= _REFRESH * len(active):
            weights[active], error[active] = state.weights, bound
            kept = unsolved.nonzero().squeeze(1)
            active, state, diagonal = active[kept], state.select(kept), diagonal[kept]
            least, waited = least[kept], waited[kept]
        if not len(active):
            break
        state.step(diagonal)
    weights[..., -1].masked_fill_(counts == 0, -torch.inf)
    return Solution(weights, error)


def log_probabilities(weights: torch.Tensor, problems: Problems) -> torch.Tensor:
    """Return log-probabilities of the classes at the rows, [problems, classes, rows].

    Args:
        weights: of a `Solution` of the same problems.
        problems: the rows may be others than those that the weights were fitted to.
    """
    return _times_rows(weights, problems).log_softmax(dim=1)


def _frequencies(problems: Problems) -> torch.Tensor:
    counts = problems.rows.new_zeros(len(problems.layer), problems.classes)
    counts.scatter_add_(1, problems.labels, counts.new_ones(problems.labels.shape))
    return counts / problems.labels.shape[1]


Runs = list[tuple[int, slice]]


def _runs(layer: torch.Tensor) -> Runs:
    """Return each layer that occurs with the run of its problems."""
    runs, start = [], 0
    for index, members in groupby(layer.tolist()):
        stop = start + len(list(members))
        runs.append((index, slice(start, stop)))
        start = stop
    return runs


def _times_rows(weights: torch.Tensor, problems: Problems) -> torch.Tensor:
    """Return weights @ rows' of each problem's layer: all problems of a layer in one product."""
    count, classes, size = weights.shape
    rows = problems.rows
    product = weights.new_empty(count, classes, rows.shape[1])
    for layer, run in _runs(problems.layer):
        # The intercept may be -inf; a product must not meet it beside a 0.
        factor = weights[run].reshape(-1, size)[:, :-1]
        torch.mm(factor, rows[layer, :, :-1].mT, out=product[run].view(-1, rows.shape[1]))
    return product.add_(weights[..., -1:])


@dataclass(slots=True)
class _State:
    """Weights of unsolved problems, their logits, and the steps taken.

    Classes without rows keep logits of -inf and weights of 0, so that no sum meets -inf times 0.
    """

    problems: Problems
    penalty: torch.Tensor
    weights: torch.Tensor
    logits: torch.Tensor
    targets: torch.Tensor
    history: History
    gradient: torch.Tensor | None = None
    last_step: torch.Tensor | None = None

    @classmethod
    def begin(cls, problems: Problems, start: torch.Tensor) -> _State:
        absent = _frequencies(problems) == 0
        binary = (~absent).sum(dim=1) == 2
        penalty = start.new_zeros(len(start), 1, start.shape[-1])
        penalty[..., :-1] = (problems.penalty * torch.where(binary, 2.0, 1.0))[:, None, None]
        weights = start.masked_fill(absent.unsqueeze(-1), 0.0)
        logits = _times_rows(weights, problems).masked_fill_(absent.unsqueeze(-1), -torch.inf)
        targets = torch.zeros_like(logits).scatter_(1, problems.labels.unsqueeze(1), 1.0)
        return cls(problems, penalty, weights, logits, targets, History.empty(start))

    def select(self, kept: torch.Tensor) -> _State:
        """Return the state of the problems at the indices *kept*."""
        problems = replace(
            self.problems,
            layer=self.problems.layer[kept],
            labels=self.problems.labels[kept],
            penalty=self.problems.penalty[kept],
        )
        parts = (self.penalty, self.weights, self.logits, self.targets)
        assert self.gradient is not None
        penalty, weights, logits, targets = (part[kept] for part in parts)
        history, gradient = self.history.select(kept), self.gradient[kept]
        return _State(problems, penalty, weights, logits, targets, history, gradient)

    def differentiate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the bound on the error [problems] and the diagonal of the Hessian's estimate."""
        problems = self.problems
        probability = self.logits.softmax(dim=1)
        curvature = (probability - probability.square()).mean(dim=-1, keepdim=True)
        residual = probability.sub_(self.targets)
        gradient = torch.empty_like(self.weights)
        for layer, run in _runs(problems.layer):
            torch.mm(
                residual[run].view(-1, residual.shape[-1]),
                problems.rows[layer],
                out=gradient[run].view(-1, gradient.shape[-1]),
            )
        gradient += self.penalty * self.weights
        if self.gradient is not None and self.last_step is not None:
            self.history.push(self.last_step, gradient - self.gradient)
        self.gradient, self.last_step = gradient, None

        curvature = curvature.clamp_(min=_FLAT)
        diagonal = curvature * problems.spectrum[problems.layer].unsqueeze(1) + self.penalty
        penalised, free = gradient[..., :-1], gradient[..., -1]
        norm = _norm(self.weights[..., :-1])
        # The intercept is not penalised: its error is the Newton step that it would take alone.
        slope = _norm(free / diagonal[..., -1]) / (1 + norm)
        bound = torch.maximum(_norm(penalised) / (self.penalty[:, 0, 0] * (norm + _SMALL)), slope)
        return bound, diagonal

    def step(self, diagonal: torch.Tensor) -> None:
        """Go to about the lowest point along the direction of L-BFGS."""
        assert self.gradient is not None
        direction = self.history.direction(self.gradient, diagonal)
        change = _times_rows(direction, self.problems)
        slope = _dot(self.gradient, direction)
        fixed = _dot(self.penalty * self.weights, direction) - _dot(self.targets, change)
        bending = _dot(self.penalty * direction, direction)
        size = self._line_search(change, slope, fixed, bending)[:, None, None]
        self.last_step = size * direction
        self.weights = self.weights + self.last_step
        self.logits = torch.addcmul(self.logits, size, change)

    def _line_search(
        self, change: torch.Tensor, slope: torch.Tensor, fixed: torch.Tensor, bending: torch.Tensor
    ) -> torch.Tensor:
        """Return step sizes by Newton's method on the derivative, kept within a bracket."""
        size, low = torch.ones_like(slope), torch.zeros_like(slope)
        high = torch.full_like(slope, torch.inf)
        done = torch.zeros_like(slope, dtype=torch.bool)
        for _ in range(_MAX_TRIALS):
            moved = torch.addcmul(self.logits, size[:, None, None], change)
            weighted = moved.softmax(dim=1).mul_(change)
            here = fixed + weighted.flatten(1).sum(dim=1) + size * bending
            means = weighted.sum(dim=1)
            second = _dot(weighted, change) - _dot(means, means) + bending
            low = torch.where(here < 0, size, low)
            high = torch.where(here < 0, high, size)
            newton = size - here / second
            inside = (newton > low) & (newton < torch.minimum(high, _LEAP * size))
            other = torch.where(high.isinf(), _LEAP * size, (low + high) / 2)
            following = torch.where(inside, newton, other)
            # The derivative has shrunk: one more Newton step lands near its zero.
            good = (here.abs() <= 0.5 * slope.abs()) & (inside | (here == 0))
            following = torch.where(here == 0, size, following)
            size = torch.where(done, size, following)
            done |= good
            if done.all():
                break
        return size


def _norm(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).square().sum(dim=1).sqrt()


def _dot(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (left.flatten(1) * right.flatten(1)).sum(dim=1)
