"""Writing a merge as a model folder, streamed by many threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscible.keys import content_key
from miscible.merge.dose import doses_from_gram
from miscible.merge.engine.doses import SAMPLED_SHARE, WHOLE_BELOW, DoseSample
from miscible.merge.engine.sources import CODES, OpenFiles
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import unchanged
from miscible.models.shard import ShardRecord
from miscible.models.writer import SHARD_BYTES, write_checkpoint
from miscible.records import DoseRow

Texts = Callable[[Mapping[str, ShardRecord], Sequence[DoseRow]], Mapping[str, str]]
"""Returns the folder's texts from the records of its shards and the doses."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        shards: records by file name.
        doses: of every parent.
    """

    shards: Mapping[str, ShardRecord]
    doses: Sequence[DoseRow]


def write_streamed(
    merge: VirtualCheckpoint,
    destination: Path,
    *,
    texts: Texts,
    omitted: Sequence[str] = (),
    threads: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Written:
    """Compute and write all tensors of a merge.

    Doses are measured on what passes: on all of it where the merge is small, else on a share of
    every chunk.

    Args:
        merge: the merge.
        destination: a folder that does not exist, or is empty.
        texts: makes the folder's texts.
        omitted: tokenizer files that the folder does not get.
        threads: that compute; as many as there are processors if None. Results are the same.
        shard_bytes: of one file, at most.

    Raises:
        MiscibleError: see `miscible.models.writer.write_checkpoint`; also if an input holds NaN, or
            a file was changed while it was read.
    """
    threads = threads or available_threads()
    origin, others = merge.dose_reference()
    reference = next(ref for ref, model in merge.models.items() if model is origin)
    size = sum(info.size for info in merge.tensors.values() if info.floating)
    share = 1 if size < WHOLE_BELOW else SAMPLED_SHARE
    doses: list[DoseRow] = []
    with OpenFiles() as files:
        sample = DoseSample(merge.inputs, reference, list(others), share, files)

        def stream(name: str, write: Callable[[int, memoryview], None], pool: Any | None) -> None:
            info = merge.tensors[name]
            width = info.nbytes // max(info.size, 1)
            seen = None
            if info.dtype in CODES and info.size:
                seen = sample.of(merge.plan.outputs[name], CODES[info.dtype])
            merge.stream(
                name, lambda start, data: write(start * width, data), files, pool=pool, seen=seen
            )

        def finish(shards: Mapping[str, ShardRecord]) -> Mapping[str, str]:
            for model in merge.models.values():
                unchanged(model)
            gram = np.sum([record.note for record in shards.values()], axis=0)
            doses.extend(doses_from_gram(merge.name, list(others), gram))
            return texts(shards, doses)

        shards = write_checkpoint(
            merge, destination, files=finish, omitted=omitted, shard_bytes=shard_bytes,
            stream=stream, threads=threads, key=_resume_key(merge),
            note=lambda names: sample.gram_of(names).tolist(),
        )  # fmt: skip
    return Written(shards, doses)


def _resume_key(merge: VirtualCheckpoint) -> str:
    # Content keys are by samples: an input that was changed since is told by its file's state.
    files = [[str(path), *astuple(state)] for path, state in sorted(merge.files.items())]
    return content_key(merge=merge.quick_key, files=files)


def available_threads() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
