"""Calibration texts: what statistics are collected on, and coefficients learned from.

==============================  ==================================================================
a file ``.txt`` (``.txt.gz``)   a text a line; empty lines are skipped
a file ``.jsonl`` (``.gz``)     an object a line with the key ``text``, or one of the pairs
                                ``prompt`` and ``completion``, ``question`` and ``answer``
==============================  ==================================================================

Of a pair, only the second part is predicted (the Fisher information of an answer, not of the
question); both parts flow through the model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import DatasetError
from miscible.files import read_file

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

PAIRS = (("prompt", "completion"), ("question", "answer"))
IGNORED = -100
"""The label of a token whose probability does not count."""


@dataclass(frozen=True, slots=True)
class Text:
    """A calibration text: *completion* is what a model predicts, after *prompt* if there is one."""

    completion: str
    prompt: str = ""


def read_texts(path: Path, limit: int | None = None) -> list[Text]:
    """Read the first *limit* texts of a file.

    Raises:
        DatasetError: if the file is missing, too large, of another form, or without a text.
    """
    name = path.name.removesuffix(".gz")
    if not name.endswith((".txt", ".jsonl")):
        raise DatasetError(
            "it is no file of texts.", where=str(path), fix="Give a .txt or .jsonl file."
        )
    try:
        content = read_file(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError("the file is not UTF-8 text.", where=str(path)) from error
    texts: list[Text] = []
    for number, line in enumerate(content.split("\n"), 1):
        if limit is not None and len(texts) == limit:
            break
        if line.strip():
            plain = name.endswith(".txt")
            texts.append(Text(line.strip()) if plain else _parsed(line, f"{path}, line {number}"))
    if not texts:
        raise DatasetError("the file holds no text.", where=str(path))
    return texts


def tokenise(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerFast, *, length: int, device: str = "cpu"
) -> list[dict[str, torch.Tensor]]:
    """Return a batch a text, so that none has padding: ``input_ids`` and ``labels``, [1, tokens].

    A sequence longer than *length* keeps its first tokens. Labels are `IGNORED` in the prompt.

    Raises:
        DatasetError: if no text has a token.
    """
    import torch

    batches = []
    for text in texts:
        prompt = tokenizer(text.prompt)["input_ids"] if text.prompt else []
        rest = tokenizer(
            f" {text.completion}" if prompt else text.completion, add_special_tokens=not prompt
        )["input_ids"]
        ids = [*prompt, *rest][:length]
        if not ids:
            continue
        labels = [IGNORED] * len(prompt) + list(rest)
        batches.append(
            {
                "input_ids": torch.tensor([ids], device=device),
                "labels": torch.tensor([labels[:length]], device=device),
            }
        )
    if not batches:
        raise DatasetError("no text has a token.")
    return batches


def _parsed(line: str, where: str) -> Text:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError("it is not JSON.", where=where) from error
    if isinstance(value, dict):
        if _is_text(value, "text"):
            return Text(value["text"])
        for prompt, completion in PAIRS:
            if _is_text(value, prompt) and _is_text(value, completion):
                return Text(value[completion], value[prompt])
    pairs = " or ".join(f"{prompt!r} and {completion!r}" for prompt, completion in PAIRS)
    raise DatasetError("it holds no text.", where=where, fix=f"Give the key 'text', or {pairs}.")


def _is_text(value: dict[str, Any], key: str) -> bool:
    return isinstance(value.get(key), str) and bool(value[key].strip())
