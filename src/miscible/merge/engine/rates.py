"""How fast this machine is: nanoseconds an element by kind of pass, seconds a byte.

Measured once by the engine's own passes over a small tensor in memory, in a quarter of a second,
and remembered in miscible's cache under the machine's key. Where the programs are not compiled yet
they are not compiled for this: the figures of one machine have to do.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from miscible.keys import content_key
from miscible.merge.engine.elements import written_down
from miscible.merge.engine.execute import write_elements, write_formula
from miscible.merge.engine.passes import Passes
from miscible.merge.engine.ranks import rank_masks
from miscible.merge.engine.sources import CODES, ArraySource
from miscible.merge.engine.streamed import Formula
from miscible.merge.engine.thresholds import kth_largest
from miscible.merge.kernels import native
from miscible.merge.ops.masks import agreed, sum_of, tall_mask
from miscible.merge.ops.random import ElementRandom
from miscible.merge.ops.sparsify import KeepAll, KeepAtRandom, KeepByRank
from miscible.models.cache import cache_root
from miscible.models.checkpoint import FileState
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.shard import ShardWriter

ELEMENTS, ROW = 1 << 20, 1 << 10
FILE_BYTES = 1 << 24
FEW, MANY = 2, 4
"""Numbers of models at which passes are timed."""
VERSION = 1
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "sum": ("weighted_sum",), "gram": ("gram",), "values": ("values_of",),
    "consensus": ("consensus",), "random": ("consensus",), "norms": ("norms",),
    "largest": ("values_of", "candidates"), "ranks": ("ranks",), "elements": ("elements",),
}  # fmt: skip
"""Programs that each kind of pass runs."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What things take on one machine.

    Attributes:
        passes: by kind, nanoseconds an element with FEW and with MANY models, in one thread; the
            copying of inputs that lie in memory is part of it.
        write, sync: seconds a byte: hashed and written, made durable.
        read: seconds a byte from the disk.
        product: seconds a floating-point operation of a float32 matrix product, in one thread.
    """

    passes: Mapping[str, tuple[float, float]]
    write: float
    sync: float
    read: float
    product: float

    def nanoseconds(self, kind: str, models: int) -> float:
        """Return the time of one element in a pass over some models.

        It grows linearly with the models, for inner products with their pairs too.
        """
        few, many = self.passes[kind]
        if kind == "gram":
            pairs = (many / MANY - few / FEW) / (MANY - FEW)
            return max(few / FEW + pairs * (models - FEW), 0.0) * models
        return max(few + (many - few) * (models - FEW) / (MANY - FEW), 0.0)

    @property
    def slowness(self) -> float:
        """Return how many times as long a weighted sum takes as on the reference machine."""
        return self.passes["sum"][1] / REFERENCE.passes["sum"][1]


REFERENCE = Rates(
    passes={
        "sum": (0.47, 0.8), "gram": (0.3, 0.72), "values": (0.36, 0.78), "consensus": (0.63, 1.15),
        "random": (0.75, 1.5), "norms": (0.39, 1.0), "largest": (1.2, 3.3), "ranks": (2.5, 7.7),
        "elements": (0.6, 1.2),
    },
    write=1.1e-10, sync=3e-10, read=6e-10, product=9.3e-12,
)  # fmt: skip
"""Of a virtual machine with 2 cores of an EPYC of 2024 (Zen 5)."""


@cache
def rates() -> Rates:
    """Return this machine's rates, measured at the first call."""
    place = cache_root() / "rates" / f"{_machine_key()}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        held = json.loads(place.read_text())
        return Rates(**{**held, "passes": {k: (a, b) for k, (a, b) in held["passes"].items()}})
    if uncompiled(PROGRAMS):
        return REFERENCE
    try:
        found = measure()
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(asdict(found)))
        fresh.replace(place)
    except OSError:  # a cache that cannot be written costs time, not correctness
        return REFERENCE
    return found


def uncompiled(kinds: Iterable[str]) -> int:
    """Return how many of the programs that some kinds of passes run are not there yet."""
    programs = {program for kind in kinds for program in PROGRAMS[kind]}
    return sum(not native._place(program).is_file() for program in programs)


def bytes_on_disk(files: Mapping[Path, FileState]) -> float:
    """Return how many bytes of some files are not in the page cache, from samples.

    A file with holes is one that is still to be downloaded, which leaves it there.
    """
    return sum(state.size * (1.0 - _cached_share(path)) for path, state in files.items())


def measure() -> Rates:
    """Measure the rates now.

    Raises:
        OSError: if the cache cannot be written.
    """
    data = _models(MANY)
    kinds: dict[str, tuple[float, float]] = {}
    for kind, work in _KINDS.items():
        few, many = (_seconds(work, data[:count]) for count in (FEW, MANY))
        kinds[kind] = 1e9 * few / ELEMENTS, 1e9 * many / ELEMENTS
    # Ratios are summed in a pass of their own before the one that writes.
    kinds["norms"] = tuple(  # type: ignore[assignment]
        max(with_norms - without, 0.0)
        for with_norms, without in zip(kinds["norms"], kinds["random"], strict=True)
    )
    # Small enough for NumPy not to use threads, whose waiting would count.
    matrices = np.frombuffer(data[0], np.uint16)[: 1 << 19].reshape(128, 64, 64).astype(np.float32)
    product = _seconds(lambda _: matrices @ matrices, data) / (2 * 128 * 64**3)
    return Rates(kinds, *_file_rates(data[0]), product)


