"""CoNLL-U, line by line (https://universaldependencies.org/format.html).

A parser of our own, because a broken file has to be told with file and line: the library
``conllu`` 6.0 takes lines of two columns, repeated ids, and heads outside of the sentence without
a word, and says of no error in which line it is.

Two kinds of defects are told apart. A line that is not CoNLL-U (not ten columns, an id out of turn,
a head that is no number) is an error: what follows it cannot be trusted. A sentence whose lines
are sound, but which cannot be used, is left out and counted, or used without its tree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from miscible.errors import DatasetError
from miscible.probe.datasets.corpus_files import CorpusFile
from miscible.probe.datasets.treebank import (
    Sentence,
    Token,
    Word,
    align,
    rebuilt_text,
    tree_depths,
    values_of,
)

MAX_WORDS = 200
"""Longer sentences (lists, tables) are left out: they cost more than they teach."""

_COLUMNS = 10
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_EMPTY_NODE = re.compile(r"([0-9]{1,9})\.[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_FEATURES = re.compile(r"_|[^=|]+=[^=|]+(?:\|[^=|]+=[^=|]+)*")


def read_sentences(file: CorpusFile, excluded: Counter[str]) -> Iterator[Sentence]:
    """Yield the sentences of a file; those that cannot be used are counted in *excluded*.

    Left out are sentences whose text is not made of their forms, and those of more than `MAX_WORDS`
    words. Heads that are no single-rooted tree (none given, several roots, outside of the sentence,
    a cycle) leave a sentence without `Sentence.depths`.

    A sentence's id is its ``sent_id``; if that is missing or repeated, the line makes it unique.
    Empty nodes are read over. Without ``# text`` the text is put together from the forms and
    ``SpaceAfter=No``.

    Raises:
        DatasetError: a line is not CoNLL-U or not UTF-8, with its place.
    """
    ids: set[str] = set()
    document = ""
    documents = 0
    for block in _blocks(file):
        if "newdoc" in block.comments or "newdoc id" in block.comments:
            documents += 1
            document = block.comments.get("newdoc id") or f"{file.stem}#{documents}"
        if not block.rows:
            continue
        line = block.rows[0].place.rpartition(":")[2]
        identity = block.comments.get("sent_id", "")
        while not identity or identity in ids:
            identity = f"{identity}@{line}"
        ids.add(identity)
        if len(block.rows) > MAX_WORDS:
            excluded["sentences too long"] += 1
            continue
        text, words = _words(block)
        if words is None:
            excluded["sentences not aligned"] += 1
        else:
            depths = tree_depths([word.head for word in words])
            place = block.rows[0].place
            yield Sentence(identity, place, text, document, words, depths, block.comments)


class _Row(NamedTuple):
    place: str
    columns: list[str]


class _Range(NamedTuple):
    place: str
    first: int
    last: int
    form: str
    misc: str


@dataclass(slots=True)
class _Block:
    comments: dict[str, str] = field(default_factory=dict)
    rows: list[_Row] = field(default_factory=list)
    ranges: list[_Range] = field(default_factory=list)

    def add_comment(self, place: str, line: str) -> None:
        if self.rows or self.ranges:
            raise DatasetError(
                "a comment stands within a sentence.",
                where=place,
                fix="Put a blank line between two sentences.",
            )
        name, _, value = line.removeprefix("#").partition("=")
        self.comments.setdefault(name.strip(), value.strip())

    def add(self, place: str, line: str) -> None:
        columns = line.split("\t")
        if len(columns) != _COLUMNS:
            raise DatasetError(
                f"the line has {len(columns)} columns (separated by tabs) instead of {_COLUMNS}.",
                where=place,
            )
        if "" in columns:
            raise DatasetError(
                f"column {columns.index('') + 1} is empty.", where=place, fix="Write _ for nothing."
            )
        expected = len(self.rows) + 1
        identity = columns[0]
        if identity == str(expected):
            self._add_word(place, columns)
        elif span := _RANGE.fullmatch(identity):
            first, last = int(span[1]), int(span[2])
            covered = self.ranges[-1].last if self.ranges else 0
            if first != expected or last < first or first <= covered:
                raise DatasetError(f"the range {identity} is out of turn.", where=place)
            self.ranges.append(_Range(place, first, last, columns[1], columns[9]))
        elif (node := _EMPTY_NODE.fullmatch(identity)) is None or int(node[1]) != len(self.rows):
            raise DatasetError(
                f"the id should be {expected}. Got {identity[:40]!r} instead.", where=place
            )

    def _add_word(self, place: str, columns: list[str]) -> None:
        if columns[6] != "_" and not _NUMBER.fullmatch(columns[6]):
            raise DatasetError(f"the head {columns[6][:40]!r} is not a number.", where=place)
        if not _FEATURES.fullmatch(columns[5]):
            raise DatasetError(
                f"the features {columns[5][:40]!r} are not Name=Value|Name=Value.", where=place
            )
        self.rows.append(_Row(place, columns))

    def close(self) -> None:
        if self.ranges and self.ranges[-1].last > len(self.rows):
            last = self.ranges[-1]
            raise DatasetError(
                f"the range {last.first}-{last.last} reaches beyond the sentence.", where=last.place
            )


def _blocks(file: CorpusFile) -> Iterator[_Block]:
    block = _Block()
    for place, line in file.lines():
        if not line:
            block.close()
            yield block
            block = _Block()
        elif line[0] == "#":
            block.add_comment(place, line)
        else:
            block.add(place, line)
    block.close()
    yield block


def _words(block: _Block) -> tuple[str, tuple[Word, ...] | None]:
    tokens = list(_tokens(block))
    text = block.comments.get("text") or rebuilt_text(tokens)
    places = align(text, tokens)
    if places is None:
        return text, None
    words = []
    for row, (start, stop, shared) in zip(block.rows, places, strict=True):
        _, form, _, upos, _, features, head, relation, _, misc = row.columns
        number = None if head == "_" else int(head)
        words.append(Word(form, upos, features, number, relation, misc, start, stop, shared))
    return text, tuple(words)


def _tokens(block: _Block) -> Iterator[Token]:
    ranges = {span.first: span for span in block.ranges}
    number = 1
    while number <= len(block.rows):
        span = ranges.get(number)
        form, misc = block.rows[number - 1].columns[1], block.rows[number - 1].columns[9]
        last = number
        if span:
            form, misc, last = span.form, span.misc, span.last
        forms = [row.columns[1] for row in block.rows[number - 1 : last]]
        yield Token(form, forms, values_of(misc).get("SpaceAfter") != "No")
        number = last + 1
