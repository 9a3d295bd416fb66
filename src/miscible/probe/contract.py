"""How a new kind of data set is added.

A *source* turns an argument (a path, a language) into data sets. On the command line and in a
study it is written ``name`` or ``name:argument``: ``minimal_pairs:blimp.zip``, ``templates:en``.
A new source is one file::

    @probe_source("my_corpus")
    def my_corpus(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from miscible.errors import DatasetError
from miscible.probe.dataset import ProbeDataset
from miscible.registry import Registry


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What every source accepts.

    Attributes:
        limit: most examples (pairs) of one data set, drawn with the seed; None for the source's
            default.
        seed: seed of whatever the source draws.
        relative_to: folder that a source's relative paths start from; the working folder if None.
    """

    limit: int | None = None
    seed: int = 0
    relative_to: Path | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise DatasetError(f"the limit must be at least 1. Got {self.limit} instead.")


class ProbeSource(Protocol):
    """Yields the data sets that *argument* stands for; raises `DatasetError` if it cannot."""

    def __call__(self, argument: str, options: SourceOptions, /) -> Iterable[ProbeDataset]: ...


PROBE_SOURCES: Registry[ProbeSource] = Registry(
    "probe source",
    tuple(
        f"miscible.probe.datasets.{name}"
        for name in ("holmes", "minimal_pairs", "templates", "conllu", "gum", "uds")
    ),
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
