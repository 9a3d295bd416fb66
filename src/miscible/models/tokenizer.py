"""Tokenizer files: whether models share a vocabulary, and how a ``tokenizer.json`` gets tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from miscible.errors import CheckpointError, IncompatibleModelsError
from miscible.models.checkpoint import Checkpoint, read_json
from miscible.models.vocab import TOKENIZER_NAME, read_vocabulary, vocabulary_of

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "preprocessor_config.json", "vocab.txt",
)  # fmt: skip
"""What a model folder holds besides weights and config; a merge takes it over from one model."""

SLOW_FILES = frozenset(
    {"added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "vocab.txt"}
)
"""Those that say again what ``tokenizer.json`` says, for tokenizers without it."""


def check_same_vocabulary(models: Sequence[Checkpoint]) -> None:
    """Refuse models that give the same token different ids: their embedding rows do not match.

    Models without a ``tokenizer.json`` are passed over.

    Raises:
        IncompatibleModelsError: naming two models and a token.
        CheckpointError: if a ``tokenizer.json`` is not one.
    """
    known: tuple[Checkpoint, Mapping[str, int]] | None = None
    for model in models:
        if not (model.folder / TOKENIZER_NAME).is_file():
            continue
        held = read_vocabulary(model.folder)
        if held is None or not held.ids:
            continue
        if known is None:
            known = (model, held.ids)
            continue
        first, reference = known
        different = [t for t, i in held.ids.items() if reference.get(t, i) != i]
        alone = len(held.ids.keys() ^ reference.keys())
        if different or alone:
            what = (
                f"the token {different[0]!r} has id {reference[different[0]]} in {first.name} and "
                f"{held.ids[different[0]]} in {model.name}"
                if different
                else f"{alone} tokens are in only one of {first.name} and {model.name}"
            )
            raise IncompatibleModelsError(
                f"the tokenizers differ: {what}.",
                fix="Merge them with 'tokenizer: {source: union}' (or 'base'), which matches "
                "rows by token.",
            )


def extended_tokenizer(
    folder: Path,
    ids: Mapping[str, int],
    definitions: Mapping[str, Mapping[str, Any]],
    donors: Iterable[Path] = (),
) -> dict[str, Any]:
    """Return the ``tokenizer.json`` of *folder* with more tokens.

    Control tokens become added tokens. Parts of words go into the model's own vocabulary, so that
    they are found where the model looks for them and not in the middle of any word; a BPE model
    also gets the donors' merges that lead to them, after its own.

    Args:
        folder: of the tokenizer to extend.
        ids: id of every token, old and new; the old keep theirs.
        definitions: of the new tokens that are searched for in the text, by text.
        donors: folders of the models that the new tokens come from.

    Raises:
        CheckpointError: if the folder has no ``tokenizer.json``, or one that cannot hold the ids.
    """
    path = folder / TOKENIZER_NAME
    if not path.is_file():
        raise CheckpointError(
            f"there is no {TOKENIZER_NAME}, so the tokenizer cannot get more tokens.",
            where=str(folder),
            fix="Load it with transformers' AutoTokenizer and save it: that writes one.",
        )
    tokenizer = read_json(path)
    held = vocabulary_of(tokenizer, path)
    new = sorted((token for token in ids if token not in held.ids), key=ids.__getitem__)
    controls = [{"id": ids[t], **definitions[t]} for t in new if t in definitions]
    extended = {**tokenizer, "added_tokens": [*(tokenizer.get("added_tokens") or []), *controls]}
    # The least change first: models with only more control tokens keep their vocabulary as it is.
    if len(controls) < len(new) or vocabulary_of(extended, path).ids != ids:
        words = [token for token in new if token not in definitions]
        extended["model"] = _with_all(tokenizer.get("model"), ids, words, donors, path)
    if vocabulary_of(extended, path).ids != ids:
        raise _cannot_hold(path)
    return extended


def _with_all(
    model: Any, ids: Mapping[str, int], words: Sequence[str], donors: Iterable[Path], path: Path
) -> dict[str, Any]:
    # Added tokens that are not in the vocabulary are numbered on from its size; once it grows, all
    # of them have to be in it.
    if not isinstance(model, Mapping):
        raise _cannot_hold(path)
    others = [
        read_json(folder / TOKENIZER_NAME).get("model")
        for folder in donors
        if words and (folder / TOKENIZER_NAME).is_file()
    ]
    if isinstance(model.get("vocab"), list):
        return {**model, "vocab": _pieces(model["vocab"], ids, others, path)}
    extended = {**model, "vocab": dict(sorted(ids.items(), key=lambda item: item[1]))}
    if isinstance(model.get("merges"), list):
        extended["merges"] = _merges(model, ids, words, others)
    return extended


def _pieces(
    listed: Sequence[Any], ids: Mapping[str, int], others: Sequence[Any], path: Path
) -> list[list[Any]]:
    """Return a unigram vocabulary: a token's id is its place in the list."""
    if sorted(ids.values()) != list(range(len(ids))):
        raise _cannot_hold(path)
    scores: dict[str, float] = {}
    for vocabulary in (*(o.get("vocab") for o in reversed(others) if isinstance(o, dict)), listed):
        for entry in vocabulary if isinstance(vocabulary, list) else ():
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], (int, float)):
                scores[str(entry[0])] = entry[1]
    # What no unigram model knows is a control token, or is never chosen.
    lowest = min(scores.values(), default=0.0) - 10.0
    return [[token, scores.get(token, lowest)] for token in sorted(ids, key=ids.__getitem__)]


def _merges(
    model: Mapping[str, Any], ids: Mapping[str, int], words: Sequence[str], others: Sequence[Any]
) -> list[Any]:
    """Return a BPE model's merges and, behind them, the others' that lead to new words."""
    if model.get("continuing_subword_prefix"):  # then a merge is not the two texts put together
        return list(model["merges"])
    own, wanted = [_pair(merge) for merge in model["merges"]], set(words)
    known = set(own)
    for other in others:
        if not isinstance(other, dict) or other.get("continuing_subword_prefix"):
            continue
        merges = other.get("merges")
        for merge in map(_pair, merges if isinstance(merges, list) else []):
            first, second = merge
            if merge not in known and first + second in wanted and first in ids and second in ids:
                known.add(merge)
                own.append(merge)
    written_as_text = all(isinstance(merge, str) for merge in model["merges"])
    if written_as_text and not any(" " in part for merge in own for part in merge):
        return [" ".join(merge) for merge in own]
    return [list(merge) for merge in own]


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ", 1) if isinstance(merge, str) else merge
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(p, str) for p in parts)):
        raise CheckpointError(f"a tokenizer holds the merge {merge!r}, which is not two tokens.")
    return parts[0], parts[1]


def _cannot_hold(path: Path) -> CheckpointError:
    return CheckpointError(
        "this tokenizer cannot hold the merge's tokens at their ids.",
        where=str(path),
        fix="Choose another model as the tokenizer's source.",
    )
