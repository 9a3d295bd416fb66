"""Matching the rows of embeddings and heads by token where vocabularies differ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from miscible.errors import IncompatibleModelsError, RecipeError
from miscible.merge.recipe import Recipe
from miscible.merge.token_rows import (
    DONATED,
    PADDING,
    Alignment,
    Donors,
    ReadRows,
    RowMap,
    aligned_rows,
    mean_row,
)
from miscible.merge.token_rules import AskedTokenizer, TokenRule, asked_tokenizer
from miscible.merge.tokenizer import tokenizer_reference
from miscible.models.checkpoint import Checkpoint
from miscible.models.layout import input_embedding
from miscible.models.tokenizer import check_same_vocabulary
from miscible.models.vocab import (
    Vocabulary,
    VocabularyTensors,
    check_one_to_one,
    read_vocabulary,
    vocabulary_tensors,
)

__all__ = [
    "DONATED", "PADDING", "Alignment", "Donors", "ReadRows", "RowMap", "align", "aligned_rows",
    "mean_row",
]  # fmt: skip


def align(recipe: Recipe, models: Mapping[str, Checkpoint], template: str) -> Alignment | None:
    """Match rows by token as the recipe's `tokenizer` or `tokenizer_source` asks.

    A model's row of a token that it has is its own. Where it lacks the token, the row is that of
    the base model, else that of the only model that has it, else the mean of all that have it, else
    zero; an entry of `tokens` says otherwise, with ``force`` also for models that have the token.
    Rows that belong to no token (padding, gaps in the ids) are the mean of the model's other rows.

    Args:
        recipe: the recipe.
        models: every reference of the recipe, opened, in the order of `Recipe.references`.
        template: reference of the model whose tokenizer is meant by ``base`` and begins a union.

    Returns:
        None if the recipe asks for nothing, or every model's rows are the output's as they are.

    Raises:
        RecipeError: if the recipe asks for what its models do not have.
        IncompatibleModelsError: if rows cannot be matched.
        CheckpointError: if a tokenizer is damaged.
    """
    asked = asked_tokenizer(recipe, models)
    if asked is None:
        return None
    as_they_are = not asked.tokens and asked.pad_to_multiple_of is None
    if as_they_are and not any(map(_has_embedding, models.values())):
        # Nothing to match by: an image model, say, whose recipe names a tokenizer out of habit.
        check_same_vocabulary(list(models.values()))
        return None
    held = {reference: vocabulary_tensors(model) for reference, model in models.items()}
    vocabularies = {reference: read_vocabulary(model.folder) for reference, model in models.items()}
    sizes = {tensors.rows for tensors in held.values()}
    if as_they_are and len(sizes) == 1 and not any(vocabularies.values()):
        return None
    source = tokenizer_reference(recipe, models, template)
    known, assumed = _complete(vocabularies, held, models, source)
    vocabulary = _output_vocabulary(asked, known, held, models, source)
    multiple = asked.pad_to_multiple_of or 1
    count = -(-(max(vocabulary.values()) + 1) // multiple) * multiple
    own = _own_rows(known, held, vocabulary, count)
    given = _donors_of(own, recipe.base_model, list(models))
    _apply_rules(asked.tokens, vocabulary, known, held, own, given, models)
    real = np.zeros(count, dtype=bool)
    real[list(vocabulary.values())] = True
    whole = np.arange(count)
    if real.all() and all(
        held[reference].rows == count and np.array_equal(own[i], whole)
        for i, reference in enumerate(models)
    ):
        return None
    given[:, (own >= 0).all(axis=0)] = DONATED  # nobody needs a donor there
    needed = real & (own < 0).any(axis=0)
    empty = set(np.flatnonzero(needed & (given < 0).all(axis=0)).tolist())
    zeroed = {token for token, rule in asked.tokens.items() if rule.kind == "zero"}
    unheld = [t for t, i in vocabulary.items() if i in empty and t not in zeroed]
    own[:, ~real] = PADDING
    return Alignment(
        vocabulary,
        count,
        tuple(models),
        {reference: RowMap(reference, own[i]) for i, reference in enumerate(models)},
        _compressed(given),
        {reference: tensors.names for reference, tensors in held.items()},
        tuple(unheld),
        assumed,
    )


def _has_embedding(model: Checkpoint) -> bool:
    return any(input_embedding([name]) is not None for name in model.tensors)


def _complete(
    vocabularies: Mapping[str, Vocabulary | None],
    held: Mapping[str, VocabularyTensors],
    models: Mapping[str, Checkpoint],
    source: str,
) -> tuple[dict[str, Vocabulary], tuple[str, ...]]:
    start = vocabularies[source]
    if start is None:
        raise IncompatibleModelsError(
            "the model has no tokenizer, so rows cannot be matched by its tokens.",
            where=models[source].name,
            fix="Choose another tokenizer source.",
        )
    assumed = tuple(reference for reference, found in vocabularies.items() if found is None)
    for reference in assumed:
        if held[reference].rows != held[source].rows:
            raise IncompatibleModelsError(
                f"the model has no tokenizer, and {held[reference].rows} rows where "
                f"{models[source].name} has {held[source].rows}.",
                where=models[reference].name,
                fix="Put its tokenizer.json into its folder.",
            )
    return {reference: found or start for reference, found in vocabularies.items()}, assumed


def _output_vocabulary(
    asked: AskedTokenizer,
    known: Mapping[str, Vocabulary],
    held: Mapping[str, VocabularyTensors],
    models: Mapping[str, Checkpoint],
    source: str,
) -> dict[str, int]:
    vocabulary = dict(known[source].ids)
    check_one_to_one(known[source], held[source].rows)
    free = max(vocabulary.values()) + 1
    for reference in models if asked.union else ():
        found = known[reference].ids
        stored = held[reference].rows
        new = [(i, token) for token, i in found.items() if i < stored and token not in vocabulary]
        for _, token in sorted(new):
            vocabulary[token] = free
            free += 1
    for token in asked.tokens:
        if token not in vocabulary:
            vocabulary[token] = free
            free += 1
    return vocabulary


def _own_rows(
    known: Mapping[str, Vocabulary],
    held: Mapping[str, VocabularyTensors],
    vocabulary: Mapping[str, int],
    count: int,
) -> np.ndarray:
    """Return each model's own row for each output row, `DONATED` where it has none."""
    own = np.full((len(known), count), DONATED, dtype=np.int64)
    places = np.fromiter(vocabulary.values(), dtype=np.int64, count=len(vocabulary))
    for number, (reference, found) in enumerate(known.items()):
        ids = found.ids
        rows = np.fromiter((ids.get(t, DONATED) for t in vocabulary), np.int64, len(vocabulary))
        rows[rows >= held[reference].rows] = DONATED
        own[number, places] = rows
    return own


