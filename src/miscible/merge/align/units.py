"""The units of a model that may be permuted, told from names, shapes and config."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from miscible.merge.align.attention import attention_heads
from miscible.merge.align.feed_forward import hidden_units
from miscible.merge.align.permutation_spec import PermutationSpec
from miscible.merge.align.state_space import inner_channels
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.layout import place_of

_DEEPEST = 32
"""Parts of a name; longer ones are no model's."""


def infer_spec(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> PermutationSpec:
    """Return the groups of a model whose permutation cannot change what it computes.

    They are the hidden units of feed-forward modules (also of experts), attention heads (with
    grouped queries: groups, and query heads within them) and the inner channels of Mamba. Modules
    that hold a tensor whose part in the computation is not known are left alone, and so is the
    residual stream, which all fine-tunes of a model share. Rotary positions fix the order within
    heads.

    Args:
        tensors: from headers.
        config: for the number of heads; may be empty.
    """
    scopes = _scopes(tensors)
    groups = [
        group
        for find in (hidden_units, inner_channels)
        for prefix, scope in scopes.items()
        if (group := find(prefix, scope)) is not None
    ]
    groups += attention_heads(scopes, tensors, config)
    return PermutationSpec(group for group in groups if group.size * group.inner > 1)


def _scopes(tensors: Mapping[str, TensorInfo]) -> dict[str, dict[str, TensorInfo]]:
    # Of every module within a layer, by its prefix: its tensors by the rest of their names.
    found: dict[str, dict[str, TensorInfo]] = defaultdict(dict)
    for name, info in tensors.items():
        place = place_of(name)
        if place.stack is None or name.count(".") > _DEEPEST:
            continue
        cut = len(f"{place.stack}{place.index}") + 1
        while cut:
            found[name[:cut]][name[cut:]] = info
            cut = name.find(".", cut) + 1
    return dict(found)
