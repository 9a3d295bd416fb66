"""Which LoRA configs we understand: those whose whole effect is a change of the base's tensors.

The lists name every field of PEFT 0.21.2's ``LoraConfig``. A field outside them that is set is
refused too: it comes from another version or tool, and may change what the factors mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from miscible.errors import AdapterError

CONFIG_NAME = "adapter_config.json"

UNDERSTOOD = frozenset({
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "lora_dropout", "runtime_config",  # of training and serving
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",  # see the file
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out",
    "use_dora", "lora_bias", "modules_to_save", "trainable_token_indices",  # see the file
    "ensure_weight_tying",  # see miscible.models.adapter_tying
    "init_lora_weights", "bias",  # checked below
    "eva_config", "corda_config", "lora_ga_config", "loftq_config",  # only read by their inits
    "megatron_core", "qalora_group_size",  # set, and read only by what is refused
})  # fmt: skip
REFUSED: Mapping[str, str] = {
    "layer_replication": "replicated layers",
    "target_parameters": "LoRA on bare parameters (target_parameters)",
    "alora_invocation_tokens": "aLoRA (active on some tokens only)",
    "use_qalora": "QA-LoRA (its inputs are pooled)",
    "use_bdlora": "BD-LoRA (its factors are block-diagonal)",
    "kasa_config": "KaSA (it rewrites the base)",
    "arrow_config": "Arrow (a router chooses among adapters)",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA (it draws random numbers)",
    "megatron_config": "Megatron layers",
}
_PLAIN_NAME = re.compile(r"[\w.-]+")
UNTOUCHED_BASE = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""Initialisations that leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take the
initial factors out of it, so the adapter only fits the base that they left behind."""


def refuse_unsupported(config: Mapping[str, Any], where: str) -> None:
    """Refuse adapters whose effect is not a change of the tensors of the base that they name.

    Raises:
        AdapterError: naming what is not supported.
    """
    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        raise _refused(f"{kind[:40] or 'nameless'} adapters, which are not LoRA,", where)
    for field, what in REFUSED.items():
        if config.get(field):
            raise _refused(f"adapters with {what}", where)
    if config.get("bias", "none") not in ("none", "all", "lora_only", None):
        raise _refused(f"adapters with bias {str(config['bias'])[:40]!r}", where)
    if config.get("lora_bias") and config.get("use_dora"):
        raise _refused("DoRA adapters with biases in their factors (lora_bias)", where)
    saved = config.get("modules_to_save") or []
    if not isinstance(saved, list) or not all(isinstance(name, str) and name for name in saved):
        raise AdapterError(f"'modules_to_save' must list modules in {CONFIG_NAME}.", where=where)
    for field, value in config.items():
        if value and field not in UNDERSTOOD and field not in REFUSED:
            raise AdapterError(
                f"the config sets {str(field)[:80]!r}, which is not known: it may change what the "
                "factors mean.",
                where=where,
                fix=f"Remove it from {CONFIG_NAME} if it does not, or merge it with PEFT.",
            )
    _check_initialisation(config.get("init_lora_weights", True), where)
    for field in ("r", "lora_alpha"):
        if not is_finite_number(config.get(field)) or not config[field] > 0:
            raise AdapterError(
                f"{field!r} must be a positive number in {CONFIG_NAME}.", where=where
            )
    for field in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(field) or {}
        if not isinstance(pattern, dict) or not all(map(is_finite_number, pattern.values())):
            raise AdapterError(
                f"{field!r} must map module names to numbers in {CONFIG_NAME}.", where=where
            )


def pattern_value(pattern: Any, module: str, default: Any, where: str) -> Any:
    """Return the value of *module* in a config's ``rank_pattern`` or ``alpha_pattern``.

    Raises:
        AdapterError: for a key that is a regular expression and not a module's name.
    """
    # PEFT matches keys as regular expressions against the tail of a module's name. Real adapters
    # hold plain names; an expression from a stranger could run for ever, so it is refused.
    if not isinstance(pattern, dict):
        return default
    for key, value in pattern.items():
        anchored = str(key).startswith("^")
        plain = str(key).removeprefix("^").removesuffix("$").replace(r"\.", ".")
        if not _PLAIN_NAME.fullmatch(plain):
            raise AdapterError(f"the pattern {key!r} is not a plain module name.", where=where)
        if module == plain or (not anchored and module.endswith(f".{plain}")):
            return value
    return default


def is_finite_number(value: Any) -> bool:
    """Return whether a JSON value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check_initialisation(value: Any, where: str) -> None:
    # PEFT writes True after it has converted such an adapter, so True is always safe.
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, str) or value.lower() not in UNTOUCHED_BASE:
        raise AdapterError(
            f"adapters that start from a rewritten base (init_lora_weights {str(value)[:40]!r}) "
            "are not supported: they do not fit the base that they name.",
            where=where,
            fix="Save it with PEFT's path_initial_model_for_weight_conversion, or merge it into "
            "its base with PEFT and use the resulting folder.",
        )


def _refused(what: str, where: str) -> AdapterError:
    return AdapterError(
        f"{what} are not supported.",
        where=where,
        fix="Merge it into its base with PEFT and use the resulting folder.",
    )
