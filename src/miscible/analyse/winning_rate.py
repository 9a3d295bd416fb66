"""Holmes' mean winning rate (Waldis et al., arXiv 2404.18923, section 4): ranks over data sets.

A mean of scores is ruled by the data sets on which models lie far apart; a rank gives all data
sets the same say, and forgets by how much one model beats another. The two need not agree, so both
are reported.
"""

from __future__ import annotations

import numpy as np

from miscible.analyse.panel import Floats

TIE = 9
"""Decimals of a score that count: sums in another order are no difference between models."""


def winning_rates(scores: Floats) -> Floats:
    """Return how high each model ranks on each data set, from 0 (worst) to 1 (best).

    Models of equal score all take the worst of their ranks. Ranks are then stretched so that the
    best of a data set has 1 and the worst 0; where all models are equal, all have 0.

    Args:
        scores: higher is better, (..., models, data sets); no NaN.
    """
    rounded = np.round(scores, TIE)
    ahead = rounded[..., None, :, :] >= rounded[..., :, None, :]  # other models on the second axis
    rank = ahead.sum(axis=-2).astype(float)
    best = rank.min(axis=-2, keepdims=True)
    worst = rank.max(axis=-2, keepdims=True)
    spread = worst - best
    rates: Floats = np.divide(
        worst - rank,
        spread,
        out=np.zeros(rank.shape),
        where=np.broadcast_to(spread, rank.shape) > 0,
    )
    return rates
