"""What a step will cost: from steps of the same kind that are finished, else from arithmetic."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from statistics import median

from miscible.evaluate.contract import Evaluator
from miscible.measure.calibrate import LENGTH, SAMPLES
from miscible.models.checkpoint import Checkpoint
from miscible.study.plan import Plan, Step
from miscible.study.spec import StudySpec
from miscible.study.store import Store

TOKENS_A_COMPARED_TEXT = 60
"""A sentence, and the products with the output layer that a comparison takes."""
CHARACTERS_PER_TOKEN = 4.0
DOSE_ELEMENTS_PER_SECOND = 1e8
RESIDENT_BYTES = 1.2e9
"""Of Python, torch, transformers and lm-eval, before any model is loaded."""


class Estimator:
    """Estimates seconds; knows better where steps of the same kind are finished.

    Args:
        spec, plan, store: of the study.
        evaluators: prepared, for every task with a step that is not finished.
    """

    def __init__(
        self, spec: StudySpec, plan: Plan, store: Store, evaluators: Mapping[str, Evaluator]
    ) -> None:
        self._spec = spec
        self._tokens_of_task = {task: held.tokens() for task, held in evaluators.items()}
        self._parameters = parameter_count(plan.base)
        self._parents = len(plan.parents)
        self._texts = {d.name: d.texts for d in plan.datasets}
        self._measured: dict[tuple[str, str], list[float]] = defaultdict(list)
        for step in plan.steps:
            seconds = store.seconds(step.key)
            if seconds is not None:
                self._measured[step.kind, step.subject].append(seconds)

    def seconds(self, step: Step) -> float:
        """Return the expected wall time of a step."""
        if held := self._measured.get((step.kind, step.subject)):
            return median(held)
        if step.kind == "dose":
            return self._parameters * (2 + self._parents) / DOSE_ELEMENTS_PER_SECOND
        return 2.0 * self._parameters * self._tokens(step) / flops_per_second(self._spec.dtype)

    def total(self, steps: Iterable[Step]) -> float:
        """Return the expected wall time of several steps."""
        return sum(self.seconds(step) for step in steps)

    def resident_bytes(self) -> float:
        """Return the expected peak memory of a run."""
        width = {"float64": 8, "float32": 4}.get(self._spec.dtype, 2)
        return RESIDENT_BYTES + self._parameters * width * 1.5

    def _tokens(self, step: Step) -> float:
        if step.kind == "prediction":
            return 0.0
        if step.kind == "mergeability":  # a backward pass takes twice a forward one
            asked = self._spec.metrics
            samples = (asked and asked.samples) or SAMPLES
            return 3.0 * self._parents * samples * ((asked and asked.length) or LENGTH)
        if step.kind == "internals":
            characters = sum(len("".join(text)) for text in self._texts[step.subject])
            return characters / CHARACTERS_PER_TOKEN
        if step.kind == "similarity":
            internals = self._spec.internals
            return TOKENS_A_COMPARED_TEXT * (internals.similarity if internals else 0)
        return self._tokens_of_task[step.subject]


def parameter_count(checkpoint: Checkpoint) -> int:
    """Return the number of elements of all tensors."""
    return sum(info.size for info in checkpoint.tensors.values())


def describe_cost(plan: Plan, store: Store, estimator: Estimator) -> Mapping[str, float]:
    """Return counts, seconds and bytes of what is left to do."""
    left = [step for step in plan.steps if not store.has(step.key)]
    return {
        "steps": len(plan.steps),
        "finished": len(plan.steps) - len(left),
        "seconds": estimator.total(left),
        "peak_bytes": estimator.resident_bytes(),
    }


@lru_cache(maxsize=4)
def flops_per_second(dtype: str) -> float:
    """Measure what this machine's matrix product delivers in that dtype, in under 0.3 s."""
    import torch

    held = torch.ones(256, 1024, dtype=getattr(torch, dtype))
    weight = torch.ones(1024, 1024, dtype=held.dtype)
    held @ weight
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.1:
        held @ weight
        count += 1
    # Whole models reach about a half of what one large product does.
    return 0.5 * count * 2.0 * 256 * 1024 * 1024 / (time.perf_counter() - start)