def _donors_of(own: np.ndarray, base: str | None, references: list[str]) -> np.ndarray:
    given = own.copy()
    if base is not None:
        number = references.index(base)
        from_base = own[number] >= 0
        given[:, from_base] = DONATED
        given[number, from_base] = own[number, from_base]
    return given


def _apply_rules(
    rules: Mapping[str, TokenRule],
    vocabulary: Mapping[str, int],
    known: Mapping[str, Vocabulary],
    held: Mapping[str, VocabularyTensors],
    own: np.ndarray,
    given: np.ndarray,
    models: Mapping[str, Checkpoint],
) -> None:
    references = list(models)
    for token, rule in rules.items():
        place = vocabulary[token]
        if rule.kind != "default":
            given[:, place] = DONATED
        if rule.model is not None:
            text = token if rule.token is None else rule.token
            row = known[rule.model].ids.get(text) if rule.token_id is None else rule.token_id
            if row is None or not 0 <= row < held[rule.model].rows:
                what = f"the id {row}" if rule.token_id is not None else f"the token {text!r}"
                raise RecipeError(
                    f"{rule.model} has no row for {what}.", where=f"tokenizer.tokens, {token!r}"
                )
            given[references.index(rule.model), place] = row
        if rule.force:
            own[:, place] = DONATED


def _compressed(given: np.ndarray) -> Donors:
    places, models = np.nonzero(given.T >= 0)
    offsets = np.zeros(given.shape[1] + 1, dtype=np.int64)
    np.cumsum(np.bincount(places, minlength=given.shape[1]), out=offsets[1:])
    return Donors(offsets, models.astype(np.int64), given.T[places, models])
