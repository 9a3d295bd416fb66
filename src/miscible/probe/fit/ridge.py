"""Ridge regression of many label columns at many penalties from one eigendecomposition.

The decomposition is in float32. Solutions by it are refined: the residual of the normal equations
is computed in float64, and its correction by the decomposition added, until nothing is left to
correct (iterative refinement in mixed precision; Higham, Accuracy and Stability of Numerical
Algorithms, chapter 12). A round takes away about the part (largest eigenvalue / penalty) x 1e-7 of
the error. Where that is too little, for penalties far below the spectrum, the decomposition is
made in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_ROUNDS = 20
_EXACT = 1e-10
"""Largest last correction, in units of the solution."""


class RidgeFit(NamedTuple):
    """Solutions for standardised rows.

    Attributes:
        slopes: float64 [penalties, columns, width].
        intercept: [columns, 1]; it is the same at every penalty, the rows having mean 0.
    """

    slopes: torch.Tensor
    intercept: torch.Tensor


def solve_ridge(rows: torch.Tensor, values: torch.Tensor, penalties: torch.Tensor) -> RidgeFit:
    """Return what minimises |y - w x - b|^2 + penalty |w|^2 over the rows x.

    Args:
        rows: of mean 0, float64 [rows, width].
        values: float64 [columns, rows].
        penalties: positive, [penalties].
    """
    intercept = values.mean(dim=1, keepdim=True)
    centred = values - intercept
    # With fewer rows than features the slopes are sums of rows: their factors are solved for.
    dual = rows.shape[0] <= rows.shape[1]
    right = centred if dual else centred @ rows
    found = right.new_zeros(len(penalties), *right.shape)
    for precision in (torch.float32, torch.float64):
        narrow = rows.to(precision)
        square = narrow @ narrow.mT if dual else narrow.mT @ narrow
        spectrum, vectors = torch.linalg.eigh(square)
        inverse = 1 / (spectrum.double().clamp_(min=0) + penalties.unsqueeze(-1)).unsqueeze(1)
        found.zero_()
        going = torch.arange(len(penalties))
        residual = right.expand(len(penalties), -1, -1)
        for _ in range(_ROUNDS):
            inner = residual.to(precision) @ vectors
            inner.mul_(inverse[going])
            step = (inner @ vectors.mT).double()
            found[going] += step
            size = found[going].norm(dim=-1)
            going = going[(step.norm(dim=-1) > _EXACT * size).any(dim=1)]
            if not len(going):
                return RidgeFit(found @ rows if dual else found, intercept)
            held = found[going]
            image = (held @ rows) @ rows.mT if dual else (held @ rows.mT) @ rows
            residual = right - image - penalties[going, None, None] * held
    return RidgeFit(found @ rows if dual else found, intercept)
