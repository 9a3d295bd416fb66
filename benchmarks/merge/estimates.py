"""Hold what `miscible doctor` says of a merge's memory and time against what it takes.

    python benchmarks/merge/estimates.py FOLDER 0.05B 0.5B --methods linear ties iso_c

Merges run as whole processes on files in the page cache. Prints a table and keeps the figures in a
JSON file after each run; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from processes import FailedError, Results, machine, remove, timed, warm
from recipes import inputs_of, recipe_of, write_recipe
from rich.console import Console
from rich.table import Table

from miscible.merge.contract import METHODS
from miscible.merge.engine.cost import estimate
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from models import SHAPES, make_models

HERE = Path(__file__).parent
TOLD = 1.25
"""Factor within which estimates are meant to lie."""


def main() -> None:
    """Measure what is missing, and print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the models; made where they are missing")
    parser.add_argument("sizes", nargs="+", choices=SHAPES)
    parser.add_argument("--methods", nargs="+", help="default: all that need no statistics")
    parser.add_argument("--models", type=int, nargs="+", default=[2])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--limit", type=float, default=600, help="seconds of one run")
    parser.add_argument("--minutes", type=float, default=60, help="no run is begun after that")
    parser.add_argument("--results", type=Path, default=HERE / "estimates.json")
    asked = parser.parse_args()

    methods = asked.methods or [method.name for method in METHODS if method.needs is None]
    deadline = time.monotonic() + 60 * asked.minutes
    results = Results(asked.results, machine=machine())
    for size in asked.sizes:
        base, *tuned = make_models(asked.folder, size, max(asked.models))
        for method in methods:
            for models in asked.models:
                recipe = recipe_of(method, base, tuned[:models])
                for threads in asked.threads:
                    key = (size, method, f"{models} models", f"{threads} threads")
                    if results.get(*key) is None and time.monotonic() < deadline:
                        results.put(_measure(asked.folder, recipe, threads, asked.limit), *key)
    _print(results)


def _measure(folder: Path, recipe: dict[str, Any], threads: int, limit: float) -> dict[str, Any]:
    path, out = write_recipe(folder / "estimate.yml", recipe), folder / "out" / "estimate"
    merge = VirtualCheckpoint.open(parse_recipe(path.read_text()))
    warm([model / "model.safetensors" for model in inputs_of(recipe)])
    start = time.perf_counter()
    told = estimate(merge, threads=threads)
    taken = time.perf_counter() - start
    remove(out)
    command = [Path(sys.executable).parent / "miscible", "merge", path, out,
               "--threads", str(threads), "--format", "quiet"]  # fmt: skip
    try:
        run = timed(command, limit=limit)
    except FailedError as error:
        print(error, file=sys.stderr)
        return {"failed": str(error).splitlines()[0]}
    finally:
        remove(out)
    memory, seconds = told.ram_bytes / run.peak, told.seconds / run.wall
    print(f"{recipe['merge_method']}: told {memory:.2f} of the memory, {seconds:.2f} of the time, "
          f"load {run.load}", flush=True)  # fmt: skip
    return {
        "told_bytes": told.ram_bytes, "peak_bytes": run.peak,
        "told_seconds": round(told.seconds, 3), "wall_seconds": run.wall,
        "cpu_seconds": run.cpu, "load": run.load,
        "estimating_seconds": round(taken, 3),
    }  # fmt: skip


def _print(results: Results) -> None:
    table = Table("size", "method", "models", "threads", "told MB", "took MB", "ratio", "told s",
                  "took s", "ratio", "CPU s", "load")  # fmt: skip
    outside = {"memory": 0, "time": 0}
    count = 0
    for size, methods in results.held["measured"].items():
        for method, numbers in methods.items():
            for models, runs in numbers.items():
                for threads, run in runs.items():
                    if "failed" in run:
                        continue
                    memory = run["told_bytes"] / run["peak_bytes"]
                    seconds = run["told_seconds"] / run["wall_seconds"]
                    count += 1
                    outside["memory"] += not 1 / TOLD <= memory <= TOLD
                    outside["time"] += not 1 / TOLD <= seconds <= TOLD
                    table.add_row(
                        size, method, models.split()[0], threads.split()[0],
                        f"{run['told_bytes'] / 1e6:.0f}", f"{run['peak_bytes'] / 1e6:.0f}",
                        f"{memory:.2f}", f"{run['told_seconds']:.2f}",
                        f"{run['wall_seconds']:.2f}", f"{seconds:.2f}",
                        f"{run['cpu_seconds']:.2f}", str(run["load"]),
                    )  # fmt: skip
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)
    for what, wrong in outside.items():
        print(f"{what}: {wrong} of {count} off by more than a factor of {TOLD}")


if __name__ == "__main__":
    main()
