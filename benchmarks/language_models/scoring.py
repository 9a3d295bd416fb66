"""One model in memory, many weights: each is scored on the tasks that it still lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks import TASKS

from miscible import __version__
from miscible.evaluate import EvaluationOptions, Evaluator, evaluators
from miscible.keys import content_key
from miscible.models.checkpoint import Checkpoint
from miscible.models.live import LiveModel
from miscible.records import Provenance
from miscible.study.plan import library_versions
from miscible.study.store import Store


class Scorer:
    """Scores of models on tasks, kept in a store as they come.

    Args:
        base: any model of the architecture.
        items: folder of the tasks' files (see `items.write_items`).
        store: where results are kept; locked by the caller.
        dtype: in which the model runs. Log-probabilities are float32 in any case.
    """

    def __init__(self, base: Checkpoint, items: Path, store: Store, dtype: str) -> None:
        self.live = LiveModel.load(base, dtype=dtype)
        self.store, self.dtype = store, dtype
        self.options = {
            name: EvaluationOptions(
                tasks=(f"lm_{name}",), include=(str(items),), batch_tokens=1024, resamples=200
            )
            for name in TASKS
        }
        self.content = {name: options.key() for name, options in self.options.items()}
        self.evaluators: dict[str, Evaluator] = {
            name: evaluators.get("lm_eval")(options) for name, options in self.options.items()
        }
        for each in self.evaluators.values():
            each.prepare()

    def key(self, model: Checkpoint, task: str) -> str:
        """Return the content key of a score: weights, items, numerics."""
        return content_key(weights=model.fingerprint, options=self.content[task], dtype=self.dtype)

    def has(self, key: str) -> bool:
        """Return whether a score is stored, by this process or by another."""
        return any(self.store.folder.parent.glob(f"*/steps/{key}.parquet"))

    def score(
        self, name: str, model: Checkpoint, tasks: Sequence[str], say: Callable[[str], None]
    ) -> None:
        """Score a model on the tasks on which it has not been scored yet."""
        missing = [task for task in tasks if not self.has(self.key(model, task))]
        if not missing:
            return
        started = time.monotonic()
        self.live.swap(model)
        swapped = time.monotonic() - started
        for task in missing:
            started = time.monotonic()
            found = self.evaluators[task].evaluate(self.live)
            seconds = time.monotonic() - started
            provenance = Provenance(
                key=self.key(model, task),
                fingerprint=model.fingerprint,
                code=__version__,
                libraries=" ".join(f"{k}=={v}" for k, v in library_versions().items()),
                seed=0,
                dtype=self.dtype,
                device="cpu",
                wall_seconds=seconds,
            )
            about = {"model": name, "task": task, "swap_seconds": swapped}
            self.store.write(provenance, [*found.scores, *found.items], about)
            score = next(row.estimate for row in found.scores if row.metric == "likelihood")
            say(f"{name} on {task}: {score:.4f} ({swapped:.1f} + {seconds:.1f} s)")
