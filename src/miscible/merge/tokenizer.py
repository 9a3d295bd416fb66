"""Which tokenizer and which chat template a merge gets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import RecipeError, did_you_mean
from miscible.merge.chat_templates import PRESETS, check_syntax, is_text
from miscible.merge.recipe import Recipe
from miscible.merge.token_rules import asked_tokenizer
from miscible.models.checkpoint import Checkpoint, read_json
from miscible.models.tokenizer import (
    SLOW_FILES,
    TOKENIZER_FILES,
    check_same_vocabulary,
    extended_tokenizer,
)
from miscible.models.vocab import TOKENIZER_NAME, read_vocabulary

if TYPE_CHECKING:
    from miscible.merge.embeddings import Alignment

CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What a merge's folder gets besides weights and config.

    Attributes:
        texts: files to write, by name; they take the place of the source's.
        omitted: files of the source that are not taken over.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    omitted: frozenset[str] = frozenset()


def tokenizer_reference(recipe: Recipe, models: Mapping[str, Checkpoint], template: str) -> str:
    """Return the reference of the model whose tokenizer files the merge takes.

    For a union it is the template, or the first model that has a tokenizer; the files then get the
    others' tokens too (`tokenizer_files`).

    Args:
        recipe: its `tokenizer_source` or `tokenizer.source` may be ``base``, ``union`` or one of
            its models; without it, the vocabularies must be equal.
        models: every reference of the recipe, opened.
        template: reference of the model whose config the merge takes.

    Raises:
        RecipeError: for another source, or two of them.
        IncompatibleModelsError: if the vocabularies differ and the recipe says nothing of it.
    """
    asked = asked_tokenizer(recipe, models)
    if asked is None:
        check_same_vocabulary(list(models.values()))
        return template
    if asked.union:
        having = [r for r in (template, *models) if read_vocabulary(models[r].folder) is not None]
        return having[0] if having else template
    return asked.source if asked.source in models else template


def tokenizer_files(
    recipe: Recipe,
    models: Mapping[str, Checkpoint],
    reference: str,
    alignment: Alignment | None,
) -> TokenizerFiles:
    """Return how the merge's tokenizer files differ from those of the model *reference*.

    Args:
        recipe: the recipe.
        models: every reference of the recipe, opened.
        reference: of `tokenizer_reference`.
        alignment: of `miscible.merge.embeddings.align`.

    Raises:
        CheckpointError: if the tokenizer cannot get the tokens, or a file is damaged.
        RecipeError: for a chat template that is none.
    """
    folder = models[reference].folder
    texts: dict[str, str] = {}
    omitted: frozenset[str] = frozenset()
    held = read_vocabulary(folder) if alignment is not None else None
    if alignment is not None and held is not None and held.ids != alignment.vocabulary:
        texts = _extended(models, reference, alignment, recipe)
        omitted = SLOW_FILES & frozenset(TOKENIZER_FILES)
    template = chat_template(recipe, models)
    if template is not None:
        changed = texts.get(CONFIG_FILE)
        config = json.loads(changed) if changed is not None else _config(folder)
        texts |= _with_template(template, config)
    return TokenizerFiles(texts, omitted)


def vocabulary_config(
    config: Mapping[str, Any],
    models: Mapping[str, Checkpoint],
    template: str,
    reference: str,
    alignment: Alignment,
) -> dict[str, Any]:
    """Return *config* for the output's vocabulary: its size, and the ids of special tokens.

    An id in the template's config is that of a token, which may have another id in the output.
    Where the output lacks the token, the id is the one that the tokenizer's model gives.

    Args:
        config: of the merge, from the template's.
        models: every reference of the recipe, opened.
        template: reference of the model whose config it is.
        reference: of `tokenizer_reference`.
        alignment: of the merge.
    """
    vocabulary = read_vocabulary(models[template].folder)
    texts = {i: token for token, i in vocabulary.ids.items()} if vocabulary is not None else None
    return _renumbered(config, models[reference].config, texts, alignment)


def check_chat_template(recipe: Recipe) -> None:
    """Refuse a `chat_template` that is neither ``auto``, nor the name of a preset, nor Jinja.

    Raises:
        RecipeError: for any other text, and for Jinja that cannot be parsed.
    """
    wanted = recipe.chat_template
    if wanted is None or wanted == "auto" or wanted in PRESETS:
        return
    if not any(mark in wanted for mark in ("{{", "{%", "{#")):
        raise RecipeError(
            f"there is no chat template {wanted[:80]!r}.",
            fix=f"Give 'auto' for the most common one of the models, the Jinja template itself, or "
            f"a name. {did_you_mean(wanted[:80], PRESETS)}",
        )
    check_syntax(wanted)


def chat_template(recipe: Recipe, models: Mapping[str, Checkpoint]) -> str | None:
    """Return the chat template that the merge's folder gets, None for its tokenizer's own.

    ``auto`` is the most common template of the models that have one, the first listed where two
    are as common.

    Raises:
        RecipeError: see `check_chat_template`.
        CheckpointError: if a tokenizer config cannot be read.
    """
    check_chat_template(recipe)
    wanted = recipe.chat_template
    if wanted != "auto":
        return wanted if wanted is None else PRESETS.get(wanted, wanted)
    held = [found for model in models.values() if (found := _template_of(model.folder))]
    return Counter(held).most_common(1)[0][0] if held else None


def template_files(template: str, folder: Path) -> dict[str, str]:
    """Return the tokenizer files of *folder* that change with another chat template."""
    return _with_template(template, _config(folder))


def _extended(
    models: Mapping[str, Checkpoint], reference: str, alignment: Alignment, recipe: Recipe
) -> dict[str, str]:
    folder = models[reference].folder
    held = read_vocabulary(folder)
    assert held is not None
    definitions: dict[str, Mapping[str, Any]] = {}
    plain: set[str] = set()
    for model in models.values():
        found = read_vocabulary(model.folder)
        if found is not None:
            for token, definition in found.added.items():
                definitions.setdefault(token, definition)
            plain |= found.ids.keys()
    for token in alignment.vocabulary.keys() - plain:  # what the recipe alone names
        definitions[token] = {
            "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": False,
        }  # fmt: skip
    new = {t: d for t, d in definitions.items() if t not in held.ids and t in alignment.vocabulary}
    donors = [model.folder for other, model in models.items() if other != reference]
    tokenizer = extended_tokenizer(folder, alignment.vocabulary, new, donors)
    texts = {TOKENIZER_NAME: json.dumps(tokenizer, ensure_ascii=False) + "\n"}
    config = _config(folder)
    if isinstance(config.get("added_tokens_decoder"), dict):
        config["added_tokens_decoder"] |= {str(alignment.vocabulary[t]): new[t] for t in new}
        texts[CONFIG_FILE] = _json(config)
    return texts


def _renumbered(
    config: Mapping[str, Any],
    other: Mapping[str, Any],
    texts: Mapping[int, str] | None,
    alignment: Alignment,
) -> dict[str, Any]:
    changed = dict(config)
    for key, value in config.items():
        beside = other.get(key)
        if key == "vocab_size":
            changed[key] = alignment.rows
        elif isinstance(value, dict):  # the text model of one that also sees or hears
            inner = beside if isinstance(beside, dict) else {}
            if key in ("text_config", "decoder", "encoder"):
                changed[key] = _renumbered(value, inner, texts, alignment)
        elif key.endswith(("_token_id", "_token_ids", "_token_index")) and texts is not None:
            numbers = value if isinstance(value, list) else [value]
            ids = [alignment.vocabulary.get(texts.get(n, "")) for n in numbers if _is_id(n)]
            if not ids:
                continue
            if None in ids:
                changed[key] = beside
            else:
                changed[key] = ids if isinstance(value, list) else ids[0]
    return changed


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _config(folder: Path) -> dict[str, Any]:
    return read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}


def _json(config: Mapping[str, Any]) -> str:
    text = json.dumps(config, indent=2, ensure_ascii=False)
    return (text if is_text(text) else json.dumps(config, indent=2)) + "\n"


def _with_template(template: str, config: dict[str, Any]) -> dict[str, str]:
    # Older readers know only the config; where there is a file of its own, it wins.
    return {CONFIG_FILE: _json({**config, "chat_template": template}), TEMPLATE_FILE: template}


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
    return held if isinstance(held, str) and is_text(held) else None
