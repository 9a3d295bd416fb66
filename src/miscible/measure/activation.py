"""Activation metrics (2601.22285): of h, the mean hidden state of the last block.

The mean is over the tokens and samples of one calibration set that all models share. All four
metrics of the paper come from one 2 x 2 Gram of the two means.
"""

from __future__ import annotations

import math

from miscible.measure.contract import Pair, Value, metric, undefined
from miscible.measure.gram import Gram
from miscible.measure.pair import ActivationPair

PAPER = "2601.22285"


def _of(pair: Pair) -> ActivationPair:
    assert pair.activations is not None, "the contract asks for it"
    return pair.activations


def _gram(pair: Pair) -> Gram:
    return _of(pair).gram


@metric("activation_l2_distance", category="activation", needs="activations", low=0, paper=PAPER)
def activation_l2_distance(pair: Pair) -> float | Value:
    """|h_a - h_b|."""
    return _gram(pair).distance


@metric(
    "activation_cosine_similarity",
    category="activation", needs="activations", low=-1, high=1, paper=PAPER,
)  # fmt: skip
def activation_cosine_similarity(pair: Pair) -> float | Value:
    """Cosine of h_a and h_b."""
    return _gram(pair).cosine


@metric(
    "activation_magnitude_ratio",
    category="activation", needs="activations", low=0, high=1, paper=PAPER,
)  # fmt: skip
def activation_magnitude_ratio(pair: Pair) -> float | Value:
    """The smaller of |h_a| and |h_b| over the larger."""
    return _gram(pair).ratio


@metric("activation_dot_product", category="activation", needs="activations", paper=PAPER)
def activation_dot_product(pair: Pair) -> float | Value:
    """<h_a, h_b>."""
    return _gram(pair).ab


@metric("activation_cka", category="activation", needs="activations", high=1)
def activation_cka(pair: Pair) -> float | Value:
    """Debiased linear CKA of the samples' mean hidden states: blind to rotation and scale."""
    held = _of(pair).more.get("cka")
    if held is None:
        return Value(math.nan, "excluded", "no states of single samples were kept.", 0.0)
    value = float(held[0])
    if math.isnan(value):
        return undefined("there are fewer than four samples, or all have the same state.")
    return value
