"""What a merge will take: memory, bytes and time, from headers alone.

Memory follows from how the engine lays out its buffers (`passes`, `thresholds`, `ranks`) and, for
methods that work on whole tensors, from what each was measured to hold at its peak. Time follows
from the passes that each tensor needs and the machine's rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from miscible.merge.engine.doses import SAMPLED_SHARE, WHOLE_BELOW
from miscible.merge.engine.footprints import footprint_of
from miscible.merge.engine.rates import Rates, bytes_on_disk, rates, uncompiled
from miscible.merge.engine.rehearsal import Rehearsed, rehearse
from miscible.merge.engine.thresholds import COLLECTED_SHARE, LARGEST_SAMPLE, SMALLEST_SHARE
from miscible.merge.engine.write import available_threads
from miscible.merge.kernels.constants import BLOCK
from miscible.models.writer import LARGE_BYTES

if TYPE_CHECKING:
    from miscible.merge.plan import Input, Output
    from miscible.merge.virtual import VirtualCheckpoint

STARTED, STARTED_TORCH, COMPILED = 106e6, 325e6, 120e6
"""Bytes of a process that merges next to nothing, without torch and with it, and what the compiler
adds where programs are compiled first."""
START, START_TORCH, COMPILE = 0.3, 1.5, 1.5
"""Seconds of the same, of the compiler for one program."""
PLANNED_BYTES, PLANNED_SECONDS = 6_000, 1e-4
"""What a tensor takes before it is merged, a model."""
COLLECTED = 0.3
"""Share of the room for candidates of a threshold that is filled, in differences of bfloat16."""
ELEMENTS_APART = 20e6
"""Bytes a model that torch leaves about when it works chunk by chunk: 0 to 45e6 in equal runs."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a merge will take.

    Attributes:
        ram_bytes: most memory at one time.
        read_bytes: of inputs, those read in several passes as often.
        write_bytes: of the merged weights.
        seconds: wall time, on a machine that does nothing else.
    """

    ram_bytes: int
    read_bytes: int
    write_bytes: int
    seconds: float


@dataclass(slots=True)
class _Part:
    # One output: bytes of a thread's buffers, which stay, and bytes while it is merged.
    large: bool
    buffers: float = 0.0
    transient: float = 0.0
    read: float = 0.0
    seconds: float = 0.0
    torch: bool = False
    kinds: tuple[str, ...] = ()


def estimate(merge: VirtualCheckpoint, *, threads: int | None = None) -> Cost:
    """Return what writing a merge will take; headers alone are read.

    Inputs that are not on this machine are taken to be in the page cache, where downloading leaves
    them.

    Args:
        merge: the merge.
        threads: that compute; as many as there are processors if None.
    """
    threads = threads or available_threads()
    speed = rates()
    known: dict[Any, _Part] = {}
    parts = []
    for output in merge.plan.outputs.values():
        key = _kind(merge, output)
        if key not in known:
            known[key] = _part(merge, output, threads, speed)
        parts.append(known[key])
    torch = any(part.torch for part in parts)
    compiling = uncompiled({"gram"}.union(*(part.kinds for part in parts)))
    planned = len(parts) * (len(merge.models) + 1)
    ram = (STARTED_TORCH if torch else STARTED) + planned * PLANNED_BYTES + _peak(parts, threads)
    written = sum(info.nbytes for info in merge.tensors.values())
    seconds = (START_TORCH if torch else START) * speed.slowness + planned * PLANNED_SECONDS
    seconds += sum(part.seconds for part in parts) / threads
    seconds += written * (speed.write / threads + speed.sync)
    seconds += bytes_on_disk(merge.files) * speed.read
    if compiling:
        ram, seconds = ram + COMPILED, seconds + compiling * COMPILE * speed.slowness
    return Cost(int(ram), int(sum(part.read for part in parts)), written, seconds)


def _kind(merge: VirtualCheckpoint, output: Output) -> Any:
    # Outputs that cost the same: layers repeat.
    inputs = tuple(
        (i.model, merge.models[i.model].tensors[i.tensor].dtype,
         merge.models[i.model].extent(i.tensor) is None)
        for i in output.named
    )  # fmt: skip
    wrappers = tuple((wrapper.name, repr(values)) for wrapper, values in output.wrappers)
    return (
        output.method.name, repr(output.values), wrappers, inputs, output.site.role,
        merge.tensors[output.name], output.origin is None,
    )  # fmt: skip


def _peak(parts: list[_Part], threads: int) -> float:
    # Large outputs one at a time, in all threads; then small ones, a thread each.
    large = [part for part in parts if part.large]
    small = [part for part in parts if not part.large]
    held = threads * max((part.buffers for part in large), default=0.0)
    first = held + max((part.transient for part in large), default=0.0)
    busy = sorted((part.transient for part in small), reverse=True)[:threads]
    buffers = sorted((part.buffers for part in small), reverse=True)[:threads]
    second = max(held, sum(buffers)) + sum(busy)
    return max(first, second)


def _part(merge: VirtualCheckpoint, output: Output, threads: int, speed: Rates) -> _Part:
    info = merge.tensors[output.name]
    large = info.nbytes >= LARGE_BYTES
    pool = _NoPool() if large and threads > 1 else None
    read = sum(merge.models[i.model].tensors[i.tensor].nbytes for i in output.named)
    if not info.floating:
        count = len(output.inputs)
        return _Part(large, 0.0, 2.0 * info.nbytes, read, info.nbytes * count * 1e-10, torch=True)
    if not merge.streams(output.name):
        return _dense(merge, output, large, read, speed)
    found = rehearse(merge, output, pool)
    passes, out = found.passes, info.nbytes // max(info.size, 1)
    part = _Part(large, torch=found.computed or "values" in found.kinds)
    part.buffers, rereads = _buffers(found, out)
    part.transient = found.whole + _searched(found) + found.masked * passes.count / 8
    if found.computed:
        part.transient += 8.0 * passes.chunk * passes.models
    if "values" in found.kinds:
        part.transient += ELEMENTS_APART * passes.models
    part.read, part.kinds = rereads * read, found.kinds
    per_element = sum(speed.nanoseconds(kind, passes.models) for kind in found.kinds)
    watched = speed.nanoseconds("gram", passes.models + 1) / _dose_share(merge)
    part.seconds = 1e-9 * passes.count * (per_element + watched)
    if "values" in found.kinds:
        own = footprint_of(output.method.name, passes.shape)
        part.seconds += own.seconds(passes.shape, len(output.inputs), speed)
    return part


class _NoPool:
    def map(self, function: Any, items: Any) -> Iterator[Any]:
        raise AssertionError("an estimate runs nothing")


def _buffers(found: Rehearsed, out: int) -> tuple[float, float]:
    # Bytes of a thread's own, and how often inputs are read.
    passes = found.passes
    inputs = passes.models * 4 * passes.chunk * (passes.chunks if passes.held else 1)
    row = min(passes.row, passes.count) if found.masked else 0
    held = inputs + passes.chunk * out + (passes.models + 4) * BLOCK * 4 + 12 * row
    if found.thresholds:
        held += 12 * passes.models * passes.chunk // COLLECTED_SHARE
    if "values" in found.kinds:
        held += 4 * passes.models * passes.chunk
    return held, 1.0 if passes.held else len(found.kinds) + found.thresholds / SMALLEST_SHARE


def _searched(found: Rehearsed) -> float:
    # The sample and what is collected around the threshold.
    if not found.thresholds:
        return 0.0
    count, models = found.passes.count, found.passes.models
    sample = min(count / SMALLEST_SHARE, LARGEST_SAMPLE)
    return 4 * sample * (models + 3) + 12 * COLLECTED * count / COLLECTED_SHARE * (models - 1)


def _dense(
    merge: VirtualCheckpoint, output: Output, large: bool, read: float, speed: Rates
) -> _Part:
    info, models = merge.tensors[output.name], len(output.inputs)
    names = [output.method.name, *(wrapper.name for wrapper, _ in output.wrappers)]
    consensus = str(output.values.get("consensus", ""))
    took = [footprint_of(name, info.shape, consensus, output.site.role) for name in names]
    peak = max(footprint.peak(info.shape, models) for footprint in took)
    seconds = sum(footprint.seconds(info.shape, models, speed) for footprint in took)
    wide = 8 if any(_dtype(merge, i) == "F64" for i in output.named) else 4
    return _Part(large, 0.0, wide * peak, read, seconds, torch=True)


def _dtype(merge: VirtualCheckpoint, source: Input) -> str:
    return merge.models[source.model].tensors[source.tensor].dtype


def _dose_share(merge: VirtualCheckpoint) -> int:
    size = sum(info.size for info in merge.tensors.values() if info.floating)
    return 1 if size < WHOLE_BELOW else SAMPLED_SHARE
