"""What the tensors of a PEFT LoRA file are, told from their names and shapes.

=======================================  ==========================================================
``M.lora_A.weight``, ``M.lora_B.weight``  factors of a linear layer or a convolution
``M.lora_B.bias``                        added to the layer's bias (`lora_bias`)
``M.lora_embedding_A``, ``..._B``        factors of an embedding
``M.lora_magnitude_vector``              magnitudes of DoRA
``M.token_adapter.trainable_tokens_delta``  rows that replace the base's (`trainable_token_indices`)
``M.base_layer.weight``, ``.bias``       what the adapter found under itself, saved beside it
``M.weight``, ``M.bias``, ...            full copies: `modules_to_save`, biases, embeddings
=======================================  ==========================================================

All of them begin with ``base_model.model.``; the adapter's name, ``default``, may follow the role.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from miscible.errors import AdapterError
from miscible.models.adapter_changes import Change, Factors
from miscible.models.adapter_config import pattern_value
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.layout import input_embedding, is_output_head

PREFIX = "base_model.model."
_ROLES: Mapping[str, re.Pattern[str]] = {
    role: re.compile(rf"(?P<module>.+)\.{pattern}")
    for role, pattern in {
        "A": r"lora_A(\.default)?\.weight",
        "B": r"lora_B(\.default)?\.weight",
        "offset": r"lora_B(\.default)?\.bias",
        "embedding A": r"lora_embedding_A(\.default)?",
        "embedding B": r"lora_embedding_B(\.default)?",
        "magnitude": r"lora_magnitude_vector(\.default)?(\.weight)?",
        "tokens": r"token_adapter\.trainable_tokens_delta(\.default)?",
        "weight": r"base_layer\.weight",
        "bias": r"base_layer\.bias",
    }.items()
}
_MACHINERY = re.compile(
    r"\.(lora_|base_layer\.|token_adapter\.|modules_to_save\.|original_module\.)"
)
_SAID_AGAIN = re.compile(r"\.(modules_to_save|original_module)(?=\.[^.]+$)")
"""What PEFT saves of a saved embedding besides the embedding itself, and does not read."""


def changes_of(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], where: str
) -> dict[str, Change]:
    """Return what becomes of each tensor of the base, by the tensor's name.

    Args:
        tensors: the adapter's, from their headers.
        config: the adapter's, accepted by `miscible.models.adapter_config`.
        where: the adapter, for messages.

    Raises:
        AdapterError: for a tensor that is none of the above, or does not go with the others.
    """
    modules: dict[str, dict[str, str]] = {}
    changes: dict[str, Change] = {}
    for key, info in tensors.items():
        if _SAID_AGAIN.search(key) and _SAID_AGAIN.sub("", key) in tensors:
            continue
        if not info.floating:
            raise AdapterError(f"tensor {key!r} is not floating ({info.dtype}).", where=where)
        module, role = _role(key, config, where)
        if role is None:
            changes[module] = Change(info, copy=key)
        elif role in modules.setdefault(module, {}):
            raise AdapterError(f"module {module!r} has tensor {key!r} twice.", where=where)
        else:
            modules[module][role] = key
    for module, keys in modules.items():
        made = _Module(module, keys, tensors, config, where).changes()
        for name in made.keys() & changes.keys():
            raise AdapterError(f"tensor {name!r} is changed in two ways.", where=where)
        changes |= made
    if not changes:
        raise AdapterError("the adapter is empty.", where=where)
    return changes


def _role(key: str, config: Mapping[str, Any], where: str) -> tuple[str, str | None]:
    # Module and role; the tensor's own name and None for a full copy.
    name = key.removeprefix(PREFIX)
    if name != key:
        for role, pattern in _ROLES.items():
            match = pattern.fullmatch(name)
            if match is not None:
                return match["module"], role
        if not _MACHINERY.search(f".{name}") and _may_be_copied(name, config):
            return name, None
    raise AdapterError(
        f"tensor {key!r} is not a LoRA factor, nor does the config speak of it.",
        where=where,
        fix="Merge the adapter into its base with PEFT and use the resulting folder.",
    )


def _may_be_copied(name: str, config: Mapping[str, Any]) -> bool:
    # PEFT saves resized embeddings and their heads unasked.
    if is_output_head(name) or input_embedding([name]) is not None:
        return True
    if name.endswith(".bias") and config.get("bias", "none") not in ("none", None):
        return True
    parts = name.split(".")[:-1]
    modules = [".".join(parts[: i + 1]) for i in range(len(parts))]
    saved = config.get("modules_to_save") or ()
    return any(module.endswith(ending) for ending in saved for module in modules)


class _Module:
    """The tensors that belong to one adapted module."""

    def __init__(
        self,
        module: str,
        keys: Mapping[str, str],
        tensors: Mapping[str, TensorInfo],
        config: Mapping[str, Any],
        where: str,
    ) -> None:
        self.module, self.keys, self.config, self.where = module, keys, config, where
        self.infos = {role: tensors[key] for role, key in keys.items()}

    def changes(self) -> dict[str, Change]:
        weight, bias = f"{self.module}.weight", f"{self.module}.bias"
        if "tokens" in self.keys:
            return {weight: self._rows()}
        change = self._low_rank()
        made = {weight: change}
        found = self.infos.get("bias") or self.infos.get("offset")
        if found is not None:
            made[bias] = Change(
                found,
                copy=self.keys.get("bias"),
                offset=self.keys.get("offset"),
                offset_scale=change.factors.scale if change.factors else 1.0,
            )
        self._check_bias()
        return made

    def _low_rank(self) -> Change:
        embedding = "embedding A" in self.keys or "embedding B" in self.keys
        roles = ("embedding A", "embedding B") if embedding else ("A", "B")
        if set(roles) != self.keys.keys() & {"A", "B", "embedding A", "embedding B"}:
            raise self._error("has only one of its two factors")
        a, b = (self.infos[role] for role in roles)
        kernel = self._kernel(a.shape, b.shape, embedding)
        rank, outputs = a.shape[0], b.shape[0]
        if b.shape[1] != rank:
            raise self._error("has factors that differ in rank")
        transposed = embedding or (not kernel and bool(self.config.get("fan_in_fan_out")))
        first, second = (self.keys[role] for role in roles)
        factors = Factors(first, second, self._scale(rank), transposed, kernel)
        shape = (a.shape[1], outputs) if transposed else (outputs, *a.shape[1:])
        copied = self.infos.get("weight")
        if copied is not None and copied.shape != shape:
            raise self._error(f"has factors of {shape} and a saved weight of {copied.shape}")
        self._check_magnitude(outputs)
        return Change(
            TensorInfo(b.dtype, shape),
            copy=self.keys.get("weight"),
            factors=factors,
            magnitude=self.keys.get("magnitude"),
        )

    def _kernel(self, a: tuple[int, ...], b: tuple[int, ...], embedding: bool) -> tuple[int, ...]:
        if len(a) == len(b) == 2:
            return ()
        if embedding or len(a) != len(b) or not 3 <= len(a) <= 5 or set(b[2:]) != {1}:
            raise self._error(f"has factors of shapes {a} and {b}, which no layer has")
        if a[0] > b[1] > 0 and a[0] % b[1] == 0:
            raise self._error("is a convolution in groups, which is not supported")
        return a[2:]

    def _rows(self) -> Change:
        info = self.infos["tokens"]
        places = self._token_places()
        if len(self.keys) > 1:
            raise self._error("has trained tokens and other changes")
        if len(info.shape) != 2 or info.shape[0] != len(places):
            raise self._error(f"has trained tokens {info.shape}, its config names {len(places)}")
        least = TensorInfo(info.dtype, (max(places) + 1, info.shape[1]))
        return Change(least, rows=self.keys["tokens"], places=places)

    def _token_places(self) -> tuple[int, ...]:
        given = self.config.get("trainable_token_indices")
        if isinstance(given, Mapping):
            given = next((v for k, v in given.items() if _is_tail(str(k), self.module)), None)
        if not _is_whole_numbers(given) or not given or len(set(given)) < len(given):
            raise self._error("has trained tokens, and the config does not say which")
        return tuple(given)

    def _scale(self, stored_rank: int) -> float:
        config, where = self.config, self.where
        rank = pattern_value(config.get("rank_pattern"), self.module, config["r"], where)
        alpha = pattern_value(config.get("alpha_pattern"), self.module, config["lora_alpha"], where)
        if rank != stored_rank or rank < 1:
            raise self._error(f"has rank {stored_rank}, its config says {rank}")
        # rsLoRA (2312.03732) divides by the root of the rank.
        return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)

    def _check_magnitude(self, outputs: int) -> None:
        info = self.infos.get("magnitude")
        if (info is not None) != bool(self.config.get("use_dora")):
            held = "no magnitudes" if info is None else "magnitudes"
            raise self._error(f"has {held}, its config says otherwise (use_dora)")
        if info is not None and info.size != outputs:
            raise self._error(f"has {info.size} magnitudes for {outputs} outputs")

    def _check_bias(self) -> None:
        outputs = self.infos.get("B")
        for role in ("bias", "offset"):
            info = self.infos.get(role)
            if info is not None and (outputs is None or info.shape != outputs.shape[:1]):
                raise self._error(f"has a bias of shape {info.shape}")
        if "offset" in self.keys and not self.config.get("lora_bias"):
            raise self._error("has a bias, its config says otherwise (lora_bias)")

    def _error(self, what: str) -> AdapterError:
        return AdapterError(f"module {self.module!r} {what}.", where=self.where)


def _is_tail(tail: str, module: str) -> bool:
    return module == tail or module.endswith(f".{tail}")


def _is_whole_numbers(value: Any) -> bool:
    return isinstance(value, Iterable) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31 for n in value
    )
