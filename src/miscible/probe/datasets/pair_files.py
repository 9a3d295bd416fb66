"""Files of minimal pairs, a reader a layout.

===================  ============================================================================
``.jsonl``           an object a line (BLiMP, SLING, JBLiMP, BLiMP-NL)
``.csv``, ``.tsv``   a header and a row a pair (TurBLiMP, RuBLiMP, MultiBLiMP)
``.tsv``             ``True<tab>sentence`` and ``False<tab>sentence`` in alternation (CLAMS)
``.txt``             alternating lines, the ungrammatical sentence first (Zorro)
``.txt``             ``good@@@bad`` (SLING)
===================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from miscible.errors import DatasetError
from miscible.probe.datasets.corpus_files import CorpusFile
from miscible.probe.datasets.pair_records import PairRow, json_line_pairs, table_pairs

_SEPARATOR = "@@@"


def read_pairs(file: CorpusFile) -> Iterator[PairRow]:
    """Yield the pairs of *file* in order.

    Raises:
        DatasetError: the file is of no known kind, or a line of it is malformed, with its place.
    """
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise DatasetError(
            "the kind of file is unknown.",
            where=str(file.parent / file.path),
            fix=f"Known: {', '.join(_READERS)}, each also with .gz, and a folder or .zip of them.",
        )
    return reader(file)


def _tab_separated(file: CorpusFile) -> Iterator[PairRow]:
    first = next((line for _, line in file.lines() if line), "")
    if first.partition("\t")[0] in ("True", "False"):
        return _judged_lines(file)
    return table_pairs(file)


def _judged_lines(file: CorpusFile) -> Iterator[PairRow]:
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
            yield PairRow(where, str(number), held["True"], held["False"])
            number += 1
            held = {}
    if held:
        raise DatasetError("the last line has no partner.", where=where)


def _plain_lines(file: CorpusFile) -> Iterator[PairRow]:
    lines = list(file.lines())
    if any(_SEPARATOR in line for _, line in lines[:1]):
        yield from _joined_lines(lines)
        return
    if len(lines) % 2:
        raise DatasetError(
            "the last line has no partner (lines must alternate).", where=lines[-1][0]
        )
    for number in range(0, len(lines), 2):
        (where, bad), (_, good) = lines[number : number + 2]
        yield PairRow(where, str(number // 2), good, bad)


def _joined_lines(lines: Sequence[tuple[str, str]]) -> Iterator[PairRow]:
    for number, (where, line) in enumerate(lines):
        if not line:
            continue
        sentences = line.split(_SEPARATOR)
        if len(sentences) != 2:
            raise DatasetError(f"the line is not two sentences with {_SEPARATOR}.", where=where)
        yield PairRow(where, str(number), *sentences)


_READERS: Mapping[str, Callable[[CorpusFile], Iterator[PairRow]]] = {
    ".jsonl": json_line_pairs,
    ".csv": table_pairs,
    ".tsv": _tab_separated,
    ".txt": _plain_lines,
}

PAIR_SUFFIXES = frozenset(_READERS)
"""Suffixes of the files that `read_pairs` knows."""
