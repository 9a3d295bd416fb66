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
    moments, right = (rows @ rows.mT, centred) if dual else (None, centred @ rows)
    for precision in (torch.float32, torch.float64):
        narrow = rows.to(precision)
        square = narrow.mT @ narrow if moments is None else moments.to(precision)
        spectrum, vectors = torch.linalg.eigh(square)
        inverse = 1 / (spectrum.double().clamp_(min=0) + penalties.unsqueeze(-1)).unsqueeze(1)

        def corrected(residual: torch.Tensor) -> torch.Tensor:
            inner = residual.to(precision) @ vectors  # noqa: B023
            inner.mul_(inverse)  # noqa: B023
            outer: torch.Tensor = inner @ vectors.mT  # noqa: B023
            return outer.double()

        found = corrected(right.expand(len(penalties), -1, -1))
        for _ in range(_ROUNDS):
            image = found @ moments if moments is not None else (found @ rows.mT) @ rows
            step = corrected(right - image - penalties[:, None, None] * found)
            found = found + step
            if bool((step.norm(dim=-1) <= _EXACT * found.norm(dim=-1)).all()):
                return RidgeFit(found @ rows if dual else found, intercept)
    return RidgeFit(found @ rows if dual else found, intercept)
