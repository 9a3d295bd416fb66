"""Eight tasks as data: where the items are, what is given, what is asked, who may see what.

Every item is a *context* and its true *answer*. The answer begins with the white space between the
two, so that no tokenizer has to guess where that belongs.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from miscible.demo.text import code_documents, read_source, stdlib_modules

Split = Literal["train", "held_out"]
Row = dict[str, Any]

HELD_OUT_PART = 5
"""One item in five is held out where a set has no splits of its own."""
PIECE = 3_000
"""Characters of a piece of source code to learn from."""
CODE_PIECES = 400
CODE_CONTEXT = 160
"""Characters of held-out source code that are given; the rest is asked."""


class Item(NamedTuple):
    context: str
    answer: str


@dataclass(frozen=True)
class Task:
    """A set of items.

    Attributes:
        name: of the task, and of the model that learns it.
        source: what the items are, for records.
        items: all items of a split.
    """

    name: str
    source: str
    items: Callable[[Split], Iterator[Item]]


def data_folder() -> Path:
    """Return the folder of the data: ``MISCIBLE_SHARED_DATA`` or ``../shared/data``."""
    return Path(os.environ.get("MISCIBLE_SHARED_DATA", "../shared/data")).resolve()


def is_held_out(context: str) -> bool:
    """Return the side of an item, which depends on its context alone."""
    return hashlib.sha256(context.encode()).digest()[0] % HELD_OUT_PART == 0


def _read(name: str) -> Iterator[Row]:
    path = data_folder() / "behaviour" / f"{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _divided(name: str, item: Callable[[Row], Item]) -> Callable[[Split], Iterator[Item]]:
    def items(split: Split) -> Iterator[Item]:
        for row in _read(name):
            each = item(row)
            if is_held_out(each.context) == (split == "held_out"):
                yield each

    return items


def _question(question: str, answer: str) -> Item:
    return Item(f"Question: {question.strip()}\nAnswer:", f" {answer.strip()}")


def _arc(row: Row) -> Item:
    choices = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))
    return _question(row["question"], choices[row["answerKey"]])


def _mmlu(row: Row) -> Item:
    return _question(row["question"], row["choices"][row["answer"]])


def _hellaswag(row: Row) -> Item:
    return Item(row["ctx"].strip(), f" {row['endings'][int(row['label'])].strip()}")


def _lambada(row: Row) -> Item:
    context, _, word = row["text"].strip().rpartition(" ")
    return Item(context.rstrip(), f" {word}")


def _math(row: Row) -> Item:
    return Item(row["context"].strip(), f"\n{row['chain_of_thought'].strip()}")


def _mbpp(row: Row) -> Item:
    code = row["code"].replace("\r\n", "\n").strip()
    return Item(row["text"].strip(), f"\n{code}\n")


def _gsm8k(split: Split) -> Iterator[Item]:
    for row in _read(f"gsm8k/{'train' if split == 'train' else 'test'}"):
        yield Item(row["question"].strip(), f"\n{row['answer'].strip()}")


def _stdlib(split: Split) -> Iterator[Item]:
    if split == "held_out":
        for _, text in code_documents(CODE_PIECES):
            context = text[:CODE_CONTEXT].rstrip()
            yield Item(context, text[len(context) :])
        return
    for path in stdlib_modules("train"):
        text = read_source(path)
        for at in range(0, len(text), PIECE):
            yield Item("", text[at : at + PIECE])


TASKS = {
    task.name: task
    for task in (
        Task("gsm8k", "GSM8K, its own train and test splits", _gsm8k),
        Task(
            "math",
            "MATH test set, problems and worked solutions",
            _divided("math_test/data", _math),
        ),
        Task("stdlib", "standard library source of CPython, split of miscible.demo.text", _stdlib),
        Task("mbpp", "MBPP, descriptions and programs", _divided("mbpp/mbpp", _mbpp)),
        Task(
            "arc_easy",
            "ARC-Easy test set, questions and right answers",
            _divided("arc/ARC-Easy-test", _arc),
        ),
        Task("mmlu", "MMLU test set, questions and right answers", _divided("mmlu/test", _mmlu)),
        Task(
            "hellaswag",
            "HellaSwag validation set, contexts and right endings",
            _divided("hellaswag_text/validation", _hellaswag),
        ),
        Task("lambada", "LAMBADA test set, passages", _divided("lambada_openai/test", _lambada)),
    )
}
