"""Whether models share a vocabulary, told from their tokenizer files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from miscible.errors import CheckpointError, IncompatibleModelsError
from miscible.models.checkpoint import Checkpoint, read_json

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "preprocessor_config.json", "vocab.txt",
)  # fmt: skip
"""What a model folder holds besides weights and config; a merge takes it over from one model."""


def check_same_vocabulary(models: Sequence[Checkpoint]) -> None:
    """Refuse models that give the same token different ids: their embedding rows do not match.

    Models without a ``tokenizer.json`` are passed over.

    Raises:
        IncompatibleModelsError: naming two models and a token.
        CheckpointError: if a ``tokenizer.json`` is not one.
    """
    known: tuple[Checkpoint, Mapping[str, int]] | None = None
    for model in models:
        path = model.folder / "tokenizer.json"
        if not path.is_file():
            continue
        stat = path.stat()
        vocabulary = _vocabulary(path, stat.st_mtime_ns, stat.st_size)
        if not vocabulary:
            continue
        if known is None:
            known = (model, vocabulary)
            continue
        first, reference = known
        different = [t for t, i in vocabulary.items() if reference.get(t, i) != i]
        alone = len(vocabulary.keys() ^ reference.keys())
        if different or alone:
            what = (
                f"the token {different[0]!r} has id {reference[different[0]]} in {first.name} and "
                f"{vocabulary[different[0]]} in {model.name}"
                if different
                else f"{alone} tokens are in only one of {first.name} and {model.name}"
            )
            raise IncompatibleModelsError(
                f"the tokenizers differ: {what}.",
                fix="Matching vocabularies by token is not supported yet.",
            )


@lru_cache(maxsize=32)
def _vocabulary(path: Path, mtime_ns: int, size: int) -> Mapping[str, int]:
    data = read_json(path)
    model = data.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    try:
        if isinstance(vocabulary, list):  # unigram: [[token, score], ...]
            held = {_token(entry[0]): i for i, entry in enumerate(vocabulary) if entry}
        else:
            held = {_token(token): _id(i) for token, i in dict(vocabulary or {}).items()}
        for token in data.get("added_tokens") or []:
            held[_token(token["content"])] = _id(token["id"])
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(
            "the file is not a tokenizer: its tokens are not text with whole numbers.",
            where=str(path),
            fix="Download or copy it again; it is damaged.",
        ) from error
    return held


def _token(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _id(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(value)
    return value
