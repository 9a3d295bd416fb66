"""What a recipe's `tokenizer` asks for: whose vocabulary, which rows of tokens, how many rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from miscible.errors import RecipeError, did_you_mean
from miscible.merge.chat_templates import is_text
from miscible.merge.recipe import Recipe
from miscible.models.checkpoint import Checkpoint

MAX_MULTIPLE = 1 << 20


@dataclass(frozen=True, slots=True)
class TokenRule:
    """What an entry of `tokens` says of one token.

    Attributes:
        kind: ``default``, ``zero``, or ``row`` of *model*.
        model: reference of the model whose row it is.
        token, token_id: which row, if not that of the same token.
        force: whether models that have the token get the row too.
    """

    kind: str = "default"
    model: str | None = None
    token: str | None = None
    token_id: int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class AskedTokenizer:
    """What a recipe says of its tokenizer, whichever way it is written."""

    source: str
    tokens: Mapping[str, TokenRule] = field(default_factory=dict)
    pad_to_multiple_of: int | None = None

    @property
    def union(self) -> bool:
        return self.source == "union"


def asked_tokenizer(recipe: Recipe, models: Mapping[str, Checkpoint]) -> AskedTokenizer | None:
    """Return what the recipe says of its tokenizer, None if nothing.

    Raises:
        RecipeError: if it says it twice, or what cannot be.
    """
    asked, source = recipe.tokenizer, recipe.tokenizer_source
    if asked is not None and source is not None:
        raise RecipeError("'tokenizer' and 'tokenizer_source' say the same; give one of them.")
    if asked is not None:
        source = asked.source
    if source is None:
        return None
    if source not in ("base", "union", *models):
        raise RecipeError(
            f"the tokenizer source {source!r} is none of the recipe's models.",
            fix="Give 'base', 'union', or a model as the recipe writes it.",
        )
    if asked is None:
        return AskedTokenizer(source)
    multiple = asked.pad_to_multiple_of
    if multiple is not None and not 1 <= multiple <= MAX_MULTIPLE:
        raise RecipeError(
            f"'pad_to_multiple_of' must be a whole number from 1 to {MAX_MULTIPLE}. Got {multiple}."
        )
    rules = {token: _rule(token, value, models) for token, value in (asked.tokens or {}).items()}
    return AskedTokenizer(source, rules, multiple)


def _rule(token: str, value: Any, models: Mapping[str, Checkpoint]) -> TokenRule:
    where = f"tokenizer.tokens, {token!r}"
    if not token or not is_text(token):
        raise RecipeError(f"{token!r} cannot be a token.", where="tokenizer.tokens")
    entry = _mapping(value, ("source", "force"), where)
    force, source = entry.get("force", False), entry.get("source")
    if not isinstance(force, bool):
        raise RecipeError(f"'force' must be true or false. Got {force!r}.", where=where)
    if source is None:
        return TokenRule(force=force)
    if isinstance(source, str):
        return TokenRule("row", _known(source, models, where), force=force)
    kind = source.get("kind") if isinstance(source, dict) else source
    if kind == "zero":
        _mapping(source, ("kind",), where)
        return TokenRule("zero", force=force)
    if kind != "model_token":
        raise RecipeError(
            f"the source {kind!r} is neither a model, nor of kind 'zero' or 'model_token'.",
            where=where,
        )
    entry = _mapping(source, ("kind", "model", "token", "token_id"), where)
    text, number = entry.get("token"), entry.get("token_id")
    if (text is None) == (number is None):
        raise RecipeError("exactly one of 'token' and 'token_id' is needed.", where=where)
    if text is not None and not isinstance(text, str):
        raise RecipeError(f"'token' must be text. Got {text!r}.", where=where)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise RecipeError(f"'token_id' must be a whole number. Got {number!r}.", where=where)
    return TokenRule("row", _known(entry.get("model"), models, where), text, number, force)


def _mapping(value: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RecipeError(f"a mapping with {' and '.join(keys)} is needed.", where=where)
    for key in value:
        if key not in keys:
            raise RecipeError(f"unknown key {key!r}.", where=where, fix=did_you_mean(key, keys))
    return value


def _known(reference: Any, models: Mapping[str, Checkpoint], where: str) -> str:
    if not isinstance(reference, str) or reference not in models:
        raise RecipeError(
            f"{reference!r} is none of the recipe's models.",
            where=where,
            fix="Give a model as the recipe writes it.",
        )
    return reference
