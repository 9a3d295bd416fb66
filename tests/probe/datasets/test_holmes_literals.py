"""Lists in cells: whatever Python could do with them, they are lists or refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from miscible.errors import DatasetError
from miscible.probe.datasets.holmes_literals import MAX_CHARACTERS, parse_list


@pytest.mark.parametrize(
    "cell",
    [
        "[" * 100_000, "(" * 60_000 + ")" * 60_000, "-" * 100_000 + "1", "[" + "1+" * 9 + "1]",
        "[__import__('os')]", "['a'", "['a' 1]", "['\\x']", "['\n']", "['\0']", "{'a': 1}",
        "[b'a']", "[f'a']", "[None]", "[1j]", "[" + "9" * 5000 + "]", "[[[[[1]]]]]", "", "#['a']",
        "['a'" + " " * 140_000 + "]", "'" * 101, "'a'", "[nan]",
    ],
)  # fmt: skip
def test_cells_that_are_no_lists(cell: str) -> None:
    with pytest.raises(DatasetError, match=r"^x:1: 'inputs' is "):
        parse_list(cell, "inputs", "x:1")


@pytest.mark.parametrize(
    "value",
    [
        [], ["a"], ("a", "b"), [("a'b", 0, 1, 2)], ['"', "'''", "[[[[[", "\\", "\n\t", "\ud800"],
        [("é", -1, 0, 2**70)],
    ],
)  # fmt: skip
def test_cells_that_are_lists(value: Sequence[object]) -> None:
    assert parse_list(f" {value!r} ", "inputs", "x:1") == tuple(value)


def test_a_long_list_is_read_at_the_bound() -> None:
    cell = "[" + "1," * ((MAX_CHARACTERS - 2) // 2) + "]"
    assert len(parse_list(cell, "inputs", "x:1")) > 60_000
