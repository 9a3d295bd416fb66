"""Many L2-penalised logistic regressions at once, each solved to convergence.

With labels y in {0, 1} and weights c (0 for rows that only fill up a batch), each problem is

    minimise  sum_i c_i log(1 + exp(-(2 y_i - 1) f_i)) + penalty / 2 |w|^2,   f = X w + b,

with b not penalised. Where there are fewer rows than features we solve for a with w = X' a, which
needs only the Gram matrix X X' (the dual); otherwise for w itself (the primal). Newton's method
with step halving in float64; deterministic, no seed, no early stopping.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import softplus

TOLERANCE = 1e-4
"""Largest last Newton step in any training score; the error left is about its square."""

_MAX_STEPS = 100
_MAX_HALVINGS = 30


@dataclass(frozen=True, slots=True)
class Design:
    """Training rows of a batch of problems.

    Attributes:
        rows: Gram matrix [batch, n, n] if *gram*, else features [batch, n, d]; float64.
        gram: whether *rows* is a Gram matrix.
        weights: weight of each row, [batch, n].
    """

    rows: torch.Tensor
    gram: bool
    weights: torch.Tensor

    def select(self, kept: torch.Tensor) -> Design:
        """Return the problems at the indices *kept*."""
        return Design(self.rows[kept], self.gram, self.weights[kept])


@dataclass(frozen=True, slots=True)
class Solution:
    """Solutions of a batch of problems with several label columns each.

    Attributes:
        coefficients: of the columns of `Design.rows`, [batch, columns, n or d].
        intercept: [batch, columns].
        scores: f at the training rows, [batch, columns, n].
        converged: [batch, columns].
    """

    coefficients: torch.Tensor
    intercept: torch.Tensor
    scores: torch.Tensor
    converged: torch.Tensor

    def at(self, rows: torch.Tensor) -> torch.Tensor:
        """Return f at other rows, [batch, columns, rows].

        Args:
            rows: inner products with the training rows [batch, rows, n] if the design was a Gram
                matrix, else features [batch, rows, d].
        """
        return self.coefficients @ rows.mT + self.intercept.unsqueeze(-1)


def solve(
    design: Design, labels: torch.Tensor, penalty: torch.Tensor, start: Solution | None = None
) -> Solution:
    """Solve every problem of *design* for every column of *labels*.

    Args:
        design: training rows, shared by the label columns.
        labels: 0 or 1 as float64, [batch, columns, n].
        penalty: positive, [batch, columns].
        start: solution of nearby problems to start from (a warm start changes only the time).
    """
    batch, columns, _ = labels.shape
    if start is None:
        start = _zero(design, columns)
    held = replace(start, converged=torch.zeros(batch, columns, dtype=torch.bool))
    active = torch.arange(batch)
    for _ in range(_MAX_STEPS):
        moved = _step(design, labels, penalty, held)
        if len(active) == batch:
            result = moved
        else:
            _write(result, active, moved)
        going = (~moved.converged).any(dim=1).nonzero().squeeze(1)
        if len(going) == 0:
            break
        # Copying costs about a step: go on with the unfinished ones only when they are few.
        if len(going) < 0.7 * len(active):
            if len(active) == batch:
                result = Solution(*(part.clone() for part in _parts(result)))
            active = active[going]
            design, labels, penalty = design.select(going), labels[going], penalty[going]
            moved = Solution(*(part[going] for part in _parts(moved)))
        held = moved
    return result


def _zero(design: Design, columns: int) -> Solution:
    batch, rows, width = design.rows.shape
    like = design.rows
    return Solution(
        like.new_zeros(batch, columns, width),
        like.new_zeros(batch, columns),
        like.new_zeros(batch, columns, rows),
        torch.zeros(batch, columns, dtype=torch.bool),
    )


def _step(design: Design, labels: torch.Tensor, penalty: torch.Tensor, held: Solution) -> Solution:
    weights = design.weights.unsqueeze(1)
    probability = torch.sigmoid(held.scores)
    curvature = weights * probability * (1 - probability)
    # Working response times curvature: Newton is weighted least squares on it.
    response = curvature * held.scores + weights * (labels - probability)
    newton = _gram_step if design.gram else _feature_step
    coefficients, intercept = newton(design.rows, curvature, response, penalty)
    scores = coefficients @ design.rows.mT + intercept.unsqueeze(-1)
    target = Solution(coefficients, intercept, scores, held.converged)

    before = _objective(design, labels, penalty, held)
    size = torch.ones_like(penalty)
    for _ in range(_MAX_HALVINGS):
        moved = _between(held, target, size)
        worse = _objective(design, labels, penalty, moved) > before + 1e-9 * (1 + before.abs())
        if not worse.any():
            break
        size = torch.where(worse, size / 2, size)
    largest = (weights.sign() * (target.scores - held.scores)).abs().amax(dim=-1)
    return replace(moved, converged=largest < TOLERANCE)


def _gram_step(
    gram: torch.Tensor, curvature: torch.Tensor, response: torch.Tensor, penalty: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    # (penalty I + W K) a = response - b W 1 and sum a = 0, through the Cholesky factor of
    # I + W^1/2 K W^1/2 / penalty, whose eigenvalues are at least 1 whatever K is.
    root = curvature.sqrt()
    scale = penalty[..., None, None]
    matrix = gram.unsqueeze(1) * (root.unsqueeze(-1) * root.unsqueeze(-2) / scale)
    matrix.diagonal(dim1=-2, dim2=-1).add_(1)
    sides = torch.stack([response, curvature], dim=-1)
    products = gram.unsqueeze(1) @ sides
    solved = torch.cholesky_solve(
        root.unsqueeze(-1) * products / scale, torch.linalg.cholesky(matrix)
    )
    both = (sides - root.unsqueeze(-1) * solved) / scale
    of_response, of_curvature = both.unbind(dim=-1)
    intercept = of_response.sum(dim=-1) / of_curvature.sum(dim=-1)
    return of_response - intercept.unsqueeze(-1) * of_curvature, intercept


def _feature_step(
    features: torch.Tensor, curvature: torch.Tensor, response: torch.Tensor, penalty: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = features.unsqueeze(1)
    matrix = (rows * curvature.unsqueeze(-1)).mT @ rows
    matrix.diagonal(dim1=-2, dim2=-1).add_(penalty.unsqueeze(-1))
    sides = rows.mT @ torch.stack([response, curvature], dim=-1)
    solved = torch.cholesky_solve(sides, torch.linalg.cholesky(matrix))
    of_response, of_curvature = solved.unbind(dim=-1)
    crossing = sides[..., 1]
    free = response.sum(dim=-1) - (crossing * of_response).sum(dim=-1)
    intercept = free / (curvature.sum(dim=-1) - (crossing * of_curvature).sum(dim=-1))
    return of_response - intercept.unsqueeze(-1) * of_curvature, intercept


def _objective(
    design: Design, labels: torch.Tensor, penalty: torch.Tensor, at: Solution
) -> torch.Tensor:
    weights = design.weights.unsqueeze(1)
    loss = (weights * (softplus(at.scores) - labels * at.scores)).sum(dim=-1)
    image = at.scores - at.intercept.unsqueeze(-1) if design.gram else at.coefficients
    return loss + penalty / 2 * (at.coefficients * image).sum(dim=-1)


def _between(held: Solution, target: Solution, size: torch.Tensor) -> Solution:
    wide = size.unsqueeze(-1)
    return Solution(
        torch.lerp(held.coefficients, target.coefficients, wide),
        torch.lerp(held.intercept, target.intercept, size),
        torch.lerp(held.scores, target.scores, wide),
        held.converged,
    )


def _parts(solution: Solution) -> tuple[torch.Tensor, ...]:
    return solution.coefficients, solution.intercept, solution.scores, solution.converged


def _write(result: Solution, where: torch.Tensor, part: Solution) -> None:
    for whole, values in zip(_parts(result), _parts(part), strict=True):
        whole[where] = values
