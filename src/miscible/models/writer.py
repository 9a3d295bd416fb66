"""Writing checkpoints: streamed, sharded, by many threads, and never half there.

Everything is written into a hidden folder beside the destination that is renamed as a whole at the
end, so that a folder by the destination's name is always a finished model. What was stopped in the
middle leaves its finished shards in that folder, and the same command goes on from them.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from miscible.errors import CheckpointError
from miscible.keys import content_key
from miscible.models.checkpoint import INDEX_NAME, SINGLE_NAME, Checkpoint
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.partial import PartialFolder
from miscible.models.shard import ShardRecord, ShardWriter
from miscible.models.tokenizer import TOKENIZER_FILES
from miscible.progress import Advance, task

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 5_000_000_000
LARGE_BYTES = 1 << 25
"""Tensors from here on are computed by all threads together; smaller ones a thread each."""


class Stream(Protocol):
    """Computes one tensor and hands its bytes on in chunks, from any thread, in any order.

    Arguments are the tensor's name, a function that takes the place of the first byte and bytes,
    and a pool for chunks that may be computed at the same time, or None.
    """

    def __call__(
        self, name: str, write: Callable[[int, memoryview], None], pool: Any | None
    ) -> None: ...


Finish = Callable[[Mapping[str, ShardRecord]], Mapping[str, str]]
"""Returns the texts that the folder gets, by file name, from the records of its shards."""


def write_checkpoint(
    checkpoint: Checkpoint,
    destination: Path,
    *,
    files: Mapping[str, str] | Finish | None = None,
    omitted: Sequence[str] = (),
    shard_bytes: int = SHARD_BYTES,
    stream: Stream | None = None,
    threads: int = 1,
    key: str | None = None,
    note: Callable[[Sequence[str]], Any] | None = None,
) -> Mapping[str, ShardRecord]:
    """Write a model folder: shards, index, config, tokenizer, and the texts in *files*.

    Args:
        checkpoint: what is written; its tokenizer files are taken over.
        destination: folder that must not exist, or be empty.
        files: texts, or a function that makes them; one of a tokenizer file's name replaces it.
        omitted: tokenizer files that are not taken over.
        shard_bytes: of the tensors of one file, at most.
        stream: computes tensors chunk by chunk; without it they are read whole.
        threads: that compute and write.
        key: content key of the checkpoint; what was written under the same key is not written
            again.
        note: returns, of the names of a shard's tensors, what is kept with its record.

    Raises:
        CheckpointError: if the destination exists, cannot be written, or the disk is full, or if
            the checkpoint cannot be read; nothing is left behind then.
    """
    refuse_existing(destination)
    shards = shards_of(checkpoint.tensors, shard_bytes)
    total = sum(info.nbytes for info in checkpoint.tensors.values())
    whole_key = None if key is None else content_key(checkpoint=key, shards=shards)
    with PartialFolder(destination, whole_key) as partial, _writing(destination):
        partial.check_space(total)
        records: dict[str, ShardRecord] = {}
        with task(f"write {destination.name}", total) as advance:
            for shard, names in shards.items():
                record = partial.finished(shard)
                if record is None:
                    infos = {name: checkpoint.tensors[name] for name in names}
                    work = stream or _whole(checkpoint)
                    record = _write_shard(partial.folder / shard, infos, work, threads, advance)
                    if note is not None:
                        record = replace(record, note=note(names))
                    partial.finish(shard, record)
                else:
                    advance(sum(checkpoint.tensors[name].nbytes for name in names))
                records[shard] = record
        texts = files(records) if callable(files) else files or {}
        _write_texts(checkpoint, partial.folder, texts, omitted)
        if len(shards) > 1:
            weight_map = {name: shard for shard, names in shards.items() for name in names}
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            text = json.dumps(index, indent=2) + "\n"
            _write_bytes(partial.folder / INDEX_NAME, text.encode())
        partial.appear()
    return records


def shards_of(tensors: Mapping[str, TensorInfo], shard_bytes: int) -> dict[str, list[str]]:
    """Return the names of the shards, and of the tensors of each."""
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


def refuse_existing(destination: Path) -> None:
    """Raise `CheckpointError` if something is at *destination* that must not be overwritten."""
    taken = destination.exists() and (not destination.is_dir() or any(destination.iterdir()))
    if taken or destination.is_symlink():  # a folder cannot be renamed to a link
        raise CheckpointError(
            "the destination exists already.",
            where=str(destination),
            fix="Choose another folder or remove it.",
        )


def _write_shard(
    path: Path,
    infos: Mapping[str, TensorInfo],
    stream: Stream,
    threads: int,
    advance: Advance,
) -> ShardRecord:
    large = [name for name, info in infos.items() if info.nbytes >= LARGE_BYTES]
    small = [name for name, info in infos.items() if info.nbytes < LARGE_BYTES]
    small.sort(key=lambda name: -infos[name].nbytes)
    with ShardWriter(path, infos) as shard, ThreadPoolExecutor(max(threads, 1)) as pool:

        def one(name: str, own_pool: ThreadPoolExecutor | None = None) -> None:
            def write(start: int, data: memoryview) -> None:
                shard.write(name, start, data)
                advance(len(data))

            stream(name, write, own_pool)
            shard.check_complete(name)

        try:
            for name in large:
                one(name, pool if threads > 1 else None)
            for _ in pool.map(one, small) if threads > 1 else map(one, small):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return shard.close()


def _whole(checkpoint: Checkpoint) -> Stream:
    def stream(name: str, write: Callable[[int, memoryview], None], pool: Any | None) -> None:
        try:
            data = _bytes(checkpoint.read(name))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise CheckpointError(
                f"tensor {name!r} cannot be read: {reason}.", where=checkpoint.name
            ) from error
        if len(data) != checkpoint.tensors[name].nbytes:
            raise CheckpointError(f"tensor {name!r} changed its size.", where=checkpoint.name)
        write(0, data)

    return stream


def _bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def _write_texts(
    checkpoint: Checkpoint, folder: Path, files: Mapping[str, str], omitted: Sequence[str]
) -> None:
    config = json.dumps(dict(checkpoint.config), indent=2) + "\n"
    texts = {"config.json": config, **files}
    for name in TOKENIZER_FILES:
        if name not in texts and name not in omitted and (checkpoint.folder / name).is_file():
            try:
                content = (checkpoint.folder / name).read_bytes()
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise CheckpointError(
                    f"{name} cannot be read: {reason}.", where=checkpoint.name
                ) from error
            _write_bytes(folder / name, content)
    for name, text in texts.items():
        _write_bytes(folder / name, text.encode())


def _write_bytes(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _writing(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CheckpointError(
            "the disk is full." if full else f"cannot be written: {error.strerror}.",
            where=str(destination),
            fix="Nothing was left behind.",
        ) from error
