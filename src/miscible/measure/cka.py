"""Debiased linear CKA of the pooled states of two models on the same samples."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def debiased_linear_cka(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Return HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the Gram matrices of two models' states.

    CKA is equation 4 of 1905.00414; HSIC is estimated without bias (2010.15327, equation 3), so
    unrelated states give about 0 and the value can be a little negative.

    Args:
        first, second: states [samples, width] of the same samples; widths may differ.

    Returns:
        A number of at most 1; NaN for fewer than four samples or states that are all the same.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} samples")
    if len(first) < 4:
        return math.nan
    left, right = _gram(first), _gram(second)
    product = _hsic(left, left) * _hsic(right, right)
    return min(_hsic(left, right) / math.sqrt(product), 1.0) if product > 0 else math.nan


def _gram(states: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred = states - states.mean(axis=0)  # changes nothing but the rounding
    scale = np.abs(centred).max(initial=0.0)
    if scale > 1e-12 * np.abs(states).max(initial=0.0):
        centred = centred / scale
    else:
        centred = np.zeros_like(centred)
    gram: npt.NDArray[np.float64] = centred @ centred.T
    np.fill_diagonal(gram, 0.0)
    return gram


def _hsic(k: npt.NDArray[np.float64], l: npt.NDArray[np.float64]) -> float:  # noqa: E741
    n = len(k)
    inner = float((k * l).sum())
    totals = float(k.sum()) * float(l.sum()) / ((n - 1) * (n - 2))
    crossed = 2 * float(k.sum(axis=0) @ l.sum(axis=0)) / (n - 2)
    return (inner + totals - crossed) / (n * (n - 3))
