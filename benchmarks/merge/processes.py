"""Measure whole processes, and keep what was measured as one goes along."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

# A process's peak begins at what its parent held when it was started, so the parent is one that
# holds next to nothing.
_LAUNCHER = """
import json, os, subprocess, sys, threading, time
log, limit, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
with open(log, "wb") as output:
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    timer = threading.Timer(limit or threading.TIMEOUT_MAX, child.kill)
    timer.daemon = True
    timer.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
code = os.waitstatus_to_exitcode(status)
found = [code, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]
print(json.dumps(found))
"""


class Run(NamedTuple):
    """One process: seconds, bytes, and the load average before it."""

    wall: float
    cpu: float
    peak: int
    load: float


class FailedError(Exception):
    """A process ended with an error, or not in time; holds the end of what it printed."""


def timed(
    command: Sequence[str | Path], *, limit: float = 0.0, environment: Mapping[str, str] = {}
) -> Run:
    """Run a command and return what it took.

    Args:
        command: program and arguments.
        limit: seconds after which it is killed, 0 for none.
        environment: in addition to a copy of this process's, without OMP_NUM_THREADS, and without
            what keeps Python from storing bytecode, which an installed program has.

    Raises:
        FailedError: if its exit code is not 0.
    """
    left_out = ("OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")
    held = {name: value for name, value in os.environ.items() if name not in left_out}
    load = os.getloadavg()[0]
    with tempfile.NamedTemporaryFile() as log:
        launcher = [sys.executable, "-S", "-E", "-c", _LAUNCHER, log.name, str(limit)]
        done = subprocess.run(
            [*launcher, *map(str, command)], env=held | dict(environment), capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        code, wall, cpu, peak = json.loads(done.stdout)
        if code:
            said = Path(log.name).read_text(errors="replace")
            raise FailedError(f"{Path(command[0]).name} ended with {code}:\n{said[-2000:]}")
    return Run(round(wall, 4), round(cpu, 4), peak, round(load, 2))


def medians(runs: Sequence[Sequence[float]]) -> Run:
    """Return the medians of what some runs took."""
    return Run(*(median(column) for column in zip(*runs, strict=True)))  # type: ignore[arg-type]


def warm(paths: Sequence[Path]) -> None:
    """Read files once, so that they lie in the page cache."""
    buffer = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def remove(folder: Path) -> None:
    """Remove what a program wrote."""
    shutil.rmtree(folder, ignore_errors=True)


def machine() -> Mapping[str, Any]:
    """Return what kind of machine this is and what runs on it."""
    model = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        lines = facts.read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x[:10] == "model name"), model)
    names = ("miscible", "numpy", "numba", "llvmlite", "torch")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


class Results:
    """A JSON file of measurements, written after each of them.

    Args:
        path: of the file; what it holds is gone on from.
        facts: entered anew at each start.
    """

    def __init__(self, path: Path, **facts: Any) -> None:
        self.path = path
        self.held: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        self.held |= facts
        self.held.setdefault("measured", {})

    def get(self, *keys: str) -> Any:
        """Return what was measured under these keys, None if nothing was."""
        place = self.held["measured"]
        for key in keys:
            if key not in place:
                return None
            place = place[key]
        return place

    def put(self, value: Any, *keys: str) -> None:
        """Enter a measurement and write the file."""
        place = self.held["measured"]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(_plain(self.held) + "\n")
        fresh.replace(self.path)


def _plain(value: Any, depth: int = 0) -> str:
    # JSON with one measurement a line.
    if isinstance(value, Mapping) and value:
        indent = " " * (depth + 1)
        lines = [f"{indent}{json.dumps(k)}: {_plain(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    return json.dumps(value)
