"""What a checkpoint is: named tensors that are read one at a time, a config and a tokenizer.

Folders on disk, adapted models and virtual merges all have this interface, so whoever evaluates,
probes or measures a model need not know which of them it reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from miscible.errors import CheckpointError
from miscible.keys import content_key
from miscible.models.fingerprint import digest_of
from miscible.models.formats.safetensors import SafetensorsFile, TensorInfo

if TYPE_CHECKING:
    import torch

    from miscible.models.delta import LowRank

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
PICKLE_PATTERNS = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
MAX_JSON_BYTES = 64_000_000


class Checkpoint(Protocol):
    """Lazy tensors with a config and a tokenizer.

    Attributes:
        name: how messages and tables call the model.
        fingerprint: a content key of the weights.
        folder: the folder with the config and the tokenizer files.
        config: the parsed ``config.json``.
        tensors: name to dtype and shape, from headers alone.
    """

    name: str

    @property
    def fingerprint(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return tensor *name*, rounded once: to *dtype*, or to its own dtype if None."""
        ...

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return (this tensor - base's tensor) as exact factors, None if it has none."""
        ...


class FolderCheckpoint:
    """A Hugging Face model folder with safetensors weights.

    Args:
        folder: folder with ``config.json`` and ``model.safetensors`` or an index and its shards.
        name: how messages call the model; the folder's name if not given.

    Raises:
        CheckpointError: if the folder is missing, has only pickled weights, an index that leads
            outside the folder, or a damaged file.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder = folder
        self.name = name or folder.name
        if not folder.is_dir():
            raise CheckpointError("there is no such model folder.", where=str(folder))
        self._files = {path: SafetensorsFile(path) for path in _weight_files(folder)}
        self._place: dict[str, SafetensorsFile] = {}
        for file in self._files.values():
            for tensor in file.extents:
                if tensor in self._place:
                    raise CheckpointError(f"tensor {tensor!r} is in two shards.", where=str(folder))
                self._place[tensor] = file
        _check_index(folder, self._place)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        return read_json(self.folder / "config.json")

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {name: file.extents[name].info for name, file in self._place.items()}

    @cached_property
    def fingerprint(self) -> str:
        return content_key(weights=[digest_of(path) for path in sorted(self._files)])

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return one tensor; see `Checkpoint.read`."""
        if name not in self._place:
            raise CheckpointError(f"there is no tensor {name!r}.", where=self.name)
        tensor = self._place[name].read(name)
        return tensor if dtype is None else tensor.to(dtype)

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return None: a folder knows nothing of its origin."""
        return None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a model folder.

    Raises:
        CheckpointError: if it is missing, too large, or not a JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError("the file is too large to be believed.", where=str(path))
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError("the file is missing.", where=str(path)) from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}.", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError("the file is not JSON.", where=str(path)) from error
    if not isinstance(value, dict):
        raise CheckpointError("the file is not a JSON object.", where=str(path))
    return value


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX_NAME
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError("the index has no 'weight_map'.", where=str(index))
        names = sorted({str(value) for value in weight_map.values()})
        return [_inside(folder, name, index) for name in names]
    if (folder / SINGLE_NAME).is_file():
        return [folder / SINGLE_NAME]
    if any(next(folder.glob(pattern), None) for pattern in PICKLE_PATTERNS):
        raise CheckpointError(
            "the model has only pickled weights, which can run code when they are read.",
            where=str(folder),
            fix="Convert it to safetensors first.",
        )
    raise CheckpointError(
        f"there are no weights: neither {SINGLE_NAME} nor {INDEX_NAME}.", where=str(folder)
    )


def _inside(folder: Path, name: str, index: Path) -> Path:
    # Hub snapshots are links into a blob store, so it is the written name that is confined.
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
        raise CheckpointError(
            f"the index points outside the model folder: {name!r}.", where=str(index)
        )
    return folder.joinpath(*parts)


def _check_index(folder: Path, place: Mapping[str, SafetensorsFile]) -> None:
    index = folder / INDEX_NAME
    if not index.is_file():
        return
    for tensor, shard in read_json(index)["weight_map"].items():
        held = place.get(tensor)
        if held is None or held.path != folder / str(shard):
            raise CheckpointError(
                f"the index promises tensor {tensor!r} in {shard!r}, which does not hold it.",
                where=str(index),
            )
