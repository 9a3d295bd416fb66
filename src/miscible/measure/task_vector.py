"""Metrics of two task vectors as a whole (2601.22285, "task vector geometry").

A task vector is the difference of a model from the base over every floating-point tensor.
"""

from __future__ import annotations

import math

from miscible.measure.contract import Pair, Value, metric, undefined

PAPER = "2601.22285"


@metric("task_vector_cosine_similarity", category="task_vector", low=-1, high=1, paper=PAPER)
def task_vector_cosine_similarity(pair: Pair) -> float | Value:
    """Cosine of the angle between the two task vectors."""
    return pair.gram.cosine if _both_nonzero(pair) else _undefined(pair)


@metric("task_vector_l2_distance", category="task_vector", low=0, paper=PAPER)
def task_vector_l2_distance(pair: Pair) -> float:
    """Distance of the two models: of their task vectors, and so of their weights."""
    return pair.gram.distance


@metric("task_vector_dot_product", category="task_vector", paper=PAPER)
def task_vector_dot_product(pair: Pair) -> float:
    """Inner product of the two task vectors."""
    return pair.gram.ab


@metric("weight_space_angle", category="task_vector", low=0, high=180, paper=PAPER)
def weight_space_angle(pair: Pair) -> float | Value:
    """Angle between the two task vectors, in degrees."""
    return math.degrees(math.acos(pair.gram.cosine)) if _both_nonzero(pair) else _undefined(pair)


@metric("task_vector_magnitude_ratio", category="task_vector", low=0, high=1, paper=PAPER)
def task_vector_magnitude_ratio(pair: Pair) -> float:
    """Smaller over larger norm; 0 when either is below 1e-8."""
    return pair.gram.ratio


def _both_nonzero(pair: Pair) -> bool:
    return pair.gram.norm_a > 0 and pair.gram.norm_b > 0


def _undefined(pair: Pair) -> Value:
    name = pair.a if pair.gram.norm_a == 0 else pair.b
    return undefined(f"{name} is equal to the base.", pair.coverage())
