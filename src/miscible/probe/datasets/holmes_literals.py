"""Lists in the cells of a Holmes table: Python literals of texts and whole numbers.

They come from strangers, so nothing is evaluated. Length and depth are bounded before the parser
sees them: what stands outside of quotes may only be brackets, commas and whole numbers.
"""

from __future__ import annotations

import ast
import re
import warnings

from miscible.errors import DatasetError

MAX_CHARACTERS = 131_072
"""Longest cell; what `csv` allows unless told otherwise."""

MAX_DEPTH = 4
"""Deepest nesting; a list of tuples has 2."""

_QUOTED = re.compile(
    r"'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'" r'|"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"', re.DOTALL
)
_BARE = re.compile(r"(?:[\[\](),\s]|-?[0-9])*+")


def parse_list(cell: str, what: str, where: str) -> tuple[object, ...]:
    """Return the elements of the list or tuple that *cell* spells out.

    Args:
        cell: Python source.
        what: name of the column, for messages.
        where: file and line, for messages.

    Raises:
        DatasetError: it is too long, nested too deeply, no literal, or neither list nor tuple.
    """
    if len(cell) > MAX_CHARACTERS:
        raise DatasetError(f"{what!r} is longer than {MAX_CHARACTERS} characters.", where=where)
    bare = _QUOTED.sub("", cell)
    if not _BARE.fullmatch(bare):
        raise DatasetError(
            f"{what!r} is not a Python literal of texts and whole numbers.", where=where
        )
    if _depth(bare) > MAX_DEPTH:
        raise DatasetError(f"{what!r} is nested more than {MAX_DEPTH} deep.", where=where)
    try:
        value = _literal(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DatasetError(f"{what!r} is not a Python literal.", where=where) from error
    if not isinstance(value, (list, tuple)):
        raise DatasetError(f"{what!r} is not a list.", where=where)
    return tuple(value)


def _literal(cell: str) -> object:
    if "\\" not in cell:
        return ast.literal_eval(cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown escape stands for itself
        return ast.literal_eval(cell)


def _depth(bare: str) -> int:
    deepest = depth = 0
    for character in bare:
        if character in "[(":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "])":
            depth -= 1
    return deepest
