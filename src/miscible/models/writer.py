"""Writing checkpoints: streamed, sharded, and never half there.

Everything is written into a hidden folder beside the destination and renamed as a whole at the
end, so that a folder by the destination's name is always a finished model.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from miscible.errors import CheckpointError
from miscible.models.checkpoint import INDEX_NAME, SINGLE_NAME, Checkpoint
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.tokenizer import TOKENIZER_FILES
from miscible.progress import Advance, task

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 5_000_000_000


def write_checkpoint(
    checkpoint: Checkpoint,
    destination: Path,
    *,
    files: Mapping[str, str] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a model folder: shards, index, config, tokenizer, and the texts in *files*.

    A text in *files* takes the place of a tokenizer file of the same name.

    Raises:
        CheckpointError: if the destination exists, cannot be written, or the disk is full, or if
            the checkpoint cannot be read; nothing is left behind then.
    """
    refuse_existing(destination)
    shards = _shards(checkpoint.tensors, shard_bytes)
    config = json.dumps(dict(checkpoint.config), indent=2) + "\n"
    texts = {"config.json": config, **(files or {})}
    with _appearing(destination) as folder:
        _check_space(folder, sum(info.nbytes for info in checkpoint.tensors.values()))
        for name in TOKENIZER_FILES:
            if name not in texts and (checkpoint.folder / name).is_file():
                with _reading(checkpoint.name, name):
                    content = (checkpoint.folder / name).read_bytes()
                (folder / name).write_bytes(content)
        for name, text in texts.items():
            _write_text(folder / name, text)
        total = sum(info.nbytes for info in checkpoint.tensors.values())
        with task(f"write {destination.name}", total) as advance:
            for shard, names in shards.items():
                _write_shard(checkpoint, folder / shard, names, advance)
        if len(shards) > 1:
            weight_map = {name: shard for shard, names in shards.items() for name in names}
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            _write_text(folder / INDEX_NAME, json.dumps(index, indent=2) + "\n")


def _shards(tensors: Mapping[str, TensorInfo], shard_bytes: int) -> dict[str, list[str]]:
    groups: list[list[str]] = [[]]
    size = 0
    for name, info in tensors.items():
        if groups[-1] and size + info.nbytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += info.nbytes
    if len(groups) == 1:
        return {SINGLE_NAME: groups[0]}
    return {
        f"model-{i:05d}-of-{len(groups):05d}.safetensors": group
        for i, group in enumerate(groups, 1)
    }


def _write_shard(checkpoint: Checkpoint, path: Path, names: list[str], advance: Advance) -> None:
    infos = {name: checkpoint.tensors[name] for name in names}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, info in infos.items():
        end = position + info.nbytes
        header[name] = {
            "dtype": info.dtype, "shape": list(info.shape), "data_offsets": [position, end],
        }  # fmt: skip
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            with _reading(checkpoint.name, f"tensor {name!r}"):
                tensor = checkpoint.read(name)
            data = _bytes(tensor)
            if len(data) != infos[name].nbytes:
                raise CheckpointError(f"tensor {name!r} changed its size.", where=checkpoint.name)
            file.write(data)
            advance(len(data))
        file.flush()
        os.fsync(file.fileno())


def _bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def refuse_existing(destination: Path) -> None:
    """Raise `CheckpointError` if something is at *destination* that must not be overwritten."""
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise CheckpointError(
            "the destination exists already.",
            where=str(destination),
            fix="Choose another folder or remove it.",
        )


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"the disk has {free / 1e9:.1f} GB free, the model needs {needed / 1e9:.1f} GB.",
            where=str(folder.parent),
        )


@contextmanager
def _appearing(destination: Path) -> Iterator[Path]:
    partial = destination.parent / f".{destination.name}.partial-{os.getpid()}"
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _sync_folder(partial)
        partial.rename(destination)
        _sync_folder(destination.parent)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CheckpointError(
            "the disk is full." if full else f"cannot be written: {error.strerror}.",
            where=str(destination),
            fix="Nothing was left behind.",
        ) from error
    finally:
        # A second Ctrl-C must not stop the cleaning up after the first.
        with _interrupts_ignored():
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _reading(model: str, what: str) -> Iterator[None]:
    # Inside `_appearing`, where any other `OSError` is taken for one of writing.
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{what} cannot be read: {reason}.", where=model) from error


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
