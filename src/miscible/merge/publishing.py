"""Names of models that may be published: Hub ids as they are, folders by their last name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.ref import DEMO_PREFIX, is_hub_id
from miscible.records import DoseRow


def public_names(models: Mapping[str, Checkpoint]) -> dict[str, str]:
    """Return a name for each reference that may be published; no two are equal."""
    names: dict[str, str] = {}
    for reference, model in models.items():
        parts = [reference]
        if isinstance(model, AdaptedCheckpoint):
            parts = [model.base.name, model.adapter.name]
        stem = "+".join(map(public_name, parts))
        candidates = chain([stem], (f"{stem}-{number}" for number in count(2)))
        names[reference] = next(name for name in candidates if name not in names.values())
    return names


def published(sentence: str, models: Mapping[str, Checkpoint], public: Mapping[str, str]) -> str:
    """Return a sentence in which every model goes by its publishable name."""
    names = {model.name: public[reference] for reference, model in models.items()} | dict(public)
    longest_first = sorted(names, key=len, reverse=True)
    held = "|".join(map(re.escape, longest_first))
    return re.sub(rf"(?<!\S)(?:{held})(?![^\s,.:;])", lambda found: names[found[0]], sentence)


def parent_name(dose: DoseRow, public: Mapping[str, str]) -> str:
    return public.get(dose.parent) or public_name(dose.parent)


def public_name(reference: str) -> str:
    if reference.startswith(DEMO_PREFIX) or is_hub_id(reference):
        return reference
    return Path(reference).expanduser().resolve().name or "model"
