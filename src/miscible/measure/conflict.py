"""Where two task vectors pull a weight in opposite directions; beyond 2601.22285.

Sign conflicts are what TIES resolves (2306.01708, section 3). The signed scores tell opposite task
vectors, which the paper's effective ranks take for parallel ones, from these.
"""

from __future__ import annotations

import math

from miscible.measure.contract import Pair, Value, metric, undefined
from miscible.measure.effective_rank import exponential_entropy

CATEGORY = "conflict"


@metric("sign_conflict_rate", category=CATEGORY, low=0, high=1, parts=("signs",))
def sign_conflict_rate(pair: Pair) -> float | Value:
    """Share of the weights which both models change that they change in opposite directions."""
    held = [tensor.signs for tensor in pair.tensors if tensor.signs is not None]
    both = math.fsum(signs.both for signs in held)
    if both == 0:
        return _apart(pair)
    return math.fsum(signs.conflicts for signs in held) / both


@metric("mass_weighted_sign_conflict", category=CATEGORY, low=0, high=1, parts=("signs",))
def mass_weighted_sign_conflict(pair: Pair) -> float | Value:
    """sign_conflict_rate with each weight counted by |a b|, the product of its two changes."""
    held = [(tensor.signs, tensor.gram) for tensor in pair.tensors if tensor.signs is not None]
    mass = math.fsum(signs.mass for signs, _ in held)
    if mass <= 0:
        return _apart(pair)
    # Of sum |a b|, the part with a b < 0 is half of what the sum of a b lacks.
    return math.fsum(signs.mass - gram.ab for signs, gram in held) / (2 * mass)


@metric("signed_effective_rank_mergeability_score", category=CATEGORY, low=-1, high=1)
def signed_effective_rank_mergeability_score(pair: Pair) -> float | Value:
    """effective_rank_mergeability_score with the sign of the cosine: -1 if opposite."""
    if pair.gram.norm_a == 0 or pair.gram.norm_b == 0:
        name = pair.a if pair.gram.norm_a == 0 else pair.b
        return undefined(f"{name} is equal to the base.", pair.coverage())
    return math.copysign(2 - exponential_entropy(pair.gram), pair.gram.ab)


def _apart(pair: Pair) -> Value:
    return undefined(f"there is no weight that both {pair.a} and {pair.b} change.", pair.coverage())
