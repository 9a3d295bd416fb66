"""Which tokenizer and which chat template a merge gets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from miscible.errors import RecipeError
from miscible.merge.recipe import Recipe
from miscible.models.checkpoint import Checkpoint, read_json
from miscible.models.tokenizer import check_same_vocabulary

CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


def tokenizer_reference(recipe: Recipe, models: Mapping[str, Checkpoint], template: str) -> str:
    """Return the reference of the model whose tokenizer files the merge takes.

    Args:
        recipe: its `tokenizer_source` or `tokenizer.source` may be ``base``, ``union`` or one of
            its models.
        models: every reference of the recipe, opened; their vocabularies must be equal, so a
            union is any of them.
        template: reference of the model whose config the merge takes.

    Raises:
        RecipeError: for another source, two of them, or a change of the vocabulary.
        IncompatibleModelsError: if the vocabularies differ.
    """
    asked = recipe.tokenizer
    if asked is not None and (asked.tokens or asked.pad_to_multiple_of):
        raise RecipeError("'tokens' and 'pad_to_multiple_of' of 'tokenizer' are not supported yet.")
    if asked is not None and recipe.tokenizer_source is not None:
        raise RecipeError("'tokenizer' and 'tokenizer_source' say the same; give one of them.")
    source = asked.source if asked is not None else recipe.tokenizer_source
    if source not in (None, "base", "union", *models):
        raise RecipeError(
            f"the tokenizer source {source!r} is none of the recipe's models.",
            fix="Give 'base', 'union', or a model as the recipe writes it.",
        )
    check_same_vocabulary(list(models.values()))
    return source if source is not None and source in models else template


def check_chat_template(recipe: Recipe) -> None:
    """Refuse a `chat_template` that is neither a template nor ``auto``.

    Raises:
        RecipeError: for a named preset.
    """
    wanted = recipe.chat_template
    if wanted is not None and wanted != "auto" and not ("{{" in wanted or "{%" in wanted):
        raise RecipeError(
            f"there is no chat template {wanted[:80]!r} here.",
            fix="Give 'auto' for the most common one of the models, or the Jinja template itself.",
        )


def chat_template(recipe: Recipe, models: Mapping[str, Checkpoint]) -> str | None:
    """Return the chat template that the merge's folder gets, None for its tokenizer's own.

    ``auto`` is the most common template of the models, the first listed where two are.

    Raises:
        CheckpointError: if a tokenizer config cannot be read.
    """
    if recipe.chat_template != "auto":
        return recipe.chat_template
    held = [found for model in models.values() if (found := _template_of(model.folder))]
    return Counter(held).most_common(1)[0][0] if held else None


def template_files(template: str, folder: Path) -> dict[str, str]:
    """Return the tokenizer files of *folder* that change with another chat template."""
    config = read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
    config["chat_template"] = template
    # Older readers know only the config; where there is a file of its own, it wins.
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    return {CONFIG_FILE: text, TEMPLATE_FILE: template}


def _template_of(folder: Path) -> str | None:
    try:
        return (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    if not (folder / CONFIG_FILE).is_file():
        return None
    held = read_json(folder / CONFIG_FILE).get("chat_template")
    if isinstance(held, list):  # several, by name
        named = {e.get("name"): e.get("template") for e in held if isinstance(e, dict)}
        held = named.get("default")
    return held if isinstance(held, str) else None
