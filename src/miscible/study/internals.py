"""The internals of a study's models: every text is read once a model, whatever the data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from miscible.errors import DatasetError
from miscible.probe.comparison.compare import Portrait, Sample, compare, describe
from miscible.probe.dataset import ProbeDataset
from miscible.probe.encoding.cache import StateCache
from miscible.probe.encoding.encode import Encoding, encode
from miscible.probe.plan import ProbePlan
from miscible.probe.run import ProbeOptions, layout_rows
from miscible.records import Row
from miscible.study.spec import Internals, StudySpec

if TYPE_CHECKING:
    from miscible.models.live import LiveModel


class StudyProbes:
    """Measures data sets one by one; what a model makes of a wave is kept while it is needed.

    Args:
        spec: of the study.
        folder: from which its paths start.
        datasets: all of the study.
        live: any model of the architecture.
    """

    def __init__(
        self, spec: StudySpec, folder: Path, datasets: Sequence[ProbeDataset], live: LiveModel
    ) -> None:
        assert spec.internals is not None
        self._plan = ProbePlan.build(
            datasets, live, seed=spec.seed, batch_tokens=spec.internals.batch_tokens
        )
        self._options = ProbeOptions(
            spec.internals.layers, control=spec.internals.control, words=spec.internals.words
        )
        self._cache = _cache_of(spec.internals, folder)
        self._held: tuple[str, int, Encoding] | None = None

    def measure(self, live: LiveModel, dataset: str) -> list[Row]:
        """Return the rows of one data set for the weights that *live* holds now.

        Raises:
            DatasetError: if no probe can be fitted to it.
            KeyError: if it is not one of those that were given.
        """
        for number, wave in enumerate(self._plan.waves):
            if dataset in wave.refused:
                raise DatasetError(wave.refused[dataset])
            for layout in wave.layouts:
                if layout.dataset.name == dataset:
                    encoding = self._encoding(live, number)
                    rows = layout_rows(live.name, layout, wave.encoding, encoding, self._options)
                    return [*rows.scores, *rows.items, *rows.failures]
        raise KeyError(dataset)

    def _encoding(self, live: LiveModel, number: int) -> Encoding:
        if self._held is None or self._held[:2] != (live.fingerprint, number):
            self._held = None  # its memory is needed for the next
            texts = self._plan.waves[number].encoding
            encoding = encode(live, texts, self._options.layers, self._cache)
            self._held = live.fingerprint, number, encoding
        return self._held[2]


class Comparisons:
    """Compares models without probes; those that others are compared with are kept.

    Args:
        spec: of the study.
        folder: from which its paths start.
        datasets: all of the study; the texts are drawn from them.
        live: any model of the sweep.
    """

    def __init__(
        self, spec: StudySpec, folder: Path, datasets: Sequence[ProbeDataset], live: LiveModel
    ) -> None:
        assert spec.internals is not None
        self._layers = spec.internals.layers
        self._cache = _cache_of(spec.internals, folder)
        self._sample = Sample.draw(
            datasets, live, seed=spec.seed, texts=spec.internals.similarity,
            batch_tokens=spec.internals.batch_tokens,
        )  # fmt: skip
        self._portraits: dict[str, Portrait] = {}

    def remember(self, live: LiveModel) -> None:
        """Keep what the model makes of the sample: others will be compared with it."""
        self._portraits[live.fingerprint] = self._portrait(live)

    def remembers(self, fingerprint: str) -> bool:
        """Return whether a model with these weights was kept."""
        return fingerprint in self._portraits

    def compare(self, live: LiveModel, others: Sequence[tuple[str, str]]) -> list[Row]:
        """Return what the model is like, and how it differs from others that were kept.

        Args:
            live: the model.
            others: name and fingerprint of each.
        """
        portrait = self._portrait(live)
        rows: list[Row] = [*describe(portrait)]
        for name, fingerprint in others:
            rows += compare(portrait, replace(self._portraits[fingerprint], name=name))
        return rows

    def _portrait(self, live: LiveModel) -> Portrait:
        held = self._portraits.get(live.fingerprint)
        if held is None:
            return Portrait.of(live, self._sample, self._layers, self._cache)
        return replace(held, name=live.name)


def _cache_of(internals: Internals, folder: Path) -> StateCache | None:
    if internals.cache is None:
        return None
    return StateCache(folder / Path(internals.cache).expanduser())
