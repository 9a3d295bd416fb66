"""How far the two models went from the base, and where; beyond 2601.22285.

These are scalars of one model (see `miscible.measure.result.ModelResult`) in a form in which the
order of the two models does not matter, so that they can stand beside metrics of pairs.
"""

from __future__ import annotations

import math
from collections import defaultdict

from miscible.measure.contract import Pair, Value, metric, undefined
from miscible.models.layout import place_of

CATEGORY = "norm"


@metric("smaller_task_vector_norm", category=CATEGORY, low=0)
def smaller_task_vector_norm(pair: Pair) -> float:
    """Norm of the task vector of the model that went less far."""
    return min(pair.gram.norm_a, pair.gram.norm_b)


@metric("larger_task_vector_norm", category=CATEGORY, low=0)
def larger_task_vector_norm(pair: Pair) -> float:
    """Norm of the task vector of the model that went farther."""
    return max(pair.gram.norm_a, pair.gram.norm_b)


@metric("layer_profile_similarity", category=CATEGORY, low=0, high=1)
def layer_profile_similarity(pair: Pair) -> float | Value:
    """Cosine of the norms of both task vectors by layer: 1 if both changed the same layers."""
    squares: defaultdict[tuple[str | None, int | None, bool], list[float]]
    squares = defaultdict(lambda: [0.0, 0.0])
    for tensor in pair.tensors:
        place = place_of(tensor.name)
        held = squares[place.stack, place.index, place.first]
        held[0] += tensor.gram.aa
        held[1] += tensor.gram.bb
    product = math.fsum(math.sqrt(aa) * math.sqrt(bb) for aa, bb in squares.values())
    if pair.gram.norm_a == 0 or pair.gram.norm_b == 0:
        name = pair.a if pair.gram.norm_a == 0 else pair.b
        return undefined(f"{name} is equal to the base.", pair.coverage())
    return product / (pair.gram.norm_a * pair.gram.norm_b)
