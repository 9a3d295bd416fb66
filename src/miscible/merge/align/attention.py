"""Attention heads: whole heads have no order, unless positions are told apart by head."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from miscible.merge.align.permutation_spec import Group, Member
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.layout import place_of

_SEPARATE = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("q_proj", "k_proj", "v_proj", "dense"),
    ("q", "k", "v", "o"),
    ("wq", "wk", "wv", "wo"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
    ("to_q", "to_k", "to_v", "to_out.0"),
    ("self.query", "self.key", "self.value", "output.dense"),
    ("attention.query", "attention.key", "attention.value", "output.dense"),
)
_FUSED = (("qkv_proj.", "o_proj"), ("qkv.", "proj"), ("Wqkv.", "Wo"), ("in_proj_", "out_proj"),
          ("c_attn.", "c_proj"))  # fmt: skip
"""Queries, then keys, then values, in one projection."""
_NORM = re.compile(r"(?P<of>[qk])_?(norm|layer_?norm|ln)\.(weight|bias)")
_HARMLESS = re.compile(
    r"output\.LayerNorm\.(weight|bias)|bias|masked_bias|(.+\.)?rotary_emb\.inv_freq|"
    r"(.+\.)?relative_position_index"
)
"""The same for all heads, or behind the projection out of them."""
_BIAS_BY_HEAD = re.compile(r"(.+\.)?(relative_attention_bias\.weight|relative_position_bias_table)")
_RELATIVE = re.compile(r"(^|[._])rel(ative)?_?(pos|att|emb)|alibi|slopes?($|\.)")
_POSITIONS = re.compile(
    r"(^|\.)(wpe|embed_positions|pos(ition(al)?)?_embed(ding)?s?|relative_attention_bias|"
    r"relative_position_bias_table)(\.|$)"
)
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


@dataclass(frozen=True, slots=True)
class _Part:
    # Where queries, keys or values lie: tensors ``{stem}weight`` and ``{stem}bias``, which entries.
    stem: str
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class _Module:
    parts: tuple[_Part, ...]  # q, k, v; or a single one that holds all three, head by head
    out: str
    transposed: bool = False  # GPT-2 stores [inputs, outputs]


def attention_heads(
    scopes: Mapping[str, Mapping[str, TensorInfo]],
    tensors: Mapping[str, TensorInfo],
    config: Mapping[str, Any],
) -> list[Group]:
    """Return the heads of all attention modules that are understood.

    Modules at the same place of different layers are left alone together, and are permuted together
    where they share a position bias by head (T5).

    Args:
        scopes: tensors of every module within a layer, by prefix, by the rest of their names.
        tensors: of the model.
        config: gives the number of heads.
    """
    if not _heads_are_alike(scopes, tensors, config):
        return []
    alike: dict[str, list[Group | None]] = defaultdict(list)
    shared: set[str] = set()
    for prefix, scope in scopes.items():
        module = _module(prefix, scope)
        if module is None:
            continue
        heads = _number_of_heads(config, prefix)
        skeleton = re.sub(r"\b[0-9]+\b", "#", prefix)
        alike[skeleton].append(_group(prefix, scope, module, heads) if heads else None)
        if "relative_attention_bias.weight" in scope:
            shared.add(skeleton)
    groups: list[Group] = []
    for skeleton, held in alike.items():
        known = [group for group in held if group is not None]
        if len(known) < len(held):
            continue
        groups += [_together(skeleton, known)] if skeleton in shared else known
    return groups


def _heads_are_alike(
    scopes: Mapping[str, Mapping[str, TensorInfo]],
    tensors: Mapping[str, TensorInfo],
    config: Mapping[str, Any],
) -> bool:
    # Positions must be known to enter in a way that does not tell heads apart: linear biases
    # (2108.12409) leave no trace among the tensors.
    words = list(_truthy_keys(config))
    if any("alibi" in word for word in words):
        return False
    outside = (name for name in tensors if place_of(name).stack is None)
    if any(_RELATIVE.search(name) for name in outside):
        return False
    by_config = any("rope" in word or "rotary" in word for word in words)
    return by_config or any(_POSITIONS.search(name) for name in tensors)


def _truthy_keys(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _truthy_keys(value)
        if value:
            yield str(key)


def _module(prefix: str, scope: Mapping[str, TensorInfo]) -> _Module | None:
    def is_matrix(name: str) -> bool:
        return name in scope and len(scope[name].shape) == 2

    for *three, out in _SEPARATE:
        if f"{out}.weight" in scope and all(is_matrix(f"{name}.weight") for name in (*three, out)):
            parts = (_Part(f"{name}.", 0, scope[f"{name}.weight"].shape[0]) for name in three)
            return _Module(tuple(parts), out)
    for stem, out in _FUSED:
        if is_matrix(f"{stem}weight") and is_matrix(f"{out}.weight"):
            transposed = stem == "c_attn."
            rows = scope[f"{stem}weight"].shape[int(transposed)]
            q = scope[f"{out}.weight"].shape[int(not transposed)]
            kv = max(rows - q, 0) // 2
            places = ((0, q), (q, kv), (q + kv, kv)) if q + 2 * kv == rows else ()
            return _Module(tuple(_Part(stem, *place) for place in places), out, transposed)
    if "gpt_neox." in prefix and is_matrix("query_key_value.weight") and is_matrix("dense.weight"):
        rows = scope["query_key_value.weight"].shape[0]
        return _Module((_Part("query_key_value.", 0, rows),), "dense")
    return None


def _group(
    prefix: str, scope: Mapping[str, TensorInfo], module: _Module, heads: int
) -> Group | None:
    axis = int(module.transposed)
    inner = scope[f"{module.out}.weight"].shape[1 - axis]
    counts = [part.count for part in module.parts]
    value_width = inner // heads  # of each head
    if len(counts) == 1:
        shared, widths = heads, [3 * value_width]
    elif len(counts) == 3:
        shared = counts[2] // max(value_width, 1)  # heads of keys and values
        widths = [counts[0] // heads, counts[1] // max(shared, 1), value_width]
    else:
        return None
    if not shared or heads % shared or not all(widths) or inner != heads * value_width:
        return None
    if counts != [n * width for n, width in zip((heads, shared, shared), widths, strict=False)]:
        return None
    if len(counts) == 3 and widths[0] != widths[1]:
        return None
    members = [Member(f"{prefix}{module.out}.weight", 1 - axis, value_width, 0, fine=True)]
    known = {f"{module.out}.weight", f"{module.out}.bias"}
    for part, width in zip(module.parts, widths, strict=True):
        for name, along in ((f"{part.stem}weight", axis), (f"{part.stem}bias", 0)):
            if name in scope:
                fine = part is module.parts[0]
                members.append(Member(prefix + name, along, width, part.offset, fine))
                known.add(name)
    for name, info in scope.items():
        if name in known or _HARMLESS.fullmatch(name):
            continue
        extra = _extra(prefix, name, info, widths[0], heads, shared)
        if extra is None:
            return None
        members += extra
    return Group(f"{prefix}heads", shared, tuple(members), heads // shared)


def _extra(
    prefix: str, name: str, info: TensorInfo, width: int, heads: int, shared: int
) -> list[Member] | None:
    # Members of a tensor beside the projections; None if it is not known what it does.
    norm = _NORM.fullmatch(name)
    if norm is not None:
        count, fine = (heads, True) if norm["of"] == "q" else (shared, False)
        if info.shape == (width,):
            return []
        if info.shape == (count * width,):
            return [Member(prefix + name, 0, width, 0, fine)]
        if info.shape == (count, width):
            return [Member(prefix + name, 0, 1, 0, fine)]
    if name == "sinks" and info.shape == (heads,):
        return [Member(prefix + name, 0, 1, 0, fine=True)]
    if _BIAS_BY_HEAD.fullmatch(name) and len(info.shape) == 2 and info.shape[1] == heads:
        return [Member(prefix + name, 1, 1, 0, fine=True)]
    return None


def _together(skeleton: str, groups: list[Group]) -> Group:
    members = tuple(member for group in groups for member in group.members)
    return Group(f"{skeleton}heads", groups[0].size, members, groups[0].inner)


def _number_of_heads(config: Mapping[str, Any], prefix: str) -> int | None:
    section = config
    for key, value in config.items():
        # A model of several: the part's config is named as its tensors are (``vision_config``).
        part = str(key).removesuffix("_config")
        part = "language" if part == "text" and "language" in prefix else part
        if isinstance(value, Mapping) and any(word in value for word in _HEADS) and part in prefix:
            section = value
            break
    sides = [f"{s}_attention_heads" for s in ("encoder", "decoder") if f"{s}." in prefix]
    for key in (*sides, *_HEADS):
        value = section.get(key)
        if isinstance(value, list):
            index = place_of(f"{prefix}weight").index
            value = value[index] if index is not None and index < len(value) else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
