"""Differences between configs: which break a merge, which to know of, which change nothing.

The lists are the reasons. A merge takes the whole config of one model, so a field that says how
weights are *used* gives the other models' weights another meaning; tensors do not show it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from miscible.models.preflight.finding import Finding, Severity, by_value
from miscible.models.preflight.subject import Subject

_MAX_FIELDS = 2000

BREAKS: Mapping[str, str] = {
    "num_attention_heads": "the same matrices would be cut into other heads",
    "n_head": "the same matrices would be cut into other heads",
    "num_heads": "the same matrices would be cut into other heads",
    "num_key_value_heads": "the same matrices would be cut into other heads",
    "multi_query": "the same matrices would be cut into other heads",
    "head_dim": "the same matrices would be cut into other heads",
    "qk_rope_head_dim": "the same matrices would be cut into other heads",
    "qk_nope_head_dim": "the same matrices would be cut into other heads",
    "v_head_dim": "the same matrices would be cut into other heads",
    "hidden_act": "the weights were trained around another activation function",
    "hidden_activation": "the weights were trained around another activation function",
    "activation_function": "the weights were trained around another activation function",
    "rope_theta": "positions turn queries and keys by other angles",
    "rope_local_base_freq": "positions turn queries and keys by other angles",
    "rotary_emb_base": "positions turn queries and keys by other angles",
    "rope_type": "positions turn queries and keys by other angles",
    "rope_scaling": "positions turn queries and keys by other angles",
    "factor": "positions turn queries and keys by other angles",
    "low_freq_factor": "positions turn queries and keys by other angles",
    "high_freq_factor": "positions turn queries and keys by other angles",
    "original_max_position_embeddings": "positions turn queries and keys by other angles",
    "short_factor": "positions turn queries and keys by other angles",
    "long_factor": "positions turn queries and keys by other angles",
    "attention_factor": "attention scores are scaled otherwise",
    "mrope_section": "positions turn queries and keys by other angles",
    "partial_rotary_factor": "positions turn other parts of queries and keys",
    "rotary_pct": "positions turn other parts of queries and keys",
    "rotary_dim": "positions turn other parts of queries and keys",
    "rope_interleaved": "positions turn other parts of queries and keys",
    "no_rope_layers": "some layers of one see positions that the other's do not",
    "position_embedding_type": "positions enter the model in another way",
    "alibi": "positions enter the model in another way",
    "layer_types": "layers attend in another way",
    "is_decoder": "one attends to the left only",
    "use_parallel_residual": "layers are wired otherwise",
    "parallel_attn": "layers are wired otherwise",
    "new_decoder_architecture": "layers are wired otherwise",
    "apply_residual_connection_post_layernorm": "layers are wired otherwise",
    "do_layer_norm_before": "layers are wired otherwise",
    "norm_type": "layers normalise in another way",
    "scale_attn_by_inverse_layer_idx": "attention scores are scaled otherwise",
    "scale_attn_weights": "attention scores are scaled otherwise",
    "query_pre_attn_scalar": "attention scores are scaled otherwise",
    "attention_multiplier": "attention scores are scaled otherwise",
    "embedding_multiplier": "embeddings are scaled otherwise",
    "scale_embedding": "embeddings are scaled otherwise",
    "scale_emb": "embeddings are scaled otherwise",
    "residual_multiplier": "layers are scaled otherwise",
    "scale_depth": "layers are scaled otherwise",
    "routed_scaling_factor": "experts are scaled otherwise",
    "scoring_func": "experts are chosen in another way",
    "norm_topk_prob": "experts are scaled otherwise",
    "clip_qkv": "queries and keys are clipped otherwise",
}
"""Fields by which the same weights mean something else."""

NOTABLE: Mapping[str, str] = {
    "*_eps": "norms differ slightly",
    "*_epsilon": "norms differ slightly",
    "max_position_embeddings": "the merge is used up to that length; the shortest was trained",
    "n_positions": "the merge is used up to that length; the shortest was trained",
    "n_ctx": "the merge is used up to that length; the shortest was trained",
    "max_sequence_length": "the merge is used up to that length; the shortest was trained",
    "sliding_window": "long texts are attended to otherwise",
    "use_sliding_window": "long texts are attended to otherwise",
    "max_window_layers": "long texts are attended to otherwise",
    "num_experts_per_tok": "another number of experts answers a token",
    "logit_scale": "the certainty of predictions differs",
    "logits_scaling": "the certainty of predictions differs",
    "*_softcapping": "large scores are capped otherwise",
    "eos_token_id": "the models end a text with other tokens",
    "bos_token_id": "the models begin a text with other tokens",
    "image_token_*": "the models mark images with other tokens",
    "auto_map": "loading it runs code of its author (trust_remote_code)",
    "beta_fast": "long contexts are scaled otherwise",
    "beta_slow": "long contexts are scaled otherwise",
    "mscale*": "long contexts are scaled otherwise",
    "id2label": "the classes of the heads differ",
    "label2id": "the classes of the heads differ",
    "problem_type": "the heads were trained for another task",
}
"""Fields that do not break a merge; names may hold ``*``."""

HARMLESS = (
    "_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache",
    "_attn_*", "attn_implementation", "architectures", "*dropout*", "*_pdrop", "initializer_*",
    "init_*", "*router_aux_loss_coef", "router_jitter_noise", "output_*", "return_*",
    "use_return_dict", "gradient_checkpointing", "pretraining_tp", "torchscript", "pad_token_id",
    "sep_token_id", "cls_token_id", "decoder_start_token_id", "unsloth_*", "_unsloth*",
    "_commit_hash", "use_bfloat16", "chunk_size_feed_forward", "pruned_heads",
    "is_encoder_decoder_generate", "finetuning_task", "task_specific_params", "tokenizer_class",
    "prefix", "bad_words_ids", "*length_penalty", "temperature", "top_k", "top_p", "typical_p",
    "num_beams*", "diversity_penalty", "max_length", "min_length", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "repetition_penalty", "early_stopping", "do_sample",
    "num_return_sequences", "remove_invalid_values", "model_name", "begin_suppress_tokens",
    "suppress_tokens", "forced_*_token_id", "exponential_decay_*", "add_cross_attention",
    "cross_attention_hidden_size", "tf_legacy_loss", "tie_encoder_decoder", "quantization_config",
    "vocab_size", "tie_word_embeddings", "model_type", "mlm", "use_fused_*",
)  # fmt: skip
"""Fields of training, generation and bookkeeping, and those that other checks look at."""

COUNTS = frozenset({
    "num_hidden_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers",
    "num_experts", "num_local_experts", "n_routed_experts",
})  # fmt: skip
"""Fields that say how many equal parts a model has: the first parts of a deeper one fit, and are
not the same."""

SHAPES = frozenset({
    "hidden_size", "intermediate_size", "n_embd", "n_inner", "d_model", "d_ff",
    "moe_intermediate_size", "kv_lora_rank", "q_lora_rank", "attention_bias", "mlp_bias",
    "qkv_bias", "ffn_dim", "embedding_size", "type_vocab_size", "patch_size", "image_size",
})  # fmt: skip
"""Fields that the tensors themselves show."""

_DEFAULTS: Mapping[str, Any] = {
    "rope_theta": 10000.0,
    "rope_type": "default",
    "partial_rotary_factor": 1.0,
}
_DERIVED: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "head_dim": lambda config: config["hidden_size"] // config["num_attention_heads"],
    "num_key_value_heads": lambda config: config["num_attention_heads"],
}
_UNSTATED = object()


def check_configs(subjects: Sequence[Subject], template: str, *, slices: bool) -> list[Finding]:
    """Compare the configs of all models, field by field.

    Args:
        subjects: those whose config cannot be read are passed over.
        template: label of the model whose config the merge takes.
        slices: whether the merge takes layers out of models, so that their number may differ.
    """
    held = [(subject, _flat(subject.config)) for subject in subjects if subject.config]
    if len(held) < 2:
        return []
    findings = []
    fields = dict.fromkeys(name for _, config in held for name in config)
    for name in fields:
        values = [(subject, _value(name, config)) for subject, config in held]
        stated = [(s, value) for s, value in values if value is not _UNSTATED]
        if len({_frozen(value) for _, value in stated}) < 2:
            if len(stated) == len(values) or stated[0][1] in (None, False, [], {}):
                continue
            values = [(s, "unstated" if v is _UNSTATED else v) for s, v in values]
            finding = _finding(name, values, template, slices, one_sided=True)
        else:
            finding = _finding(name, stated, template, slices, one_sided=False)
        if finding is not None:
            findings.append(finding)
    return findings


def _finding(
    name: str,
    values: Sequence[tuple[Subject, Any]],
    template: str,
    slices: bool,
    *,
    one_sided: bool,
) -> Finding | None:
    field = name.rpartition(".")[2]
    if any(fnmatch(part, pattern) for part in name.split(".") for pattern in HARMLESS):
        return None
    listed = by_value([(subject.label, value) for subject, value in values])
    models = tuple(subject.reference for subject, _ in values)
    if field in SHAPES or field in COUNTS:
        if slices or one_sided:
            return None
        what = f"{name} is {listed}: the models are of different shapes."
        if field in SHAPES:
            return Finding(Severity.WARNING, "config", models, what)
        fix = "Merge models of one size, or take layers out of them with 'slices'."
        return Finding(Severity.ERROR, "config", models, what, fix)
    reason = BREAKS.get(field)
    if reason is not None and not (slices and field == "layer_types"):
        what = f"{name} is {listed}: {reason}, and the merge takes that of {template}."
        if one_sided:
            return Finding(
                Severity.WARNING, "config", models, what,
                f"Check whether the architecture's default for {field!r} is the same.",
            )  # fmt: skip
        fix = f"Merge only models that agree in {field!r}, or train one of them on to the other's."
        return Finding(Severity.ERROR, "config", models, what, fix)
    reason = next((why for pattern, why in NOTABLE.items() if fnmatch(field, pattern)), None)
    if reason is not None:
        what = f"{name} is {listed}: {reason}; the merge takes that of {template}."
        return Finding(Severity.INFO if one_sided else Severity.WARNING, "config", models, what)
    what = f"{name} is {listed}; the merge takes that of {template}."
    if one_sided:
        return Finding(Severity.INFO, "config", models, what)
    return Finding(
        Severity.WARNING, "config", models, what,
        "This field is not known here; check that it does not change what the weights mean.",
    )  # fmt: skip


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with dotted names; RoPE settings stand where older configs have them."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Mapping[str, Any], depth: int) -> None:
        for key, item in value.items():
            if len(flat) >= _MAX_FIELDS:
                return
            if str(key) in ("rope_parameters", "rope_scaling") and isinstance(item, Mapping):
                # transformers 5 keeps rope_theta in there, earlier versions beside it; `type` is
                # the older word for `rope_type`.
                walk(prefix, {"rope_type" if k == "type" else k: v for k, v in item.items()}, depth)
            elif isinstance(item, Mapping) and depth < 4 and key not in ("id2label", "label2id"):
                walk(f"{prefix}{key}.", item, depth + 1)
            elif not (str(key) == "rope_scaling" and item is None):
                flat[f"{prefix}{key}"] = item

    walk("", config, 0)
    return flat


def _value(name: str, config: Mapping[str, Any]) -> Any:
    if name in config and config[name] is not None:
        return config[name]
    prefix, _, field = name.rpartition(".")
    if field in _DERIVED:
        nested = {k.removeprefix(f"{prefix}." if prefix else ""): v for k, v in config.items()}
        try:
            return _DERIVED[field](nested)
        except (KeyError, TypeError, ZeroDivisionError):
            return _UNSTATED
    if field in _DEFAULTS:
        return _DEFAULTS[field]
    return config.get(name, _UNSTATED)


def _frozen(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return repr(float(value))
        except OverflowError:
            return str(value)
    return json.dumps(value, sort_keys=True, default=str)
