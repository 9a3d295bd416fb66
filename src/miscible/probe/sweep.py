"""Probing several models on the same data: one loads, the others' weights are swapped in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from miscible.models.blocks import depth
from miscible.models.checkpoint import Checkpoint
from miscible.models.live import LiveModel
from miscible.models.ref import open_checkpoint
from miscible.models.runtime import runtime_key
from miscible.probe.comparison.compare import Portrait, Sample, compare, describe
from miscible.probe.dataset import ProbeDataset
from miscible.probe.encoding.cache import StateCache
from miscible.probe.encoding.encode import resolve_layers
from miscible.probe.plan import ProbePlan
from miscible.probe.run import ProbeOptions, Probing, probe_model
from miscible.records import FailureRow, ItemRow, ScoreRow, SimilarityRow


@dataclass(frozen=True)
class Sweep:
    """What is measured of every model.

    Attributes:
        datasets: with distinct names.
        options: what is fitted.
        seed: of folds, control labels, resamples, and of random weights.
        dtype, device, batch_tokens: how models run.
        similarity: texts on which models are compared with the first; 0 for none.
        random_weights: whether the first model is probed untrained, too.
        cache: states that were computed before, and to which new ones are added.
    """

    datasets: Sequence[ProbeDataset]
    options: ProbeOptions = field(default_factory=ProbeOptions)
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    batch_tokens: int | None = None
    similarity: int = 0
    random_weights: bool = False
    cache: StateCache | None = None


@dataclass(frozen=True)
class Swept:
    """Rows of all models, in order."""

    scores: tuple[ScoreRow, ...]
    items: tuple[ItemRow, ...]
    similarities: tuple[SimilarityRow, ...]
    failures: tuple[FailureRow, ...]


def probe_models(models: Sequence[str | Checkpoint], sweep: Sweep) -> Swept:
    """Probe models, and compare them with the first.

    Args:
        models: references, or checkpoints (a virtual merge is one).
        sweep: what is measured.

    Raises:
        MiscibleError: a model that cannot be opened, loaded or read with the data; see
            `miscible.probe.run.probe_model`.
    """
    opened = [open_checkpoint(model) if isinstance(model, str) else model for model in models]
    run = _Run(sweep)
    for number, checkpoint in enumerate(opened):
        run.hold(checkpoint)
        run.measure()
        if number == 0 and sweep.random_weights:
            run.live.randomise(sweep.seed)
            run.measure()
    return run.swept()


class _Run:
    live: LiveModel

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._runtime = ""
        self._plan: ProbePlan | None = None
        self._sample: Sample | None = None
        self._first: Portrait | None = None
        self._found: list[Probing] = []
        self._similarities: list[SimilarityRow] = []

    def hold(self, checkpoint: Checkpoint) -> None:
        """Let `live` have the weights of a checkpoint."""
        sweep, runtime = self._sweep, runtime_key(checkpoint)
        if runtime == self._runtime:
            self.live.swap(checkpoint)
            return
        self.live = LiveModel.load(checkpoint, dtype=sweep.dtype, device=sweep.device)
        self._runtime = runtime
        resolve_layers(sweep.options.layers, depth(self.live.model))
        self._plan = ProbePlan.build(
            sweep.datasets, self.live, seed=sweep.seed, batch_tokens=sweep.batch_tokens,
            as_tasks=sweep.options.as_tasks,
        )  # fmt: skip
        if sweep.similarity:
            # Of the same data with the same seed: the same texts, in this tokenizer's tokens.
            self._sample = Sample.draw(
                sweep.datasets, self.live, seed=sweep.seed, texts=sweep.similarity,
                batch_tokens=sweep.batch_tokens,
            )  # fmt: skip

    def measure(self) -> None:
        """Measure the weights that `live` holds."""
        assert self._plan is not None
        sweep = self._sweep
        found = probe_model(self.live, self._plan, sweep.options, cache=sweep.cache)
        self._found.append(found)
        if self._sample is None:
            return
        portrait = Portrait.of(self.live, self._sample, sweep.options.layers, sweep.cache)
        self._similarities += describe(portrait)
        if self._first is None:
            self._first = portrait
        else:
            self._similarities += compare(portrait, self._first)

    def swept(self) -> Swept:
        """Return all rows."""
        return Swept(
            tuple(row for each in self._found for row in each.scores),
            tuple(row for each in self._found for row in each.items),
            tuple(self._similarities),
            tuple(row for each in self._found for row in each.failures),
        )
