"""Merges whose losses follow the effects model exactly, for its tests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from miscible.predict.pairs import Examples, Floats, Pairs

METRICS = ("activation_l2_distance", "activation_cosine_similarity", "task_vector_l2_distance")


@dataclass(frozen=True)
class World:
    """T models with effects, and all of their merges."""

    examples: Examples
    own: Floats
    partner: Floats


def world(tasks: int = 12, *, explained: float = 0.8, noise: float = 0.05, seed: int = 0) -> World:
    """Make merges of *tasks* models.

    log loss = -2.5 + own_i + 0.5 partner_j + noise; *explained* of the variance of `own` is the
    scalar ``zero_shot``'s, and of `partner` the general part of METRICS[0]'s. METRICS[1] is noise.
    """
    rng = np.random.default_rng(seed)
    scalar, general = rng.standard_normal((2, tasks))
    root, rest = np.sqrt(explained), np.sqrt(1 - explained)
    own = root * scalar + rest * rng.standard_normal(tasks)
    partner = root * general + rest * rng.standard_normal(tasks)
    first, second = np.array(list(combinations(range(tasks), 2)), dtype=np.int64).T
    metrics = np.column_stack([
        general[first] + general[second],
        rng.standard_normal(len(first)),
        (general[first] + general[second]) ** 2,
    ])  # fmt: skip
    loss = -2.5 + np.column_stack([
        own[first] + 0.5 * partner[second], own[second] + 0.5 * partner[first],
    ])  # fmt: skip
    directed = 1 - np.exp(loss + noise * rng.standard_normal(loss.shape))
    names = tuple(f"m{number:02}" for number in range(tasks))
    pairs = Pairs(names, first, second, METRICS, metrics, ("zero_shot",), scalar[:, None])
    return World(Examples(pairs, directed, directed.mean(axis=1)), own, partner)
