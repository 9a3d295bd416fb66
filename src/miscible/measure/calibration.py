"""Calibration sets: the inputs on which all models are compared, drawn once and named by content.

==============================  ==================================================================
``built-in``                    sentences, code, arithmetic and sixteen languages that ship with
                                miscible (about 25 kB); needs no network
a file ``.txt``, ``.jsonl``     (also ``.gz``) see `miscible.merge.statistics.texts`
``hub:NAME[:CONFIG[:SPLIT]]``   a data set of the Hugging Face Hub, or a folder that the library
                                ``datasets`` reads; the split is ``train`` if not given
==============================  ==================================================================

Texts are put in a seeded order, joined, and cut into sequences of one length, so that no sequence
has padding and every token counts alike.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from miscible.errors import DatasetError, MiscibleError
from miscible.files import read_file
from miscible.keys import content_key
from miscible.merge.statistics.texts import read_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BUILT_IN = "built-in"
HUB = "hub:"
MOST_TEXTS = 10_000
"""Most texts that are taken of one source: calibration sets are small."""


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """Texts of one source.

    Attributes:
        name: how tables call them.
        texts: in the source's order.
    """

    name: str
    texts: tuple[str, ...]

    @property
    def key(self) -> str:
        """A content key of the texts."""
        return content_key(texts=self.texts)


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Token sequences of one length: a shared draw of inputs.

    Attributes:
        name: of the source.
        ids: token ids, int64 [sequences, length].
        seed: of the order of the texts.
    """

    name: str
    ids: npt.NDArray[np.int64] = field(repr=False)
    seed: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def key(self) -> str:
        """A content key of the tokens: equal keys give equal measurements."""
        digest = hashlib.sha256(np.ascontiguousarray(self.ids).tobytes()).hexdigest()
        return content_key(tokens=digest, shape=list(self.ids.shape))

    @property
    def tokens(self) -> int:
        """Number of tokens that flow through a model."""
        return int(self.ids.size)

    @property
    def predictions(self) -> int:
        """Number of tokens that are predicted: all but the first of each sequence."""
        return len(self.ids) * (int(self.ids.shape[1]) - 1)

    @property
    def head(self) -> str:
        """Empty: language models have heads of their own."""
        return ""

    def subset(self, fraction: float, seed: int = 0) -> CalibrationSet:
        """Return a random part of the sequences, at least one.

        Raises:
            MiscibleError: if *fraction* is not in (0, 1].
        """
        if not 0 < fraction <= 1:
            raise MiscibleError(f"'fraction' must lie in (0, 1]. Got {fraction!r} instead.")
        count = max(1, round(fraction * len(self)))
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return CalibrationSet(self.name, self.ids[chosen], self.seed)

    def split(self, parts: int, seed: int = 0) -> tuple[CalibrationSet, ...]:
        """Return *parts* disjoint random parts whose sizes differ by one sequence at most.

        Raises:
            DatasetError: if there are fewer sequences than parts.
        """
        if not 1 <= parts <= len(self):
            raise DatasetError(
                f"{len(self)} sequences cannot be split into {parts} parts.",
                where=self.name,
                fix="Give more text, or shorter sequences.",
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return tuple(
            CalibrationSet(self.name, self.ids[np.sort(chosen)], self.seed)
            for chosen in np.array_split(order, parts)
        )


def calibration_text(
    source: str | Path = BUILT_IN, *, key: str = "text", limit: int = MOST_TEXTS
) -> CalibrationText:
    """Read the texts of a source; see the module's table.

    Args:
        source: ``built-in``, a file, or ``hub:...``.
        key: key or column that holds the text, in a ``.jsonl`` file or a data set.
        limit: most texts that are read.

    Raises:
        DatasetError: if the source cannot be read, or holds no text.
    """
    if limit < 1:
        raise DatasetError(f"the limit must be at least 1. Got {limit} instead.")
    name = str(source)
    if name == BUILT_IN:
        held = files("miscible.measure") / "data" / "calibration.jsonl"
        with as_file(held) as path:
            texts = [text.completion for text in read_texts(path, limit)]
    elif name.startswith(HUB):
        texts = _hub_texts(name.removeprefix(HUB), key, limit)
    elif key != "text":
        texts = _keyed_texts(Path(source), key, limit)
    else:
        read = read_texts(Path(source), limit)
        texts = [f"{text.prompt} {text.completion}".strip() for text in read]
    return CalibrationText(name if name.startswith(HUB) else Path(name).name, tuple(texts))


def calibration_set(
    text: CalibrationText,
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int = 128,
    sequences: int | None = None,
    most: int | None = None,
    least: int = 1,
    seed: int = 0,
) -> CalibrationSet:
    """Cut texts into sequences of *length* tokens.

    Every sequence starts with the special tokens that the tokenizer puts first, and texts are
    separated by its end token, if it has these; an incomplete last sequence is dropped.

    Args:
        text: of `calibration_text`.
        tokenizer: of the base.
        length: tokens of a sequence, special ones included.
        sequences: how many; if None all that the text gives, *most* at most and *least* at least.
        seed: of the order of the texts.

    Raises:
        DatasetError: if the text is too short.
    """
    if length < 2:
        raise DatasetError(f"a sequence needs at least 2 tokens. Got a length of {length}.")
    first = _first_tokens(tokenizer)
    fresh = length - len(first)
    if fresh < 1:
        raise DatasetError(f"a length of {length} leaves no room for text.", where=text.name)
    limit = most if sequences is None else sequences
    wanted = None if limit is None else limit * fresh
    stream: list[int] = []
    order = list(text.texts)
    random.Random(seed).shuffle(order)
    end = tokenizer.eos_token_id
    for each in order:
        stream += tokenizer(each, add_special_tokens=False)["input_ids"]
        stream += [] if end is None else [end]
        if wanted is not None and len(stream) >= wanted:
            break
    given = len(stream) // fresh
    count = min(given, most or given) if sequences is None else sequences
    needed = least if sequences is None else sequences
    if given < needed:
        raise DatasetError(
            f"the text gives {given} sequences of {length} tokens; {needed} are needed.",
            where=text.name,
            fix="Give more text, fewer sequences, or a shorter length.",
        )
    body = np.asarray(stream[: count * fresh], dtype=np.int64).reshape(count, fresh)
    head = np.tile(np.asarray(first, dtype=np.int64), (count, 1))
    return CalibrationSet(text.name, np.concatenate([head, body], axis=1), seed)


def _first_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return list(whole[:start])
    return []


def _keyed_texts(path: Path, key: str, limit: int) -> list[str]:
    if not path.name.removesuffix(".gz").endswith(".jsonl"):
        raise DatasetError("only a .jsonl file has keys.", where=str(path))
    try:
        lines = read_file(path).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError("the file is not UTF-8 text.", where=str(path)) from error
    rows = ((f"{path}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip())
    return _texts_of(((where, _parsed(line, where)) for where, line in rows), key, limit, str(path))


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError("it is not JSON.", where=where) from error


def _hub_texts(spec: str, key: str, limit: int) -> list[str]:
    import datasets

    name, config, split, *more = [*spec.split(":"), "", ""]
    if not name or any(more):
        raise DatasetError(f"{HUB}{spec} is no data set.", fix=f"Write {HUB}NAME:CONFIG:SPLIT.")
    where = f"{HUB}{spec}"
    try:
        rows = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        found = [(f"{where}, row {number}", row) for number, row in enumerate(rows.take(limit), 1)]
    # What a data set of a stranger can raise has no end: each is the data set's fault.
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        raise DatasetError(f"it cannot be read: {first}.", where=where) from error
    return _texts_of(found, key, limit, where)


def _texts_of(rows: Iterable[tuple[str, Any]], key: str, limit: int, where: str) -> list[str]:
    texts: list[str] = []
    for place, row in rows:
        if len(texts) == limit:
            break
        value = row.get(key) if isinstance(row, dict) else None
        if not isinstance(value, str):
            known: Sequence[str] = sorted(map(str, row)) if isinstance(row, dict) else []
            raise DatasetError(
                f"it has no text under the key {key!r}.",
                where=place,
                fix=f"Its keys: {', '.join(known)[:200]}." if known else None,
            )
        if value.strip():
            texts.append(value.strip())
    if not texts:
        raise DatasetError("it holds no text.", where=where)
    return texts
