"""A model's vocabulary: its tokens, their ids, and the tensors that hold a row for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from miscible.errors import CheckpointError, IncompatibleModelsError
from miscible.models.checkpoint import Checkpoint, read_json
from miscible.models.layout import input_embedding, is_output_head

TOKENIZER_NAME = "tokenizer.json"
_SLOW_NAMES = ("vocab.json", "vocab.txt")
_UNREAD_NAMES = ("tokenizer.model", "spiece.model", "tekken.json", "tiktoken.model")
_MAX_ID = 2**31 - 1
_MAX_TEXT_BYTES = 64_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The tokens of a model.

    Attributes:
        ids: of every token, by its text as the tokenizer stores it. Ids may have gaps, and
            damaged files give two tokens one id.
        added: definitions of the tokens that are searched for in the text before it is split
            (control tokens, mostly), by text.
        path: the file that was read.
    """

    ids: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]
    path: Path


@dataclass(frozen=True, slots=True)
class VocabularyTensors:
    """The tensors of a model that have a row for each token.

    Attributes:
        rows: number of their rows; often more than the model has tokens.
        names: of the token embedding, the output head and the head's bias.
    """

    rows: int
    names: frozenset[str] = field(default_factory=frozenset)


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Return the vocabulary of the model in *folder*, None if it has no tokenizer.

    Reads ``tokenizer.json``; without one, ``vocab.json`` or ``vocab.txt``.

    Raises:
        CheckpointError: if the file is damaged, or the tokenizer is in another format.
    """
    for name in (TOKENIZER_NAME, *_SLOW_NAMES):
        path = folder / name
        if path.is_file():
            stat = path.stat()
            return _read(path, stat.st_mtime_ns, stat.st_size)
    for name in _UNREAD_NAMES:
        if (folder / name).is_file():
            raise CheckpointError(
                f"the model has its tokenizer only as {name}, from which tokens are not read.",
                where=str(folder),
                fix="Load it with transformers' AutoTokenizer and save it: that writes a "
                "tokenizer.json.",
            )
    return None


def vocabulary_tensors(model: Checkpoint) -> VocabularyTensors:
    """Return the tensors with a row for each token, told from their names and sizes.

    Raises:
        IncompatibleModelsError: if no tensor bears the name of a token embedding.
    """
    shapes = {name: info.shape for name, info in model.tensors.items() if info.shape}
    embeddings = [n for n, s in shapes.items() if len(s) == 2 and input_embedding([n]) is not None]
    if not embeddings:
        raise IncompatibleModelsError(
            "no tensor bears the name of a token embedding, so rows cannot be matched by token.",
            where=model.name,
            fix="Leave 'tokenizer' and 'tokenizer_source' out of the recipe.",
        )
    chosen = input_embedding(shapes)
    rows = max(shapes[name][0] for name in ([chosen] if chosen in embeddings else embeddings))
    heads = [n for n in shapes if is_output_head(_weight_beside(n))]
    return VocabularyTensors(
        rows, frozenset(n for n in (*embeddings, *heads) if shapes[n][0] == rows)
    )


def check_one_to_one(vocabulary: Vocabulary, rows: int) -> None:
    """Refuse a vocabulary in which ids do not name tokens.

    Args:
        vocabulary: to be looked at.
        rows: of the model's embedding; ids may lie beyond them, but not without end.

    Raises:
        CheckpointError: if it is empty, two tokens share an id, or an id is absurdly large.
    """
    ids = vocabulary.ids
    tokens: dict[int, str] = {}
    for token, number in ids.items():
        if tokens.setdefault(number, token) != token:
            wrong = f"the tokens {tokens[number]!r} and {token!r} have the same id {number}."
            break
    else:
        highest = max(tokens, default=0)
        if ids and highest < 2 * max(rows, len(ids)) + 1024:
            return
        wrong = f"a token has the id {highest}, far beyond the model's {rows} rows."
        if not ids:
            wrong = "it holds no tokens."
    raise CheckpointError(
        wrong,
        where=str(vocabulary.path),
        fix="Choose another tokenizer source, or mend the file.",
    )


def vocabulary_of(tokenizer: Mapping[str, Any], path: Path) -> Vocabulary:
    """Return the vocabulary of a parsed ``tokenizer.json``.

    Added tokens get the ids that the tokenizers library gives them, whatever the file says: that of
    the same text in the model's vocabulary, or else, counted on from the vocabulary's size, the
    next.

    Args:
        tokenizer: the parsed file.
        path: where it was read, for messages.

    Raises:
        CheckpointError: if tokens are not text with whole numbers.
    """
    model = tokenizer.get("model")
    listed = model.get("vocab") if isinstance(model, Mapping) else None
    try:
        if isinstance(listed, list):  # unigram: [[token, score], ...]
            ids = {_token(entry[0]): i for i, entry in enumerate(listed) if entry}
        else:
            ids = {_token(token): _id(i) for token, i in dict(listed or {}).items()}
        free = len(ids)
        added = {}
        for entry in tokenizer.get("added_tokens") or []:
            text, _ = _token(entry["content"]), _id(entry["id"])
            if not text:  # passed over by the library too
                continue
            if text not in ids:
                ids[text] = free
                free += 1
            added[text] = _definition(entry)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise _damaged(path) from error
    return Vocabulary(ids, added, path)


@lru_cache(maxsize=8)  # one of 300,000 tokens takes 50 MB
def _read(path: Path, mtime_ns: int, size: int) -> Vocabulary:
    if path.name == TOKENIZER_NAME:
        return vocabulary_of(read_json(path), path)
    try:
        if path.suffix == ".txt":
            lines = _text(path).split("\n")
            ids = {token: i for i, token in enumerate(lines) if token or i < len(lines) - 1}
        else:
            ids = {_token(token): _id(i) for token, i in read_json(path).items()}
        added: dict[str, Mapping[str, Any]] = {}
        beside = path.with_name("added_tokens.json")
        for token, number in (read_json(beside) if beside.is_file() else {}).items():
            ids[_token(token)] = _id(number)
            added[token] = _definition({"content": token, "special": True})
    except (TypeError, ValueError) as error:
        raise _damaged(path) from error
    return Vocabulary(ids, added, path)


def _weight_beside(name: str) -> str:
    return f"{name.removesuffix('.bias')}.weight" if name.endswith(".bias") else name


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}.", where=str(path)) from error
    if len(content) > _MAX_TEXT_BYTES:
        raise CheckpointError("the file is too large to be believed.", where=str(path))
    return content.decode("utf-8").replace("\r\n", "\n")


def _definition(entry: Mapping[str, Any]) -> dict[str, Any]:
    special = bool(entry.get("special", False))
    return {
        "content": entry["content"],
        "single_word": bool(entry.get("single_word", False)),
        "lstrip": bool(entry.get("lstrip", False)),
        "rstrip": bool(entry.get("rstrip", False)),
        "normalized": bool(entry.get("normalized", not special)),
        "special": special,
    }


def _token(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    if not value.isascii():
        value.encode()  # half a character is an error, and could not be written again
    return value


def _id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_ID:
        raise TypeError(value)
    return value


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        "the file is not a tokenizer: its tokens are not text with whole numbers.",
        where=str(path),
        fix="Download or copy it again; it is damaged.",
    )
