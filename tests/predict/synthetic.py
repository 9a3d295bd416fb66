"""Tables of pairs made up from a known law."""

from __future__ import annotations

import numpy as np

from miscible.predict.pairs import TARGETS, Examples, Outcomes, Pairs, PairTable


def made_up(
    tasks: int = 12, metrics: int = 4, *, signal: float = 1.0, effects: float = 0.0, seed: int = 0
) -> PairTable:
    """A table with one method: outcome = signal x first metric + task effects + noise."""
    random = np.random.default_rng(seed)
    first, second = np.triu_indices(tasks, 1)
    values = random.normal(size=(len(first), metrics))
    scalars = random.uniform(0.5, 1.0, size=(tasks, 1))
    effect = effects * random.normal(size=tasks)
    mean = 0.8 + signal * values[:, 0] + effect[first] + effect[second]
    mean = mean + random.normal(size=len(first))
    pairs = Pairs(
        tuple(f"task{n:02d}" for n in range(tasks)), first.astype(np.int64),
        second.astype(np.int64), tuple(f"metric{n}" for n in range(metrics)), values,
        ("finetuned",), scalars,
    )  # fmt: skip
    directed = np.stack([mean, mean], axis=1)
    held = Outcomes(dict.fromkeys(TARGETS, directed), dict.fromkeys(TARGETS, mean))
    return PairTable(pairs, {"mean": held})


def examples(tasks: int = 12, metrics: int = 4, **law: float) -> Examples:
    """The merged pairs of `made_up`."""
    return made_up(tasks, metrics, **law).examples("mean")  # type: ignore[arg-type]
