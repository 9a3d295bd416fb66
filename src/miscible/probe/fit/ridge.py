"""Ridge regression of many label columns at many penalties from one eigendecomposition."""

from __future__ import annotations

import torch

from miscible.probe.fit.eigenbasis import Eigenbasis


def solve_ridge(basis: Eigenbasis, values: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """Return the weights that minimise |y - w x|^2 + penalty |w|^2, the intercept not penalised.

    The directions of the basis are orthogonal over the training rows and have mean 0 there, so
    that each weight is found alone: w_j = x_j . y / (spectrum_j + penalty).

    Args:
        basis: standardised rows.
        values: of the training rows, float64 [columns, training rows].
        penalties: positive, [penalties].

    Returns:
        [layers, penalties, columns, directions + 1], the intercept last.
    """
    training = basis.rows[:, : values.shape[1], :-1]
    mean = values.mean(dim=1, keepdim=True)
    moments = (values - mean) @ training
    shrunk = basis.spectrum[:, None, None, :-1] + penalties[:, None, None]
    slopes = moments.unsqueeze(1) / shrunk
    intercept = mean.expand(*slopes.shape[:-1], 1)
    return torch.cat([slopes, intercept], dim=-1)
