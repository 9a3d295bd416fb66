"""Everything about a probing run that is the same for every model of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from miscible.errors import DatasetError
from miscible.probe.dataset import Example, ProbeDataset, Span, Text
from miscible.probe.encoding.tokens import EncodingPlan, Read
from miscible.probe.layout.pairs import PairLayout
from miscible.probe.layout.tasks import TaskLayout

if TYPE_CHECKING:
    from miscible.models.live import LiveModel

MAX_STATES_BYTES = 2**30
"""Pooled states that are held at a time; data sets beyond it are encoded in a later wave."""

Layout: TypeAlias = PairLayout | TaskLayout


@dataclass(frozen=True)
class Wave:
    """Data sets that are encoded together.

    Attributes:
        layouts: the data sets.
        encoding: their distinct texts and what is pooled of them.
        refused: data sets that no probe can be fitted to, by name, with the reason.
    """

    layouts: tuple[Layout, ...]
    encoding: EncodingPlan
    refused: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        datasets: Sequence[ProbeDataset],
        live: LiveModel,
        *,
        seed: int = 0,
        batch_tokens: int | None = None,
        padding: Literal["right", "left"] = "right",
        as_tasks: bool = False,
    ) -> Wave:
        """Tokenise and lay out data sets; see `ProbePlan.build`."""
        encoding = EncodingPlan.build(
            [text for dataset in datasets for text in dataset.texts],
            live.tokenizer,
            live.model.config,
            reads=[read for dataset in datasets for read in reads_of(dataset)],
            scored={text for dataset in datasets if dataset.pairs for text in dataset.texts},
            batch_tokens=batch_tokens,
            padding=padding,
        )
        layouts: list[Layout] = []
        refused: dict[str, str] = {}
        for dataset in datasets:
            try:
                layouts.append(_laid_out(dataset, encoding, seed, as_tasks))
            except DatasetError as error:
                refused[dataset.name] = str(error)
        return cls(tuple(layouts), encoding, refused)


@dataclass(frozen=True)
class ProbePlan:
    """Data sets, folds and tokens, reused while models are swapped.

    Attributes:
        waves: in each, every distinct text is encoded once.
    """

    waves: tuple[Wave, ...]

    @classmethod
    def build(
        cls,
        datasets: Sequence[ProbeDataset],
        live: LiveModel,
        *,
        seed: int = 0,
        batch_tokens: int | None = None,
        padding: Literal["right", "left"] = "right",
        as_tasks: bool = False,
    ) -> ProbePlan:
        """Plan to probe models that have the tokenizer and the context of *live*.

        Args:
            datasets: with distinct names.
            live: any model of the sweep.
            seed: of folds, control labels and resamples, together with each data set's content.
            batch_tokens, padding: see `EncodingPlan.build`.
            as_tasks: lay out minimal pairs like any other task, without preference.

        Raises:
            DatasetError: a text without tokens.
            IncompatibleModelsError: the tokenizer has no prefix token, or does not tell characters.
        """
        config = live.model.config.get_text_config()
        read_bytes = 4 * config.hidden_size * (config.num_hidden_layers + 1)
        return cls(
            tuple(
                Wave.build(
                    part,
                    live,
                    seed=seed,
                    batch_tokens=batch_tokens,
                    padding=padding,
                    as_tasks=as_tasks,
                )
                for part in _parts(datasets, MAX_STATES_BYTES // read_bytes)
            )
        )


def read_of(span: Span, texts: Sequence[Text]) -> Read:
    """Return what is read for a span."""
    return Read(texts[span.text], span.sentence, span.start, span.stop)


def reads_of(dataset: ProbeDataset) -> list[Read]:
    """Return the distinct reads of a data set's examples."""
    spans = (span for example in dataset.examples for part in example.inputs for span in part)
    return list(dict.fromkeys(read_of(span, dataset.texts) for span in spans))


def _laid_out(dataset: ProbeDataset, encoding: EncodingPlan, seed: int, as_tasks: bool) -> Layout:
    if dataset.pairs and not as_tasks:
        return PairLayout.build(dataset, seed=seed)
    missing = encoding.missing

    def readable(example: Example) -> bool:
        spans = [read_of(span, dataset.texts) for part in example.inputs for span in part]
        return not missing[encoding.rows(spans)].any()

    kept = np.fromiter(map(readable, dataset.examples), bool, len(dataset.examples))
    return TaskLayout.build(dataset, kept, seed)


def _parts(datasets: Sequence[ProbeDataset], most_reads: int) -> list[list[ProbeDataset]]:
    parts: list[list[ProbeDataset]] = []
    held: set[Read] = set()
    for dataset in datasets:
        own = set(reads_of(dataset))
        wanted = held | own
        if not parts or len(wanted) > most_reads:
            parts.append([])
            wanted = own
        parts[-1].append(dataset)
        held = wanted
    return parts
