"""Correction of p values for the number of questions asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]


def holm(p_values: ArrayLike) -> Floats:
    """Return p values adjusted by Holm (1979): the chance of any false claim is controlled.

    NaN stands for a test that could not be made; it stays NaN and does not count.
    """
    return _adjusted(p_values, _holm_sorted)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return p values adjusted by Benjamini and Hochberg (1995).

    The share of false claims among all claims is controlled, for independent or positively
    dependent tests. NaN as in `holm`.
    """
    return _adjusted(p_values, _benjamini_hochberg_sorted)


def holm_levels(p_values: ArrayLike, alpha: float) -> Floats:
    """Return the error rate that Holm's procedure grants each test: alpha / (tests left)."""
    p = np.asarray(p_values, dtype=float)
    held = np.isfinite(p)
    levels = np.full(p.shape, np.nan)
    rank = np.argsort(np.argsort(p[held], kind="stable"), kind="stable")
    levels[held] = alpha / (held.sum() - rank)
    return levels


def _holm_sorted(p: Floats) -> Floats:
    return np.maximum.accumulate(p * np.arange(p.size, 0, -1))


def _benjamini_hochberg_sorted(p: Floats) -> Floats:
    scaled = p * p.size / np.arange(1, p.size + 1)
    return np.minimum.accumulate(scaled[::-1])[::-1]


def _adjusted(p_values: ArrayLike, rule: Callable[[Floats], Floats]) -> Floats:
    p = np.asarray(p_values, dtype=float)
    held = np.flatnonzero(np.isfinite(p))
    order = held[np.argsort(p[held], kind="stable")]
    out = np.full(p.shape, np.nan)
    out[order] = np.minimum(rule(p[order]), 1.0)
    return out
