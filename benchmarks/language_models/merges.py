"""The merges of the table: two models each by every method, and some of three."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from tasks import TASKS

BASE = "base"
TRIPLES = 12
TRIPLE_METHODS = ("weight_avg", "ties")

METHODS: Mapping[str, tuple[str, float, Mapping[str, Any], Mapping[str, Any]]] = {
    "weight_avg": ("linear", 0.5, {}, {}),
    "tsv": ("tsv", 1.0, {}, {}),
    "task_arithmetic": ("task_arithmetic", 1.0, {}, {"lambda": 0.3}),
    "ties": ("ties", 1.0, {"density": 0.2}, {}),
    "dare": ("dare_linear", 0.5, {"density": 0.1}, {}),
    "task_arithmetic_sum": ("task_arithmetic", 1.0, {}, {}),
    "ties_0.3": ("ties", 1.0, {"density": 0.2}, {"lambda": 0.3}),
}
"""Name in the tables -> method, weight of each model, its parameters, parameters of all."""


class Merge(NamedTuple):
    """What is merged, how, and on which tasks it is scored."""

    models: tuple[str, ...]
    method: str

    @property
    def group(self) -> str:
        return "__".join(self.models)

    @property
    def named(self) -> tuple[str, ...]:
        """The models that the recipe names."""
        return self.models if METHODS[self.method][0] == "linear" else (BASE, *self.models)

    @property
    def recipe(self) -> dict[str, Any]:
        method, weight, own, shared = METHODS[self.method]
        recipe: dict[str, Any] = {
            "merge_method": method,
            "models": [
                {"model": model, "parameters": {"weight": weight, **own}} for model in self.models
            ],
            "parameters": dict(shared),
            "dtype": "float32",
        }
        # An average of weights has no base: it would be one of the models.
        return recipe if method == "linear" else {"base_model": BASE, **recipe}


def pairs() -> list[tuple[str, str]]:
    """Every two models, in the order of the tasks."""
    return list(combinations(TASKS, 2))


def triples(count: int = TRIPLES, seed: int = 0) -> list[tuple[str, ...]]:
    """Some three models each, drawn at random, in the order of the tasks."""
    every = list(combinations(TASKS, 3))
    drawn = random.Random(seed).sample(every, min(count, len(every)))
    return sorted(drawn, key=every.index)


def merges(groups: Sequence[tuple[str, ...]], methods: Sequence[str]) -> list[Merge]:
    """Return all merges of some groups, one method after another."""
    return [Merge(group, method) for method in methods for group in groups]
