"""Newton's method for small problems: few steps, each with the whole Hessian, in float64.

With few directions the Hessian is cheap, and where the classes can be separated, so that weights
grow long at weak penalties, Newton's method still takes a handful of steps where L-BFGS takes
thousands.
"""

from __future__ import annotations

import torch

LARGEST = 120
"""Directions times classes up to which a problem is solved here."""

_FLAT = 1e-9
_ROUGH = 0.05
"""A tolerance from which on the estimate of the error, which is to first order, will do."""
_MAX_STEPS = 50
_MAX_HALVINGS = 30


def newton(
    rows: torch.Tensor,
    labels: torch.Tensor,
    penalty: torch.Tensor,
    start: torch.Tensor,
    counts: torch.Tensor,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve small problems.

    Args:
        rows: of each problem, float64 [problems, rows, directions].
        labels: class of each row, int64 [problems, rows].
        penalty: see `miscible.probe.fit.multinomial.Fits.solve`, [problems].
        start: weights to start from, [problems, classes, directions + 1].
        counts: share of the training rows of each class, [problems, classes].
        tolerance: largest bound on the error of the weights, in units of their norm.

    Returns:
        weights in float64; the bound, [problems].
    """
    weights = start.double().masked_fill((counts == 0).unsqueeze(-1), 0.0)
    absent = counts == 0
    rows = torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)
    penalty = penalty * torch.where((~absent).sum(dim=1) == 2, 2.0, 1.0)
    count, classes, _ = weights.shape
    strength = penalty[:, None, None] * torch.ones_like(weights)
    strength[..., -1] = 0.0
    targets = torch.nn.functional.one_hot(labels, classes).double().mT  # [problems, classes, rows]
    error = torch.full_like(penalty, torch.inf)
    going = torch.arange(count)
    for _ in range(_MAX_STEPS):
        part = (rows[going], targets[going], strength[going], absent[going])
        step, slope = _step(*part, weights[going])
        norm = weights[going][..., :-1].flatten(1).norm(dim=1)
        length = step[..., :-1].flatten(1).norm(dim=1)
        # Newton's method squares its error: what is left after a short step is far shorter.
        weights[going] += _shortened(*part, weights[going], step, slope) * step
        error[going] = (length / (norm + 1e-6)).square()
        if tolerance >= _ROUGH:
            going = going[error[going] > tolerance**2]
        else:
            going = going[(error[going] > min(tolerance, 1e-6)) | (slope > 1e-8)]
        if not len(going):
            break
    return weights, error.clamp_(min=tolerance) if tolerance >= _ROUGH else error


def _step(
    rows: torch.Tensor,
    targets: torch.Tensor,
    strength: torch.Tensor,
    absent: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return Newton steps and the decrease that they promise, [problems]."""
    _, classes, size = weights.shape
    probability = _logits(rows, absent, weights).softmax(dim=1)
    gradient = (probability - targets) @ rows + strength * weights
    # sum_i (diag(p_i) - p_i p_i') kron x_i x_i'
    spread = (probability.mT.unsqueeze(-1) * rows.unsqueeze(2)).flatten(2)
    hessian = -(spread.mT @ spread)
    blocks = (probability.unsqueeze(2) * rows.mT.unsqueeze(1)) @ rows.unsqueeze(1)
    for each in range(classes):
        here = slice(each * size, (each + 1) * size)
        hessian[:, here, here] += blocks[:, each]
    diagonal = strength.flatten(1).clone()
    # Classes without rows do not move, and intercepts do not all move together.
    diagonal += absent.unsqueeze(-1).expand(-1, -1, size).flatten(1)
    hessian.diagonal(dim1=1, dim2=2).add_(diagonal)
    intercepts = torch.arange(size - 1, classes * size, size)
    hessian[:, intercepts[:, None], intercepts] += 1.0
    hessian[:, intercepts, intercepts] += _FLAT  # where all rows are told apart with certainty
    factor = torch.linalg.cholesky(hessian)
    step = -torch.cholesky_solve(gradient.flatten(1).unsqueeze(-1), factor).view_as(weights)
    step = step.masked_fill(absent.unsqueeze(-1), 0.0)
    return step, -(step * gradient).flatten(1).sum(dim=1)


def _shortened(
    rows: torch.Tensor,
    targets: torch.Tensor,
    strength: torch.Tensor,
    absent: torch.Tensor,
    weights: torch.Tensor,
    step: torch.Tensor,
    slope: torch.Tensor,
) -> torch.Tensor:
    """Return step sizes that lower every objective, halved where the whole step does not."""

    def objective(at: torch.Tensor) -> torch.Tensor:
        logs = _logits(rows, absent, at).log_softmax(dim=1)
        fit = torch.where(targets > 0, -logs, 0.0).sum(dim=(1, 2))
        return fit + (strength * at.square()).flatten(1).sum(dim=1) / 2

    before = objective(weights)
    size = torch.ones_like(slope)
    for _ in range(_MAX_HALVINGS):
        after = objective(weights + size[:, None, None] * step)
        worse = after > before - 1e-4 * size * slope + 1e-12 * (1 + before.abs())
        if not worse.any():
            break
        size = torch.where(worse, size / 2, size)
    return size[:, None, None]


def _logits(rows: torch.Tensor, absent: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (weights @ rows.mT).masked_fill(absent.unsqueeze(-1), -torch.inf)