def _machine_key() -> str:
    return content_key(
        version=VERSION,
        machine=[platform.node(), platform.machine(), platform.processor()],
        processors=os.cpu_count(),
        programs=native._key(),
    )


def _seconds(work: Callable[[Passes], object], data: list[np.ndarray[Any, Any]]) -> float:
    # CPU time, and the least of a few: other processes only ever add to it.
    times = []
    for _ in range(3):
        passes = _passes(data)
        start = time.process_time()
        work(passes)
        times.append(time.process_time() - start)
    return min(times)


def _models(count: int) -> list[np.ndarray[Any, Any]]:
    base = np.random.Generator(np.random.SFC64(0)).standard_normal(ELEMENTS, np.float32)
    found = [base, *(base + 0.1 * np.roll(base, 7 * n) for n in range(1, count))]
    return [(held.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8) for held in found]


def _passes(data: list[np.ndarray[Any, Any]]) -> Passes:
    sources = [ArraySource("", "", CODES["BF16"], held) for held in data]
    return Passes("", sources, (ELEMENTS // ROW, ROW), origin=True)


def _nowhere(start: int, data: memoryview) -> None:
    return


def _write(passes: Passes, **named: Any) -> None:
    models = passes.models - 1
    held = {"random": (ElementRandom(0, "", ""),) * models, **named}
    write_formula(passes, Formula((0.5,) * models, **held), CODES["BF16"], _nowhere)


def _drawn(passes: Passes, *, rescale: bool) -> None:
    sparsifiers = (KeepAtRandom(0.5),) * (passes.models - 1)
    _write(passes, sparsifiers=sparsifiers, elected=True, rescale=rescale)


def _ranked(passes: Passes) -> None:
    models = range(1, passes.models)
    rank_masks(passes, {m: KeepByRank(0.5, 0.1) for m in models}, dict.fromkeys(models, (1, 2)))


def _values(passes: Passes) -> None:
    passes.over_chunks(lambda number, start, size, inputs: passes.values(inputs, size) is None)


def _elements(passes: Passes) -> None:
    def consensus(tensors: list[Any]) -> Any:
        total = sum_of(tensors[1:])
        masks = [tall_mask(vector, total, 0.4) for vector in tensors[1:]]
        return tensors[0] + total * agreed(masks, 2)

    steps = written_down(consensus, passes.models)
    assert steps is not None
    write_elements(passes, steps, CODES["BF16"], _nowhere)


_KINDS: Mapping[str, Callable[[Passes], object]] = {
    "sum": _write,
    "gram": lambda passes: passes.gram(),
    "values": _values,
    "consensus": lambda passes: _write(
        passes, sparsifiers=(KeepAll(),) * (passes.models - 1), elected=True
    ),
    "random": lambda passes: _drawn(passes, rescale=False),
    "norms": lambda passes: _drawn(passes, rescale=True),
    "largest": lambda passes: kth_largest(passes, [ELEMENTS // 2] * (passes.models - 1)),
    "ranks": _ranked,
    "elements": _elements,
}


def _file_rates(data: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root()) as folder:
        found = [_one_file(Path(folder) / name, data) for name in ("first", "second")]
    written, synced, read = (min(times) / FILE_BYTES for times in zip(*found, strict=True))
    return written, synced, read


def _one_file(path: Path, data: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    start = time.perf_counter()
    with ShardWriter(path, {"": TensorInfo("U8", (FILE_BYTES,))}) as shard:
        for place in range(0, FILE_BYTES, len(data)):
            shard.write("", place, data.data)
        written = time.perf_counter()
        shard.close()
        synced = time.perf_counter()
    return written - start, synced - written, _from_disk(path)


def _from_disk(path: Path) -> float:
    # What was made durable can be dropped from the page cache; where that is not possible, the
    # page cache is what is timed.
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer, start = bytearray(1 << 20), time.perf_counter()
        while file.readinto(buffer):
            pass
        return time.perf_counter() - start


def _cached_share(path: Path) -> float:
    flag = getattr(os, "RWF_NOWAIT", None)
    if flag is None:
        return 1.0
    probes, found = 64, 0
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return 1.0
    try:
        state = os.fstat(descriptor)
        if state.st_blocks * 512 < state.st_size // 2:
            return 1.0
        for number in range(probes):
            with suppress(BlockingIOError):
                place = (2 * number + 1) * state.st_size // (2 * probes)
                found += os.preadv(descriptor, [bytearray(1)], place, flag)
    except OSError:  # the file system cannot tell
        return 1.0
    finally:
        os.close(descriptor)
    return found / probes
