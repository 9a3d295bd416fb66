"""Eigenvectors of symmetric matrices, the largest first, and no more than are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def leading_eigen(square: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all eigenvalues, float64, and the eigenvectors of the *count* largest, [n, count].

    For a part of them, in float32 on a CPU, LAPACK's steps are taken one by one: the eigenvectors
    of the tridiagonal form are cheap, and only those that are wanted are turned back.
    """
    import torch

    if count < len(square) and square.dtype == torch.float32 and square.device.type == "cpu":
        found = _stepwise(square, count)
        if found is not None:
            return found
    values, vectors = torch.linalg.eigh(square)
    return values.flip(0).double(), vectors.flip(1)[:, :count]


def _stepwise(square: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return them by reduction, divide and conquer, and reflection; None if LAPACK fails."""
    import numpy as np
    import torch
    from scipy.linalg import lapack

    if not hasattr(lapack, "sstevd"):
        return None
    work, _ = lapack.ssytrd_lwork(len(square), lower=1)
    reduced, diagonal, beside, scales, failed = lapack.ssytrd(
        square.detach().numpy().T, lower=1, lwork=int(work)
    )
    if failed:
        return None
    values, inner, failed = lapack.sstevd(diagonal, beside)
    if failed or not np.isfinite(values).all():
        return None
    inner = inner[:, ::-1][:, :count]
    # The reflections leave the first coordinate alone.
    reflections = np.asfortranarray(reduced[1:, :-1])
    turned, _, failed = lapack.sormqr(
        "L", "N", reflections, scales, np.asfortranarray(inner[1:]), lwork=64 * count, overwrite_c=1
    )
    if failed:
        return None
    vectors = np.empty((count, len(square)), np.float32)
    vectors[:, 0], vectors[:, 1:] = inner[0], turned.T
    return torch.from_numpy(values[::-1].astype(np.float64)), torch.from_numpy(vectors).T
