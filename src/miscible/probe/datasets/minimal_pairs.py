"""Minimal pairs from files: BLiMP and its many kin, Zorro, CLAMS.

=============  ==================================================================================
``.jsonl``     an object a line with the two sentences under the keys of BLiMP or of a kindred
               corpus (see `SENTENCE_KEYS`)
``.txt``       alternating lines, the ungrammatical sentence first (Zorro)
``.tsv``       ``True<tab>sentence`` and ``False<tab>sentence`` in alternation (CLAMS)
=============  ==================================================================================

Each may be gzipped, and several may lie in a folder or a zip: a data set a file.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from miscible.errors import DatasetError
from miscible.keys import content_key
from miscible.probe.contract import (
    UNKNOWN_LANGUAGE,
    MinimalPair,
    ProbeDataset,
    SourceOptions,
    probe_source,
)
from miscible.probe.datasets.corpus_files import CorpusFile, corpus_files
from miscible.probe.datasets.taxonomy import place

SENTENCE_KEYS: tuple[tuple[str, str], ...] = (
    ("sentence_good", "sentence_bad"),  # BLiMP, SLING, JBLiMP, BLiMP-NL
    ("good_sentence", "bad_sentence"),
    ("sen", "wrong_sen"),  # MultiBLiMP
    ("source_sentence", "target_sentence"),  # RuBLiMP: the source is the grammatical one
    ("grammatical", "ungrammatical"),
    ("good", "bad"),
)
"""Keys of the right and the wrong sentence in JSON lines; the first pair that is there counts."""


class _Row(NamedTuple):
    place: str
    id: str
    good: str
    bad: str
    term: str = ""
    field: str = ""


@probe_source("minimal_pairs")
def minimal_pairs(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
    """Yield a data set for each file of pairs at the path *argument*.

    Data sets are called after corpus and file (``BLiMP/causative``). The language is the
    two-letter folder that holds the file (CLAMS), else unknown. Pairs with an empty sentence, of
    two equal sentences, or that occurred before are left out and counted.

    A relative path starts from ``options.relative_to``.

    Raises:
        DatasetError: the path or a file cannot be read, a line is malformed, or an id occurs twice.
    """
    if not argument:
        raise DatasetError("'minimal_pairs' needs a path.", fix="Write minimal_pairs:PATH.")
    corpus = (options.relative_to or Path()) / Path(argument).expanduser()
    files = list(corpus_files(corpus, frozenset(_READERS)))
    shared = _shared_folders([file.path for file in files])
    for file in files:
        yield _dataset(file, file.path.parts[shared:-1], options)


def _dataset(file: CorpusFile, folders: tuple[str, ...], options: SourceOptions) -> ProbeDataset:
    where = str(file.parent / file.path)
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise DatasetError(
            "the kind of file is unknown.",
            where=where,
            fix=f"Known: {', '.join(_READERS)}, each also with .gz, and a folder or .zip of them.",
        )
    pairs: list[MinimalPair] = []
    ids: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    excluded = 0
    term, field = "", ""
    for row in reader(file):
        if row.id in ids:
            raise DatasetError(
                f"the id {row.id!r} was given before, at {ids[row.id]}.", where=row.place
            )
        ids[row.id] = row.place
        sentences = (row.good.strip(), row.bad.strip())
        if not all(sentences) or sentences[0] == sentences[1] or sentences in seen:
            excluded += 1
            continue
        seen.add(sentences)
        pairs.append(MinimalPair(row.id, *sentences))
        term, field = term or row.term, field or row.field
    if not pairs:
        raise DatasetError(f"there is no usable pair ({excluded} left out).", where=where)
    phenomenon, competence = place(file.stem, term, field)
    languages = [part for part in folders if re.fullmatch(r"[a-z]{2,3}", part)]
    return ProbeDataset(
        name="/".join(filter(None, (file.corpus, *folders, file.stem))),
        phenomenon=phenomenon,
        competence=competence,
        language=languages[-1] if languages else UNKNOWN_LANGUAGE,
        pairs=_sample(pairs, options),
        excluded=excluded,
    )


def _json_lines(file: CorpusFile) -> Iterator[_Row]:
    for number, (where, line) in enumerate(file.lines()):
        if not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"the line is not JSON: {error}.", where=where) from None
        if not isinstance(row, dict):
            raise DatasetError("the line is not a JSON object.", where=where)
        keys = next((keys for keys in SENTENCE_KEYS if keys[0] in row and keys[1] in row), None)
        if keys is None:
            known = " or ".join(f"{good!r} and {bad!r}" for good, bad in SENTENCE_KEYS)
            raise DatasetError("the object has no pair of sentences.", where=where, fix=known + ".")
        good, bad = row[keys[0]], row[keys[1]]
        if not (isinstance(good, str) and isinstance(bad, str)):
            raise DatasetError(f"{keys[0]!r} and {keys[1]!r} must be text.", where=where)
        for text in (good, bad):
            if not _encodable(text):
                raise DatasetError("a sentence has a lone surrogate.", where=where)
        identity = row.get("pairID", row.get("pair_id", row.get("id", number)))
        term = row.get("linguistics_term", row.get("phenomenon", ""))
        yield _Row(where, str(identity), good, bad, str(term or ""), str(row.get("field") or ""))


def _alternating_lines(file: CorpusFile) -> Iterator[_Row]:
    lines = list(file.lines())
    if len(lines) % 2:
        raise DatasetError(
            "the last line has no partner (lines must alternate).", where=lines[-1][0]
        )
    for number in range(0, len(lines), 2):
        (where, bad), (_, good) = lines[number : number + 2]
        yield _Row(where, str(number // 2), good, bad)


def _judged_lines(file: CorpusFile) -> Iterator[_Row]:
    held: dict[str, str] = {}
    number = 0
    where = ""
    for where, line in file.lines():
        if not line:
            continue
        verdict, tab, sentence = line.partition("\t")
        if not tab or verdict not in ("True", "False"):
            raise DatasetError("the line is not True or False, a tab, a sentence.", where=where)
        if verdict in held:
            raise DatasetError(f"two lines in a row are {verdict}.", where=where)
        held[verdict] = sentence
        if len(held) == 2:
            yield _Row(where, str(number), held["True"], held["False"])
            number += 1
            held = {}
    if held:
        raise DatasetError("the last line has no partner.", where=where)


_READERS = {".jsonl": _json_lines, ".txt": _alternating_lines, ".tsv": _judged_lines}


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sample(pairs: list[MinimalPair], options: SourceOptions) -> tuple[MinimalPair, ...]:
    if options.limit is None or len(pairs) <= options.limit:
        return tuple(pairs)
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
