"""LoRA adapters in PEFT's format: exact low-rank deltas, never a merged copy.

Supported: LoRA and rsLoRA with rank and alpha patterns on linear layers, `fan_in_fan_out`.
Refused, because their effect is not a low-rank matrix per weight of the base: DoRA and LoRA's other
variants, trained biases, embeddings trained through LoRA, `modules_to_save`, initialisations that
rewrite the base, and every other kind of adapter (see `miscible.models.adapter_config`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import AdapterError
from miscible.keys import content_key
from miscible.models.adapter_config import CONFIG_NAME, refuse_unsupported
from miscible.models.checkpoint import Checkpoint, read_json
from miscible.models.delta import LowRank
from miscible.models.fingerprint import digest_of
from miscible.models.formats.safetensors import SafetensorsFile, TensorInfo

if TYPE_CHECKING:
    import torch

WEIGHTS_NAME = "adapter_model.safetensors"
_PLAIN_NAME = re.compile(r"[\w.-]+")
_KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])(\.default)?\.weight$")


@dataclass(frozen=True)
class _Pair:
    a: str
    b: str
    scale: float


class LoraAdapter:
    """A LoRA adapter folder; the constructor reads headers only.

    Raises:
        AdapterError: if a file is missing or damaged, or the adapter is of a refused kind.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder = folder
        self.name = name or folder.name
        self.config = read_json(folder / CONFIG_NAME)
        refuse_unsupported(self.config, str(folder))
        if not (folder / WEIGHTS_NAME).is_file():
            raise AdapterError(f"{WEIGHTS_NAME} is missing.", where=str(folder))
        self._file = SafetensorsFile(folder / WEIGHTS_NAME)
        self._transposed = bool(self.config.get("fan_in_fan_out", False))
        self._pairs = self._pair_up()

    @cached_property
    def fingerprint(self) -> str:
        """Content key of the factors and of what scales them."""
        scales = {module: pair.scale for module, pair in self._pairs.items()}
        return content_key(
            weights=digest_of(self._file.path), scales=scales, transposed=self._transposed
        )

    @property
    def weights(self) -> list[str]:
        """Names of the base's tensors that the adapter changes."""
        return [f"{module}.weight" for module in self._pairs]

    def shape(self, weight: str) -> tuple[int, ...]:
        """Shape of the delta of *weight*, from the header."""
        pair = self._pairs[weight.removesuffix(".weight")]
        outputs = self._file.extents[pair.b].info.shape[0]
        inputs = self._file.extents[pair.a].info.shape[1]
        return (inputs, outputs) if self._transposed else (outputs, inputs)

    def delta(self, weight: str) -> LowRank | None:
        """Return the delta of the base's tensor *weight*, None where the adapter changes nothing.

        Raises:
            AdapterError: if a factor holds NaN or infinity.
        """
        pair = self._pairs.get(weight.removesuffix(".weight"))
        if pair is None:
            return None
        a, b = self._file.read(pair.a), self._file.read(pair.b)
        for key, factor in ((pair.a, a), (pair.b, b)):
            if not factor.isfinite().all():
                raise AdapterError(f"tensor {key!r} holds NaN or infinity.", where=self.name)
        return LowRank(a, b, pair.scale, self._transposed)

    def _pair_up(self) -> dict[str, _Pair]:
        found: dict[str, dict[str, str]] = {}
        for key, extent in self._file.extents.items():
            match = _KEY.match(key)
            if match is None or len(extent.info.shape) != 2 or not extent.info.floating:
                raise AdapterError(
                    f"tensor {key!r} is not a LoRA factor of a linear layer.",
                    where=str(self.folder),
                )
            found.setdefault(match["module"], {})[match["factor"]] = key
        pairs = {}
        for module, keys in found.items():
            if set(keys) != {"A", "B"}:
                raise AdapterError(
                    f"module {module!r} has only one of its two factors.", where=str(self.folder)
                )
            rank = self._file.extents[keys["A"]].info.shape[0]
            if self._file.extents[keys["B"]].info.shape[1] != rank:
                raise AdapterError(
                    f"the factors of module {module!r} differ in rank.", where=str(self.folder)
                )
            pairs[module] = _Pair(keys["A"], keys["B"], self._scale(module, rank))
        if not pairs:
            raise AdapterError("the adapter is empty.", where=str(self.folder))
        return pairs

    def _scale(self, module: str, stored_rank: int) -> float:
        config, where = self.config, str(self.folder)
        rank = _pattern_value(config.get("rank_pattern"), module, config["r"], where)
        alpha = _pattern_value(config.get("alpha_pattern"), module, config["lora_alpha"], where)
        if rank != stored_rank or rank < 1:
            raise AdapterError(
                f"module {module!r} has rank {stored_rank}, its config says {rank}.",
                where=where,
            )
        # rsLoRA (2312.03732) divides by the root of the rank.
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


class AdaptedCheckpoint:
    """A base and an adapter as one checkpoint: tensors are base + delta, rounded once.

    Raises:
        AdapterError: if the adapter changes tensors that the base does not have, or of another
            shape: it was made for another base.
    """

    def __init__(self, base: Checkpoint, adapter: LoraAdapter, name: str | None = None) -> None:
        self.base, self.adapter = base, adapter
        self.name = name or f"{base.name}+{adapter.name}"
        for weight in adapter.weights:
            info = base.tensors.get(weight)
            if info is None or info.shape != adapter.shape(weight):
                found = "does not exist there" if info is None else f"has shape {info.shape} there"
                raise AdapterError(
                    f"the adapter does not fit {base.name}: it changes {weight!r} "
                    f"{adapter.shape(weight)}, which {found}.",
                    where=adapter.name,
                    fix=f"It was trained on {adapter.config.get('base_model_name_or_path')!r}.",
                )

    @property
    def folder(self) -> Path:
        return self.base.folder

    @property
    def config(self) -> Mapping[str, Any]:
        return self.base.config

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self.base.tensors

    @cached_property
    def fingerprint(self) -> str:
        return content_key(base=self.base.fingerprint, adapter=self.adapter.fingerprint)

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return base + delta, added in float32 (float64 if the base is) and rounded once."""
        import torch

        weight = self.base.read(name)
        delta = self.adapter.delta(name)
        target = dtype or weight.dtype
        if delta is None:
            return weight.to(target)
        wide = torch.promote_types(weight.dtype, torch.float32)
        return (weight.to(wide) + delta.dense(wide)).to(target)

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return the adapter's factors if *base* is the base it was made for."""
        return self.adapter.delta(name) if base.fingerprint == self.base.fingerprint else None


def _pattern_value(pattern: Any, module: str, default: Any, where: str) -> Any:
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
