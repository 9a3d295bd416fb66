"""Minimal pairs from files: BLiMP and its many kin, Zorro, CLAMS.

`pair_files` tells which layouts are read. Each file may be gzipped, and several may lie in a folder
or a zip. A file is a data set, or, if it holds several paradigms, phenomena or languages, one each.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from miscible.errors import DatasetError
from miscible.keys import content_key
from miscible.probe.contract import SourceOptions, probe_source
from miscible.probe.dataset import MinimalPair, ProbeDataset
from miscible.probe.datasets.corpus_files import CorpusFile, corpus_files
from miscible.probe.datasets.languages import language_of_path, language_tag
from miscible.probe.datasets.pair_files import PAIR_SUFFIXES, read_pairs
from miscible.probe.datasets.pair_records import PairRow
from miscible.probe.datasets.taxonomy import place


@probe_source("minimal_pairs")
def minimal_pairs(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
    """Yield the data sets of each file of pairs at the path *argument*.

    They are called after corpus and file (``BLiMP/causative``), and after the paradigm or
    phenomenon where a file holds several (``eng/data/sv-p``). The language is the one that the rows
    name, else the folder (CLAMS), else the one of a corpus that is known by name (`languages`).
    A pair is left out, and counted by reason, that has an ``empty`` sentence, two ``identical``
    ones, or was ``repeated``.

    A relative path starts from ``options.relative_to``.

    Raises:
        DatasetError: the path or a file cannot be read, a line is malformed, or an id stands for
            two pairs of one data set.
    """
    if not argument:
        raise DatasetError("'minimal_pairs' needs a path.", fix="Write minimal_pairs:PATH.")
    corpus = (options.relative_to or Path()) / Path(argument).expanduser()
    files = list(corpus_files(corpus, PAIR_SUFFIXES, archives=True))
    shared = _shared_folders([file.path for file in files])
    for file in files:
        name = "/".join(filter(None, (file.corpus, *file.path.parts[shared:-1], file.stem)))
        yield from _datasets(file, name, options)


@dataclass
class _Collected:
    """The pairs of one data set, and what was left out."""

    first: PairRow
    pairs: dict[str, MinimalPair] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    excluded: Counter[str] = field(default_factory=Counter)

    def add(self, row: PairRow) -> None:
        good, bad = row.good.strip(), row.bad.strip()
        reason = (
            "empty" if not (good and bad)
            else "identical" if good == bad
            else "repeated" if (good, bad) in self.seen
            else ""
        )  # fmt: skip
        if row.id in self.places and reason != "repeated":
            before = self.places[row.id]
            raise DatasetError(f"the id {row.id!r} was given before, at {before}.", where=row.place)
        self.places.setdefault(row.id, row.place)
        if reason:
            self.excluded[reason] += 1
            return
        self.seen.add((good, bad))
        self.pairs[row.id] = MinimalPair(row.id, good, bad)


def _datasets(file: CorpusFile, name: str, options: SourceOptions) -> Iterator[ProbeDataset]:
    around = file.parent.resolve().parts
    folders = (*around[-1:], *file.path.parts[:-1], file.stem)
    language = language_of_path(folders, outside=around[-4:-1])
    groups: dict[tuple[str, str], _Collected] = {}
    for row in read_pairs(file):
        spoken = language_tag(row.language) or language
        group = (spoken, _slug(row.paradigm or row.term) or "other")
        groups.setdefault(group, _Collected(row)).add(row)
    left_out: Counter[str] = sum((held.excluded for held in groups.values()), Counter())
    usable = {group: held for group, held in groups.items() if held.pairs}
    if not usable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise DatasetError(
            f"there is no usable pair ({reasons or 'none at all'}).",
            where=str(file.parent / file.path),
        )
    # The exclusions of a paradigm of which nothing is left are told with the first that has pairs.
    next(iter(usable.values())).excluded += sum(
        (held.excluded for held in groups.values() if not held.pairs), Counter[str]()
    )
    languages = {spoken for spoken, _ in usable}
    parts = {part for _, part in usable}
    for (spoken, part), held in usable.items():
        inner = (
            spoken if len(languages) > 1 else "",
            part if len(parts) > 1 else "",
        )
        phenomenon, competence = place(
            held.first.paradigm or file.stem, held.first.term, held.first.field
        )
        yield ProbeDataset.of_pairs(
            name="/".join(filter(None, (name, *inner))),
            phenomenon=phenomenon,
            competence=competence,
            language=spoken,
            pairs=_sample(tuple(held.pairs.values()), options),
            excluded=dict(sorted(held.excluded.items())),
        )


def _slug(words: str) -> str:
    return re.sub(r"[\s/\\]+", "_", words.strip()).lower()


def _sample(pairs: tuple[MinimalPair, ...], options: SourceOptions) -> tuple[MinimalPair, ...]:
    if options.limit is None or len(pairs) <= options.limit:
        return pairs
    content = content_key(pairs=[(pair.id, pair.good, pair.bad) for pair in pairs])
    drawn = random.Random(f"{content}:{options.seed}").sample(range(len(pairs)), options.limit)
    return tuple(pairs[index] for index in sorted(drawn))


def _shared_folders(paths: list[PurePosixPath]) -> int:
    """Return how many leading folders all *paths* have in common."""
    count = 0
    for folders in zip(*(path.parts[:-1] for path in paths), strict=False):
        if len(set(folders)) > 1:
            break
        count += 1
    return count
