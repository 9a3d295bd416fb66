"""What a tensor does in a model, told from the words of its name."""

from __future__ import annotations

import re
from collections.abc import Sequence

ROLES = ("embedding", "attention", "mlp", "norm", "head", "other")

_NORM = re.compile(r"norm|layrnorm|(^|_)ln(_|\d|$)|^bn\d*$")
_INPUT = re.compile(
    r"embed|(^|_)emb(_|$)|^(wte|wpe|shared|stem|(class|cls|mask|dist(illation)?)_token|patchify|"
    r"conv_in|conv_stem|ln_pre|pre_la?ye?rnorm|time_proj|(img|txt|time|vector|guidance)_in)$"
)
_STEM = re.compile(r"^(conv|bn)[12]?$")
_HEAD = re.compile(
    r"(^|_)heads?(_|$)|^(classifier|score|cls|embed_out|fc|pooler|qa_outputs|final_layer|conv_out|"
    r"proj_out|final_logits_bias|logit_scale|logit_bias|lm_proj|vocab_\w+|"
    r"(text|visual|vision|image)_projection)$"
)
_ATTENTION = re.compile(r"attn|attention|(^|_)att(_|$)|time_mix")
_MLP = re.compile(r"mlp|ffn?(_|$)|feed_?forward|(^|_)moe|experts?(_|$)|densereludense|channel_mix")
_ATTENTION_PROJECTION = re.compile(
    r"^([qkvo]|qkv|query|key|value)(_proj)?$|^to_(q|k|v|qkv|out)$|^query_key_value$|^c_attn$"
)
_MLP_PROJECTION = re.compile(
    r"^(gate|up|down|gate_up)_proj$|^(fc|lin|linear|dense|w)_?[123]$|^c_fc$|^w[io](_\d)?$|"
    r"^dense_(h_to_4h|4h_to_h)$|^(intermediate|output)$"
)


def role_of_parts(parts: Sequence[str], *, within_layers: bool) -> str:
    """Return the role of a tensor.

    Args:
        parts: the words between the dots of its name, without numbers.
        within_layers: whether it belongs to a layer; embeddings and heads do not.
    """
    # The last part names a parameter of a module, but outside it may stand alone: ``cls_token``.
    words = [part.lower() for part in (parts[:-1] if within_layers else parts)]
    if any(_NORM.search(word) for word in words):
        return "norm"
    if not within_layers:
        if any(map(is_head_part, words)):
            return "head"
        if any(_INPUT.search(word) for word in words):
            return "embedding"
    # The innermost module decides: a feed-forward network inside an attention block is one.
    for module, projection in ((True, False), (False, True)):
        for word in reversed(words):
            if (module and _ATTENTION.search(word)) or (
                projection and _ATTENTION_PROJECTION.search(word)
            ):
                return "attention"
            if (module and _MLP.search(word)) or (projection and _MLP_PROJECTION.search(word)):
                return "mlp"
    return "other"


def is_head_part(word: str) -> bool:
    """Return whether a word of a name outside of all layers names a head of the model."""
    return _HEAD.search(word.lower()) is not None


def is_input_part(name: str) -> bool:
    """Return whether a tensor outside of all layers comes before them."""
    parts = name.lower().split(".")
    if any(_INPUT.search(part) for part in parts) and not any(map(is_head_part, parts)):
        return True
    # Convolutions at the front: ``conv1.weight``, ``model.encoder.conv1.weight``.
    return (
        len(parts) > 1
        and _STEM.search(parts[-2]) is not None
        and not any(part.isdigit() for part in parts)
    )
