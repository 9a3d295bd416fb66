"""What a checkpoint is: named tensors that are read one at a time, a config and a tokenizer.

Folders on disk, adapted models and virtual merges all have this interface, so whoever evaluates,
probes or measures a model need not know which of them it reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from miscible.errors import CheckpointError
from miscible.keys import content_key
from miscible.models.fingerprint import digest_of
from miscible.models.formats.safetensors import Extent, SafetensorsFile, TensorInfo

if TYPE_CHECKING:
    import torch

    from miscible.models.delta import LowRank

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
DIFFUSERS_NAME = "diffusion_pytorch_model.safetensors"
STEMS = (SINGLE_NAME, DIFFUSERS_NAME)
"""Names under which libraries look for weights; an index adds ``.index.json``."""
SUFFIX = ".safetensors"
PICKLE_PATTERNS = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
MAX_JSON_BYTES = 64_000_000
_SHARD = re.compile(r"-[0-9]{5}-of-(?!00001\.)[0-9]{5}\.safetensors$")
_NOT_A_MODEL = frozenset({"adapter_model.safetensors"})


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a file from a changed one: whoever writes to it changes one of these."""

    size: int
    modified_ns: int
    inode: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file now.

        Raises:
            CheckpointError: if it cannot be looked at.
        """
        try:
            found = path.stat()
        except OSError as error:
            raise CheckpointError(f"cannot be read: {error.strerror}.", where=str(path)) from error
        return cls(found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)


class Checkpoint(Protocol):
    """Lazy tensors with a config and a tokenizer.

    Attributes:
        name: how messages and tables call the model.
        fingerprint: a content key of the weights.
        folder: the folder with the config and the tokenizer files.
        config: the parsed ``config.json``.
        tensors: name to dtype and shape, from headers alone.
        files: the weight files that are read, and their states when they were opened.
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
    @property
    def files(self) -> Mapping[Path, FileState]: ...

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return tensor *name*, rounded once: to *dtype*, or to its own dtype if None."""
        ...

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return (this tensor - base's tensor) as exact factors, None if it has none."""
        ...

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return the file and the place in it where exactly this tensor lies, None if computed."""
        ...


class FolderCheckpoint:
    """A model folder with safetensors weights, of transformers, diffusers or another library.

    Args:
        folder: folder with ``config.json`` and the weights: ``model.safetensors`` or
            ``diffusion_pytorch_model.safetensors`` or an index of one of these names and its
            shards, or else exactly one safetensors file of any name.
        name: how messages call the model; the folder's name if not given.

    Raises:
        CheckpointError: if the folder is missing, has only pickled weights, an index that leads
            outside the folder, or a damaged file.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        if not folder.is_dir():
            raise CheckpointError("there is no such model folder.", where=str(folder))
        index = _index_of(folder)
        self._open(
            folder,
            [_only_file(folder)] if index is None else _shards(folder, index),
            name or folder.name,
        )
        if index is not None:
            _check_index(index, self._place)

    def _open(self, folder: Path, paths: Sequence[Path], name: str) -> None:
        self.folder, self.name = folder, name
        # The state is taken first: a file that is replaced meanwhile is found out by `unchanged`.
        self.files: Mapping[Path, FileState] = {path: FileState.of(path) for path in paths}
        self._place: dict[str, SafetensorsFile] = {}
        for file in map(SafetensorsFile, paths):
            for tensor in file.extents:
                if tensor in self._place:
                    raise CheckpointError(f"tensor {tensor!r} is in two shards.", where=str(folder))
                self._place[tensor] = file

    @cached_property
    def config(self) -> Mapping[str, Any]:
        return read_json(self.folder / "config.json")

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {name: file.extents[name].info for name, file in self._place.items()}

    @cached_property
    def fingerprint(self) -> str:
        return content_key(weights=[digest_of(path) for path in sorted(self.files)])

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return one tensor; see `Checkpoint.read`."""
        if name not in self._place:
            raise CheckpointError(f"there is no tensor {name!r}.", where=self.name)
        tensor = self._place[name].read(name)
        return tensor if dtype is None else tensor.to(dtype)

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return None: a folder knows nothing of its origin."""
        return None

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return where the bytes of one tensor lie; see `Checkpoint.extent`."""
        if name not in self._place:
            raise CheckpointError(f"there is no tensor {name!r}.", where=self.name)
        file = self._place[name]
        return file.path, file.extents[name]


class FileCheckpoint(FolderCheckpoint):
    """One safetensors file, as diffusion models are often published; a config is not needed.

    Args:
        path: the file; a ``config.json`` beside it is its config.
        name: how messages call the model; the file's name without its suffix if not given.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._open(path.parent, [path], name or path.name.removesuffix(SUFFIX))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        path = self.folder / "config.json"
        return read_json(path) if path.is_file() else {}


def unchanged(checkpoint: Checkpoint) -> None:
    """Check that no weight file of *checkpoint* has changed since it was opened.

    Raises:
        CheckpointError: if one has; it names the file.
    """
    for path, state in checkpoint.files.items():
        if FileState.of(path) != state:
            raise CheckpointError(
                "the file has changed since it was opened.",
                where=str(path),
                fix="Wait until nobody writes to it, and start again.",
            )


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


def _index_of(folder: Path) -> Path | None:
    indices = (folder / f"{stem}.index.json" for stem in STEMS)
    return next((index for index in indices if index.is_file()), None)


def _shards(folder: Path, index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("the index has no 'weight_map'.", where=str(index))
    names = sorted({str(value) for value in weight_map.values()})
    return [_inside(folder, name, index) for name in names]


def _only_file(folder: Path) -> Path:
    for stem in STEMS:
        if (folder / stem).is_file():
            return folder / stem
    found = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
    names = [name for name in found if name not in _NOT_A_MODEL]
    if any(_SHARD.search(name) for name in names):
        raise CheckpointError(
            f"there are shards ({names[0]!r}) but no index.",
            where=str(folder),
            fix="Download or copy the model again; it is not complete.",
        )
    if len(names) > 1:
        raise CheckpointError(
            f"there are {len(names)} files of weights and no index.",
            where=str(folder),
            fix=f"Name one of them, for example {str(folder / names[0])!r}.",
        )
    if names:
        return folder / names[0]
    if any(next(folder.glob(pattern), None) for pattern in PICKLE_PATTERNS):
        raise CheckpointError(
            "the model has only pickled weights, which can run code when they are read.",
            where=str(folder),
            fix="Convert it to safetensors first.",
        )
    raise CheckpointError(
        f"there are no weights: neither {SINGLE_NAME} nor {INDEX_NAME}.",
        where=str(folder),
        fix=_advice(folder, bool(found)),
    )


def _advice(folder: Path, adapter: bool) -> str | None:
    if adapter:
        return f"This is an adapter; write BASE+{folder.name}."
    parts = sorted(path.parent.name for path in folder.glob(f"*/*{SUFFIX}"))
    return f"Name one part of the model, for example {str(folder / parts[0])!r}." if parts else None


def _inside(folder: Path, name: str, index: Path) -> Path:
    # Hub snapshots are links into a blob store, so it is the written name that is confined.
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
        raise CheckpointError(
            f"the index points outside the model folder: {name!r}.", where=str(index)
        )
    return folder.joinpath(*parts)


def _check_index(index: Path, place: Mapping[str, SafetensorsFile]) -> None:
    for tensor, shard in read_json(index)["weight_map"].items():
        held = place.get(tensor)
        if held is None or held.path != index.parent / str(shard):
            raise CheckpointError(
                f"the index promises tensor {tensor!r} in {shard!r}, which does not hold it.",
                where=str(index),
            )
