"""Many L2-penalised logistic regressions at once, each solved to convergence.

With labels y in {0, 1}, each problem is

    minimise  sum_i log(1 + exp(-(2 y_i - 1) f_i)) + penalty / 2 |w|^2,   f = X w + b,

with b not penalised. Newton's method with whole Hessians and step halving in float64, for rows of
few features; deterministic, no seed, no early stopping.
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
class Solution:
    """Solutions of a batch of problems.

    Attributes:
        weights: [problems, features].
        intercept: [problems].
        scores: f at the rows, [problems, rows].
        converged: [problems].
    """

    weights: torch.Tensor
    intercept: torch.Tensor
    scores: torch.Tensor
    converged: torch.Tensor

    @classmethod
    def at(cls, rows: torch.Tensor, weights: torch.Tensor, intercept: torch.Tensor) -> Solution:
        """Return where to start from."""
        scores = torch.einsum("pnd,pd->pn", rows, weights) + intercept.unsqueeze(-1)
        return cls(weights, intercept, scores, torch.zeros_like(intercept, dtype=torch.bool))


def solve(
    rows: torch.Tensor, labels: torch.Tensor, penalty: torch.Tensor, start: Solution
) -> Solution:
    """Solve every problem.

    Args:
        rows: float64 [problems, rows, features].
        labels: 0 or 1 as float64, [problems, rows].
        penalty: positive, [problems].
        start: where to start from (which changes only the time).
    """
    held = replace(start, converged=torch.zeros_like(start.converged))
    active = torch.arange(len(rows))
    for _ in range(_MAX_STEPS):
        moved = _step(rows, labels, penalty, held)
        if len(active) == len(start.converged):
            result = moved
        else:
            _write(result, active, moved)
        going = (~moved.converged).nonzero().squeeze(1)
        if len(going) == 0:
            break
        # Copying costs about a step: go on with the unfinished ones only when they are few.
        if len(going) < 0.7 * len(active):
            if len(active) == len(start.converged):
                result = Solution(*(part.clone() for part in _parts(result)))
            active = active[going]
            rows, labels, penalty = rows[going], labels[going], penalty[going]
            moved = Solution(*(part[going] for part in _parts(moved)))
        held = moved
    return result


def _step(
    rows: torch.Tensor, labels: torch.Tensor, penalty: torch.Tensor, held: Solution
) -> Solution:
    probability = torch.sigmoid(held.scores)
    curvature = probability * (1 - probability)
    # Working response times curvature: Newton is weighted least squares on it.
    response = curvature * held.scores + labels - probability
    weights, intercept = _least_squares(rows, curvature, response, penalty)
    target = Solution.at(rows, weights, intercept)

    before = _objective(labels, penalty, held)
    size = torch.ones_like(penalty)
    for _ in range(_MAX_HALVINGS):
        moved = _between(held, target, size)
        worse = _objective(labels, penalty, moved) > before + 1e-9 * (1 + before.abs())
        if not worse.any():
            break
        size = torch.where(worse, size / 2, size)
    largest = (target.scores - held.scores).abs().amax(dim=-1)
    return replace(moved, converged=largest < TOLERANCE)


def _least_squares(
    rows: torch.Tensor, curvature: torch.Tensor, response: torch.Tensor, penalty: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    matrix = (rows * curvature.unsqueeze(-1)).mT @ rows
    matrix.diagonal(dim1=-2, dim2=-1).add_(penalty.unsqueeze(-1))
    sides = rows.mT @ torch.stack([response, curvature], dim=-1)
    solved = torch.cholesky_solve(sides, torch.linalg.cholesky(matrix))
    of_response, of_curvature = solved.unbind(dim=-1)
    crossing = sides[..., 1]
    free = response.sum(dim=-1) - (crossing * of_response).sum(dim=-1)
    intercept = free / (curvature.sum(dim=-1) - (crossing * of_curvature).sum(dim=-1))
    return of_response - intercept.unsqueeze(-1) * of_curvature, intercept


def _objective(labels: torch.Tensor, penalty: torch.Tensor, at: Solution) -> torch.Tensor:
    loss = (softplus(at.scores) - labels * at.scores).sum(dim=-1)
    return loss + penalty / 2 * at.weights.square().sum(dim=-1)


def _between(held: Solution, target: Solution, size: torch.Tensor) -> Solution:
    return Solution(
        torch.lerp(held.weights, target.weights, size.unsqueeze(-1)),
        torch.lerp(held.intercept, target.intercept, size),
        torch.lerp(held.scores, target.scores, size.unsqueeze(-1)),
        held.converged,
    )


def _parts(solution: Solution) -> tuple[torch.Tensor, ...]:
    return solution.weights, solution.intercept, solution.scores, solution.converged


def _write(result: Solution, where: torch.Tensor, part: Solution) -> None:
    for whole, values in zip(_parts(result), _parts(part), strict=True):
        whole[where] = values
