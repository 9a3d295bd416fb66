"""Models in memory as checkpoints: state dicts and modules."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import CheckpointError
from miscible.keys import content_key
from miscible.models.checkpoint import FileState
from miscible.models.delta import LowRank
from miscible.models.formats.safetensors import SAFETENSORS_NAMES, Extent, TensorInfo
from miscible.models.layout import is_output_head

if TYPE_CHECKING:
    import torch

NOWHERE = Path(os.devnull) / "memory"
"""The folder of what lies in none: no file can be below it."""


class StateDictCheckpoint:
    """Tensors in memory as a checkpoint; they are not copied, and must not change meanwhile.

    Tensors that share their memory are tied: they count once, under the first name that is no
    output head, as files hold them.

    Args:
        tensors: by name, on any device.
        name: how messages call the model.
        config: of the model, if there is one.

    Raises:
        CheckpointError: if something among them is no tensor, or of a kind that files cannot hold.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        *,
        name: str,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.folder = name, NOWHERE
        self.config: Mapping[str, Any] = dict(config or {})
        self.files: Mapping[Path, FileState] = {}
        for key, tensor in tensors.items():
            _check(key, tensor, name)
        self._held = _untied(tensors)

    @classmethod
    def of(cls, model: object, name: str) -> StateDictCheckpoint:
        """Return a checkpoint of a state dict, or of a module and its config.

        Raises:
            CheckpointError: if it is neither.
        """
        if isinstance(model, Mapping):
            return cls(model, name=name)
        import torch

        if isinstance(model, torch.nn.Module):
            held = model.state_dict()
            tensors = {key: t for key, t in held.items() if isinstance(t, torch.Tensor)}
            return cls(tensors, name=name, config=_config_of(model))
        raise CheckpointError(
            f"a {type(model).__name__} is no state dict, module or checkpoint.", where=name
        )

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {
            name: TensorInfo(_dtype_name(tensor), tuple(tensor.shape))
            for name, tensor in self._held.items()
        }

    @cached_property
    def fingerprint(self) -> str:
        """A content key of names, dtypes, shapes and values."""
        import xxhash

        held = []
        for name, info in self.tensors.items():
            digest = xxhash.xxh3_128_hexdigest(_bytes(self._held[name]))
            held.append([name, info.dtype, list(info.shape), digest])
        return content_key(memory=held)

    def held(self, name: str) -> torch.Tensor:
        """Return the tensor itself, not a copy."""
        if name not in self._held:
            raise CheckpointError(f"there is no tensor {name!r}.", where=self.name)
        return self._held[name]

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return a copy of one tensor; see `miscible.models.checkpoint.Checkpoint.read`."""
        return self.held(name).detach().to("cpu", dtype, copy=True)

    def low_rank_delta(self, name: str, base: object) -> LowRank | None:
        """Return None: a state dict knows nothing of its origin."""
        return None

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return None: the tensors lie in no file."""
        return None


def tied_to(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """Return what tensors that are the same memory have in common, None for an empty one."""
    if not tensor.numel():
        return None
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _untied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names: dict[object, str] = {}
    for name, tensor in tensors.items():
        place = tied_to(tensor) or name
        if place not in names or is_output_head(names[place]) > is_output_head(name):
            names[place] = name
    kept = set(names.values())
    return {name: tensor for name, tensor in tensors.items() if name in kept}


def _check(name: object, tensor: object, model: str) -> None:
    import torch

    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise CheckpointError(
            f"a state dict maps names to tensors; {name!r} is a {type(tensor).__name__}.",
            where=model,
            fix="Give the part of it that holds the weights.",
        )
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind not in SAFETENSORS_NAMES or tensor.layout is not torch.strided:
        raise CheckpointError(
            f"tensor {name!r} is of a kind that cannot be merged ({kind}, {tensor.layout}).",
            where=model,
        )
    if tensor.is_meta:
        raise CheckpointError(f"tensor {name!r} is on the meta device: it is empty.", where=model)


def _dtype_name(tensor: torch.Tensor) -> str:
    return SAFETENSORS_NAMES[str(tensor.dtype).removeprefix("torch.")]


def _bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _config_of(module: torch.nn.Module) -> Mapping[str, Any]:
    # Models of transformers carry what config.json holds; saving one adds its class's name.
    write = getattr(getattr(module, "config", None), "to_json_string", None)
    if write is None:
        return {}
    return {**json.loads(write()), "architectures": [type(module).__name__]}
