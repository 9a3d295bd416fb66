"""How far two task vectors are from spanning one line (2601.22285, "effective rank").

s1 >= s2 are the singular values of the two task vectors stacked, a 2 x P matrix; they follow in
closed form from its Gram. All of these are blind to signs: opposite task vectors span one line too,
and read as mergeable. `miscible.measure.conflict` has their signed counterparts.
"""

from __future__ import annotations

import math

from miscible.measure.contract import Gram, Pair, Value, metric, undefined

PAPER = "2601.22285"
CATEGORY = "effective_rank"
LEAST_NORM = 1e-10
"""Differences of a smaller norm are no part of the layer-wise metrics."""


@metric(CATEGORY, category=CATEGORY, low=1, high=2, paper=PAPER)
def effective_rank(pair: Pair) -> float | Value:
    """Exponential of the entropy of s / (s1 + s2): 1 if parallel, 2 if orthogonal and equal."""
    return exponential_entropy(pair.gram) if _any(pair) else _undefined(pair)


@metric("effective_rank_mergeability_score", category=CATEGORY, low=0, high=1, paper=PAPER)
def effective_rank_mergeability_score(pair: Pair) -> float | Value:
    """2 - effective_rank: 1 if the task vectors are parallel or opposite."""
    return 2 - exponential_entropy(pair.gram) if _any(pair) else _undefined(pair)


@metric("stable_rank", category=CATEGORY, low=1, high=2, paper=PAPER)
def stable_rank(pair: Pair) -> float | Value:
    """(s1 + s2)^2 / (s1^2 + s2^2), a participation ratio; the name is the paper's."""
    s1, s2 = pair.gram.singular_values
    return (s1 + s2) ** 2 / (s1**2 + s2**2) if _any(pair) else _undefined(pair)


@metric("spectral_gap", category=CATEGORY, low=0, high=1, paper=PAPER)
def spectral_gap(pair: Pair) -> float | Value:
    """(s1 - s2) / s1."""
    s1, s2 = pair.gram.singular_values
    return (s1 - s2) / s1 if _any(pair) else _undefined(pair)


@metric("singular_value_ratio", category=CATEGORY, low=0, high=1, paper=PAPER)
def singular_value_ratio(pair: Pair) -> float | Value:
    """s2 / s1."""
    s1, s2 = pair.gram.singular_values
    return s2 / s1 if _any(pair) else _undefined(pair)


@metric("layerwise_effective_rank", category=CATEGORY, low=1, high=2, paper=PAPER)
def layerwise_effective_rank(pair: Pair) -> Value:
    """Mean effective_rank of the tensors, weighted by the sum of the two norms."""
    return _layerwise(pair)


@metric(
    "layerwise_effective_rank_mergeability_score", category=CATEGORY, low=0, high=1, paper=PAPER
)
def layerwise_effective_rank_mergeability_score(pair: Pair) -> Value:
    """2 - layerwise_effective_rank."""
    rank = _layerwise(pair)
    if rank.status != "ok":
        return rank
    return Value(2 - rank.value, coverage=rank.coverage)


def exponential_entropy(gram: Gram) -> float:
    """Return exp(-sum p ln p) of p = s / (s1 + s2), in [1, 2]; the norms are not both zero."""
    s1, s2 = gram.singular_values
    shares = [s / (s1 + s2) for s in (s1, s2)]
    return math.exp(-math.fsum(p * math.log(p) for p in shares if p > 0))


def _layerwise(pair: Pair) -> Value:
    held = [
        tensor for tensor in pair.tensors
        if tensor.gram.norm_a >= LEAST_NORM and tensor.gram.norm_b >= LEAST_NORM
    ]  # fmt: skip
    if not held:
        return undefined(f"there is no tensor that both {pair.a} and {pair.b} change.")
    weights = [tensor.gram.norm_a + tensor.gram.norm_b for tensor in held]
    ranks = [exponential_entropy(tensor.gram) for tensor in held]
    mean = math.fsum(w * r for w, r in zip(weights, ranks, strict=True)) / math.fsum(weights)
    return Value(mean, coverage=pair.coverage(sum(tensor.size for tensor in held)))


def _any(pair: Pair) -> bool:
    return pair.gram.singular_values[0] > 0


def _undefined(pair: Pair) -> Value:
    return undefined(f"{pair.a} and {pair.b} are equal to the base.", pair.coverage())
