"""The config of a model whose layers were restacked by slices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from miscible.errors import IncompatibleModelsError
from miscible.merge.plan import LayerOrigin
from miscible.models.checkpoint import Checkpoint

DEPTH = "num_hidden_layers"
_NOT_PER_LAYER = re.compile(r"architectures|.*_tokens?|.*_ids?")
"""Lists that have as many entries as there are layers only by chance."""


def restacked(
    config: Mapping[str, Any], origins: Sequence[LayerOrigin], models: Mapping[str, Checkpoint]
) -> dict[str, Any]:
    """Return the entries of *config* that change: the depth, and lists with a value a layer.

    Raises:
        IncompatibleModelsError: if a model that layers are taken from has no such list.
    """
    changed: dict[str, Any] = {DEPTH: len(origins)}
    for key, value in config.items():
        if _is_per_layer(key, value, config):
            changed[key] = [_value(key, origin, models[origin.model]) for origin in origins]
    return changed


def _is_per_layer(key: str, value: Any, config: Mapping[str, Any]) -> bool:
    return (
        isinstance(value, list)
        and len(value) == config.get(DEPTH)
        and not _NOT_PER_LAYER.fullmatch(key)
    )


def _value(key: str, origin: LayerOrigin, model: Checkpoint) -> Any:
    held = model.config.get(key)
    if not isinstance(held, list) or not _is_per_layer(key, held, model.config):
        raise IncompatibleModelsError(
            f"the config has no {key!r} with a value a layer, as that of the merge's base or first "
            "model has.",
            where=model.name,
        )
    return held[origin.layer]
