"""Pairs with named parts: objects in JSON lines, and rows of CSV or TSV tables with a header.

The names are the same for both; capital letters in them do not matter.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from miscible.errors import DatasetError
from miscible.probe.datasets.corpus_files import CorpusFile

SENTENCE_KEYS: tuple[tuple[str, str], ...] = (
    ("sentence_good", "sentence_bad"),  # BLiMP, SLING, BLiMP-NL
    ("good_sentence", "bad_sentence"),  # TurBLiMP, JBLiMP
    ("sen", "wrong_sen"),  # MultiBLiMP
    ("source_sentence", "target_sentence"),  # RuBLiMP: the source is the grammatical one
    ("grammatical", "ungrammatical"),
    ("good", "bad"),
)
"""Keys of the right and the wrong sentence; the first pair that is there counts."""

_ID_KEYS = ("pairid", "pair_id", "id")
_PARADIGM_KEYS = ("uid", "pid")
_TERM_KEYS = ("linguistics_term", "phenomenon")
_FIELD_KEYS = ("field", "level")
_LANGUAGE_KEYS = ("lang", "language")

_KNOWN = " or ".join(f"{good!r} and {bad!r}" for good, bad in SENTENCE_KEYS) + "."


class PairRow(NamedTuple):
    """A pair as a file has it.

    Attributes:
        place: ``file:line``.
        id: the file's own name of the pair, else its number.
        good, bad: the sentences.
        paradigm, term, field, language: what the file says of the pair, each empty if nothing.
    """

    place: str
    id: str
    good: str
    bad: str
    paradigm: str = ""
    term: str = ""
    field: str = ""
    language: str = ""


def json_line_pairs(file: CorpusFile) -> Iterator[PairRow]:
    """Yield the pairs of JSON lines, an object each.

    Raises:
        DatasetError: a line is no object with a pair of sentences; its place.
    """
    for number, (where, line) in enumerate(file.lines()):
        if not line:
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"the line is not JSON: {error}.", where=where) from None
        if not isinstance(found, dict):
            raise DatasetError("the line is not a JSON object.", where=where)
        record = {_normal(key): value for key, value in found.items()}
        keys = _sentence_keys(record)
        if keys is None:
            raise DatasetError("the object has no pair of sentences.", where=where, fix=_KNOWN)
        yield _row(where, number, record, keys)


def table_pairs(file: CorpusFile) -> Iterator[PairRow]:
    """Yield the pairs of a table, a row each.

    The delimiter is the first of comma, semicolon and tab (of a ``.tsv`` file: tab first) with
    which the header has a pair of columns.

    Raises:
        DatasetError: there is no such header, a row is broken or of another width; its place.
    """
    where = str(file.parent / file.path)
    delimiters = "\t,;" if file.suffix == ".tsv" else ",;\t"
    found = (delimiter for delimiter in delimiters if _sentence_keys(_header(file, delimiter)))
    delimiter = next(found, None)
    if delimiter is None:
        raise DatasetError("the header has no pair of columns.", where=f"{where}:1", fix=_KNOWN)
    header = _header(file, delimiter)
    keys = _sentence_keys(header)
    assert keys is not None
    column, count = Counter(filter(None, header)).most_common(1)[0]
    if count > 1:
        raise DatasetError(f"the column {column!r} occurs {count} times.", where=f"{where}:1")
    for number, (place, cells) in enumerate(_records(file, delimiter)):
        if number == 0:
            continue
        if len(cells) != len(header):
            raise DatasetError(
                f"the row has {len(cells)} cells, the header {len(header)}.", where=place
            )
        yield _row(place, number - 1, dict(zip(header, cells, strict=True)), keys)


def _header(file: CorpusFile, delimiter: str) -> Sequence[str]:
    try:
        _, cells = next(_records(file, delimiter), ("", []))
    except _BrokenRowError:
        return []
    return [_normal(cell) for cell in cells]


class _BrokenRowError(DatasetError):
    """A row that is no CSV; in a header, a sign that another delimiter is meant."""


def _records(file: CorpusFile, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, cells) of the rows that are not blank; cells may hold line breaks."""
    reader = csv.reader(_whole_lines(file), delimiter=delimiter, strict=True)
    while True:
        place = f"{file.parent / file.path}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _BrokenRowError(
                f"the row that starts here is broken: {error}.",
                where=place,
                fix="Put a cell that has quotes in quotes, and double those inside it.",
            ) from None
        if any(cell.strip() for cell in cells):
            yield place, cells


def _whole_lines(file: CorpusFile) -> Iterator[str]:
    """Yield lines with their ends and all their white space, which may be cells."""
    for number, raw in enumerate(io.BytesIO(file.content.removeprefix(b"\xef\xbb\xbf")), 1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"the line is not UTF-8 ({error.reason} at byte {error.start}).",
                where=f"{file.parent / file.path}:{number}",
                fix="Convert the file to UTF-8.",
            ) from None
        yield text.removesuffix("\n").removesuffix("\r") + "\n"


def _normal(key: str) -> str:
    return key.strip().lower()


def _sentence_keys(names: Sequence[str] | Mapping[str, object]) -> tuple[str, str] | None:
    return next((keys for keys in SENTENCE_KEYS if keys[0] in names and keys[1] in names), None)


def _row(where: str, number: int, record: Mapping[str, object], keys: tuple[str, str]) -> PairRow:
    good, bad = record[keys[0]], record[keys[1]]
    if not (isinstance(good, str) and isinstance(bad, str)):
        raise DatasetError(f"{keys[0]!r} and {keys[1]!r} must be text.", where=where)

    def said(names: Sequence[str]) -> str:
        held = (record.get(name) for name in names)
        return next((str(value).strip() for value in held if value not in (None, "")), "")

    row = PairRow(
        where, said(_ID_KEYS) or str(number), good, bad,
        said(_PARADIGM_KEYS), said(_TERM_KEYS), said(_FIELD_KEYS), said(_LANGUAGE_KEYS),
    )  # fmt: skip
    for text in row[1:]:
        if not _encodable(text):
            raise DatasetError("a text has a lone surrogate.", where=where)
    return row


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
