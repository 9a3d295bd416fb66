"""The texts that every Python carries, and their split."""

import pytest

from miscible.demo.text import (
    code_documents,
    english_documents,
    read_source,
    stdlib_modules,
    stdlib_root,
)
from miscible.errors import DatasetError


def names(split: str) -> list[str]:
    return [path.relative_to(stdlib_root()).as_posix() for path in stdlib_modules(split)]


def test_splits_do_not_meet_and_leave_out_tests_and_installed_packages() -> None:
    train, held_out = names("train"), names("held_out")
    assert not set(train) & set(held_out)
    assert len(train) > 5 * len(held_out) > 100
    for name in train + held_out:
        assert not {"test", "tests", "site-packages", "idlelib", "pydoc_data"} & {*name.split("/")}


def test_the_split_of_known_modules_never_changes() -> None:
    """The shipped code adapter was trained under this split."""
    assert {"pathlib.py", "typing.py", "queue.py", "gzip.py"} <= set(names("held_out"))
    assert {"argparse.py", "subprocess.py", "contextlib.py"} <= set(names("train"))


def test_code_documents_are_whole_lines_of_held_out_modules() -> None:
    documents, held_out = code_documents(16), names("held_out")
    assert len({document.source for document in documents}) == 16
    for source, text in documents:
        assert f"{source}.py" in held_out
        assert text.rstrip() in read_source(stdlib_root() / f"{source}.py")
        assert text.startswith(("def ", "class ", "async def ")) and text.endswith("\n")
        assert 300 < len(text) <= 551


def test_english_documents_are_prose_without_repeats() -> None:
    documents = english_documents(60)
    paragraphs = [part for document in documents for part in document.text.split("\n\n")]
    assert len(paragraphs) == len(set(paragraphs))
    for _, text in documents:
        assert 400 <= len(text) <= 601
        assert "::=" not in text and "**" not in text


def test_drawing_is_seeded() -> None:
    assert code_documents(8) == code_documents(8) != code_documents(8, seed=1)
    assert english_documents(8, seed=1) == english_documents(8, seed=1)


def test_too_many_documents_are_an_error() -> None:
    with pytest.raises(DatasetError, match="were asked for"):
        english_documents(10_000)
