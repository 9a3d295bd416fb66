"""What a probing data set is, and how a new kind of data set is added.

A *source* turns an argument (a path, a language) into data sets. On the command line and in a
study it is written ``name`` or ``name:argument``: ``minimal_pairs:blimp.zip``, ``templates:en``.
A new source is one file::

    @probe_source("my_corpus")
    def my_corpus(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
        ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

from miscible.errors import DatasetError
from miscible.keys import content_key
from miscible.registry import Registry

Competence: TypeAlias = Literal["morphology", "syntax", "semantics", "discourse", "reasoning"]
"""The five competences of Holmes (arXiv 2404.18923)."""

COMPETENCES: tuple[Competence, ...] = get_args(Competence)

UNKNOWN_LANGUAGE = "und"
"""BCP 47 tag of a data set that does not say its language."""


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two sentences that differ in one property: *good* has it right, *bad* wrong.

    Attributes:
        id: identity within the data set, the same for every model.
        good, bad: the sentences.
        group: pairs that must not be split between train and test share it; empty for none.
    """

    id: str
    good: str
    bad: str
    group: str = ""


@dataclass(frozen=True)
class ProbeDataset:
    """Minimal pairs of one phenomenon.

    Attributes:
        name: unique within a study, ``corpus/paradigm`` by custom.
        phenomenon, competence: place in the taxonomy.
        language: BCP 47 tag.
        pairs: at least one pair; ids are unique.
        excluded: pairs of the source that could not be used (empty, identical, repeated).

    Raises:
        DatasetError: if there is no pair, an id occurs twice, or the competence is unknown.
    """

    name: str
    phenomenon: str
    competence: Competence
    language: str
    pairs: tuple[MinimalPair, ...]
    excluded: int = 0

    def __post_init__(self) -> None:
        if not self.pairs:
            raise DatasetError("there is no usable pair.", where=self.name)
        if self.competence not in COMPETENCES:
            raise DatasetError(
                f"the competence {self.competence!r} is unknown.",
                where=self.name,
                fix=f"Known: {', '.join(COMPETENCES)}.",
            )
        identity, count = Counter(pair.id for pair in self.pairs).most_common(1)[0]
        if count > 1:
            raise DatasetError(f"the pair id {identity!r} occurs {count} times.", where=self.name)

    @property
    def texts(self) -> tuple[str, ...]:
        """All sentences: good and bad in turn."""
        return tuple(text for pair in self.pairs for text in (pair.good, pair.bad))

    @cached_property
    def key(self) -> str:
        """Content key of what a probe sees: the pairs and their groups, not the name."""
        return content_key(pairs=[(p.id, p.good, p.bad, p.group) for p in self.pairs])


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What every source accepts.

    Attributes:
        limit: most pairs of one data set (drawn with the seed), None for the source's default.
        seed: seed of whatever the source draws.
        relative_to: folder that a source's relative paths start from; the working folder if None.
    """

    limit: int | None = None
    seed: int = 0
    relative_to: Path | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise DatasetError(f"the limit must be at least 1 pair. Got {self.limit} instead.")


class ProbeSource(Protocol):
    """Yields the data sets that *argument* stands for; raises `DatasetError` if it cannot."""

    def __call__(self, argument: str, options: SourceOptions, /) -> Iterable[ProbeDataset]: ...


PROBE_SOURCES: Registry[ProbeSource] = Registry(
    "probe source",
    ("miscible.probe.datasets.minimal_pairs", "miscible.probe.datasets.templates"),
)


def probe_source(name: str) -> Callable[[ProbeSource], ProbeSource]:
    """Register the decorated function as the source of that name."""
    return lambda source: PROBE_SOURCES.register(name, source)


def open_datasets(
    specs: Sequence[str], options: SourceOptions | None = None
) -> tuple[ProbeDataset, ...]:
    """Return the data sets of all *specs* (``name`` or ``name:argument``), in order.

    Raises:
        UnknownNameError: no source has that name.
        DatasetError: a source cannot be read, or two data sets have the same name.
    """
    options = options or SourceOptions()
    datasets: dict[str, ProbeDataset] = {}
    for spec in specs:
        name, _, argument = spec.partition(":")
        for dataset in PROBE_SOURCES.get(name)(argument, options):
            if dataset.name in datasets:
                raise DatasetError(
                    "two data sets have this name.",
                    where=dataset.name,
                    fix="Rename one file, or probe them in two runs.",
                )
            datasets[dataset.name] = dataset
    return tuple(datasets.values())
