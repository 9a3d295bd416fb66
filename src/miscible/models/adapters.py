"""LoRA adapters in PEFT's format: exact changes of a base, never a merged copy.

Supported: LoRA, rsLoRA and DoRA with rank and alpha patterns, on linear layers (`fan_in_fan_out`
too), embeddings and convolutions; trained biases, `modules_to_save` and trained tokens. Refused,
because it is no change of the base's tensors or of another base: see `adapter_config`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import AdapterError
from miscible.keys import content_key
from miscible.models.adapted import AdaptedCheckpoint
from miscible.models.adapter_config import CONFIG_NAME, refuse_unsupported
from miscible.models.adapter_keys import changes_of
from miscible.models.checkpoint import FileState, read_json
from miscible.models.delta import LowRank
from miscible.models.fingerprint import digest_of
from miscible.models.formats.safetensors import SafetensorsFile, TensorInfo

if TYPE_CHECKING:
    import torch

__all__ = ["WEIGHTS_NAME", "AdaptedCheckpoint", "LoraAdapter"]

WEIGHTS_NAME = "adapter_model.safetensors"


class LoraAdapter:
    """A LoRA adapter folder; the constructor reads headers only.

    Raises:
        AdapterError: if a file is missing or damaged, or the adapter is of a refused kind.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder = folder
        self.name = name or folder.name
        if not (folder / WEIGHTS_NAME).is_file():
            raise AdapterError(f"{WEIGHTS_NAME} is missing.", where=str(folder))
        # The config scales the factors, so it is part of what is read. States are taken first, as
        # `miscible.models.checkpoint.unchanged` needs them.
        paths = [folder / file for file in (CONFIG_NAME, WEIGHTS_NAME)]
        self.files = {path: FileState.of(path) for path in paths}
        self.config: dict[str, Any] = read_json(folder / CONFIG_NAME)
        refuse_unsupported(self.config, str(folder))
        self._file = SafetensorsFile(folder / WEIGHTS_NAME)
        infos = {key: extent.info for key, extent in self._file.extents.items()}
        self._changes = changes_of(infos, self.config, str(folder))

    @cached_property
    def fingerprint(self) -> str:
        """Content key of the tensors and of how they are put together."""
        changes = self._changes
        factors = {n: c.factors for n, c in changes.items() if c.factors is not None}
        rows = {name: change.places for name, change in changes.items() if change.rows}
        return content_key(
            weights=digest_of(self._file.path),
            scales={name.removesuffix(".weight"): f.scale for name, f in factors.items()},
            transposed=bool(self.config.get("fan_in_fan_out", False)),
            **({"rows": rows} if rows else {}),
        )

    @property
    def weights(self) -> list[str]:
        """Names of the tensors that the adapter changes, or has and its base lacks."""
        return list(self._changes)

    def shape(self, weight: str) -> tuple[int, ...]:
        """Shape of the tensor *weight*, from the header; see `fits` for replaced rows."""
        return self._changes[weight].info.shape

    def info(self, weight: str) -> TensorInfo:
        """Dtype in which the adapter stores what it knows of *weight*, and its shape."""
        return self._changes[weight].info

    def fits(self, weight: str, shape: tuple[int, ...]) -> bool:
        """Return whether the adapter can change *weight* if it is of this shape."""
        return self._changes[weight].fits(shape)

    def delta(self, weight: str) -> LowRank | None:
        """Return the exact factors of the change of *weight*.

        None where the adapter changes nothing, and where it does something that is not low-rank
        (see `apply`).

        Raises:
            AdapterError: if a factor holds NaN or infinity.
        """
        change = self._changes.get(weight)
        if change is None or change.factors is None or not change.is_low_rank:
            return None
        return change.factors.low_rank(self._read)

    def is_complete(self, weight: str) -> bool:
        """Return whether the adapter holds all of *weight* and needs nothing of the base."""
        return self._changes[weight].copy is not None

    def is_row_wise(self, weight: str) -> bool:
        """Return whether the adapter only replaces rows of *weight*."""
        return self._changes[weight].is_row_wise

    def apply(self, weight: str, origin: torch.Tensor) -> torch.Tensor:
        """Return what becomes of *weight*, the base's *origin*, computed in its dtype.

        Raises:
            AdapterError: if a tensor of the adapter holds NaN or infinity.
        """
        return self._changes[weight].apply(origin, self._read)

    def difference(self, weight: str, origin: torch.Tensor) -> torch.Tensor:
        """Return `apply` minus *origin*, more exactly than by subtraction."""
        return self._changes[weight].difference(origin, self._read)

    def _read(self, key: str) -> torch.Tensor:
        tensor = self._file.read(key)
        if not tensor.isfinite().all():
            raise AdapterError(f"tensor {key!r} holds NaN or infinity.", where=self.name)
        return tensor
