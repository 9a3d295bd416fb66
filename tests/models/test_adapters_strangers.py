"""Files and configs from strangers give one clear error, or an adapter that can be read."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from miscible.errors import AdapterError
from miscible.models.adapter_config import refuse_unsupported
from miscible.models.adapter_keys import changes_of
from miscible.models.formats.safetensors import TensorInfo

MODULES = st.sampled_from(["m", "model.layers.0.q", "lm_head", "model.embed_tokens", "", "é.(a+)+"])
ENDINGS = st.sampled_from([
    ".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_B.bias",
    ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector", ".base_layer.weight",
    ".base_layer.bias", ".weight", ".bias", ".token_adapter.trainable_tokens_delta",
    ".modules_to_save.weight", ".original_module.weight", ".lora_C", "",
])  # fmt: skip
KEYS = st.builds(
    lambda prefix, module, ending: prefix + module + ending,
    st.sampled_from(["base_model.model."] * 9 + [""]),
    MODULES,
    ENDINGS,
)
INFOS = st.builds(
    TensorInfo,
    st.sampled_from(["F32", "BF16", "F32", "I8"]),
    st.lists(st.sampled_from([2, 2, 4, 1, 0]), max_size=5).map(tuple),
)
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 2, -1, 2.0, 1e400, 10**400, "", "m", "all", "a.b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["m", "q", "(a+)+$", "lm_head"]), inner, max_size=2)
    ),
    max_leaves=4,
)
FIELDS = st.sampled_from([
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "bias",
    "lora_bias", "modules_to_save", "trainable_token_indices", "fan_in_fan_out", "task_type",
    "ensure_weight_tying", "init_lora_weights", "unheard_of",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(KEYS, INFOS, max_size=6), st.dictionaries(FIELDS, VALUES, max_size=3))
def test_no_header_and_no_config_ends_in_a_traceback(
    tensors: dict[str, TensorInfo], given_config: dict[str, Any]
) -> None:
    config: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **given_config}
    try:
        refuse_unsupported(config, "here")
        changes = changes_of(tensors, config, "here")
    except AdapterError as error:
        assert "here" in str(error)
        assert "\n" not in str(error)
    else:
        assert changes
        for change in changes.values():
            assert change.is_low_rank or change.copy or change.rows or change.magnitude or (
                change.offset
            )  # fmt: skip
