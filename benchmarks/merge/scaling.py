"""What each method costs, by size of the models and by their number: CPU seconds and peak memory.

    python benchmarks/merge/scaling.py FOLDER --figure docs/images/merge-cost.svg

Every method that needs no statistics merges synthetic models, as a whole process with one thread,
on files in the page cache. What was measured is kept in a JSON file after each run; the same
command goes on from there, and draws the figure from what there is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from processes import FailedError, Results, machine, medians, remove, timed, warm
from recipes import inputs_of, recipe_of, write_recipe

from miscible.merge.contract import METHODS
from models import SHAPES, make_models

sys.path.insert(0, str(Path(__file__).parents[1]))
from figures import Panel, panel_figure

HERE = Path(__file__).parent
SIZES = ("0.05B", "0.15B", "0.5B", "1.5B")
COUNTS = (2, 3, 5, 8)
COUNTED_SIZE = "0.15B"
"""Size at which the number of models is varied."""
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "One pass, and means": (
        "passthrough", "linear", "task_arithmetic", "slerp", "nuslerp", "multislerp", "karcher",
        "model_stock", "geometric_median",
    ),
    "Sparse": (
        "ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs",
        "breadcrumbs_ties", "composed",
    ),
    "Element by element": ("consensus_ta", "tall_mask", "magmax", "nearswap", "ram"),
    "Whole tensors": ("arcee_fusion", "emr", "pcb", "ramplus_tl", "sce"),
    "Matrices": ("iso_c", "iso_cts", "star", "tsv", "wudi"),
}  # fmt: skip
"""Rows of the figure; methods that are in none get one of their own."""


def main() -> None:
    """Measure what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the models; made where they are missing")
    parser.add_argument("--sizes", nargs="*", choices=SHAPES, default=SIZES)
    parser.add_argument("--counts", nargs="*", type=int, default=COUNTS)
    parser.add_argument("--counted-size", choices=SHAPES, default=COUNTED_SIZE)
    parser.add_argument("--methods", nargs="+", help="default: all that need no statistics")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600, help="seconds of one run")
    parser.add_argument("--minutes", type=float, default=120, help="no run is begun after that")
    parser.add_argument("--results", type=Path, default=HERE / "scaling.json")
    parser.add_argument("--figure", type=Path, default=Path("docs/images/merge-cost.svg"))
    asked = parser.parse_args()

    methods = asked.methods or [method.name for method in METHODS if method.needs is None]
    results = Results(asked.results, machine=machine(), threads=1)
    measuring = _Measuring(asked.folder.resolve(), results, asked.repeats, asked.limit)
    deadline = time.monotonic() + 60 * asked.minutes
    points = [(size, 2) for size in asked.sizes]
    points += [(asked.counted_size, count) for count in asked.counts if count != 2]
    if asked.counts and asked.counted_size not in asked.sizes:
        points.append((asked.counted_size, 2))
    for size, count in sorted(points, key=lambda point: SHAPES[point[0]].elements * point[1]):
        for method in methods:
            if time.monotonic() > deadline:
                break
            measuring.measure(method, size, count)
    asked.figure.parent.mkdir(parents=True, exist_ok=True)
    asked.figure.write_text(figure_of(results.held["measured"], asked.counted_size))


class _Measuring:
    def __init__(self, root: Path, results: Results, repeats: int, limit: float) -> None:
        self.root, self.results, self.repeats, self.limit = root, results, repeats, limit

    def measure(self, method: str, size: str, count: int) -> None:
        """Do what is missing of one point's runs."""
        most = METHODS.get(method).most
        if count > 2 and most is not None and most < count:
            return
        key = (method, size, str(count))
        base, *tuned = make_models(self.root, size, count)
        recipe = recipe_of(method, base, tuned)
        path, out = write_recipe(self.root / "scaling.yml", recipe), self.root / "out" / "scaling"
        command = [Path(sys.executable).parent / "miscible", "merge", path, out,
                   "--threads", "1", "--format", "quiet"]  # fmt: skip
        while (held := self.results.get(*key)) is None or 0 < len(held) < self.repeats:
            warm([folder / "model.safetensors" for folder in inputs_of(recipe)])
            remove(out)
            try:
                run = timed(command, limit=self.limit, environment={"OMP_NUM_THREADS": "1"})
            except FailedError as error:
                print(f"{method}, {size}, {count} models: {error}", file=sys.stderr)
                self.results.put([], *key)
                return
            finally:
                remove(out)
            self.results.put([*(held or []), list(run)], *key)
            print(f"{method:18}{size:>6}{count:3} models{run.cpu:9.2f} CPU s"
                  f"{run.peak / 1e6:9.0f} MB  load {run.load:.1f}", flush=True)  # fmt: skip


def figure_of(measured: Mapping[str, Any], counted_size: str) -> str:
    """Return the figure of everything that was measured."""
    listed = {method for methods in FAMILIES.values() for method in methods}
    others = tuple(method for method in measured if method not in listed)
    rows = []
    for family, methods in {**FAMILIES, "Others": others}.items():
        held = [method for method in methods if method in measured]
        if held:
            rows.append((family, _panels(measured, held, counted_size)))
    title = "What a merge costs: synthetic Qwen2 shapes in bfloat16, one thread, whole process"
    return panel_figure(title, rows)


def _panels(
    measured: Mapping[str, Any], methods: Sequence[str], counted_size: str
) -> Sequence[Panel]:
    panels = []
    for up, value in (("CPU s", lambda run: run.cpu), ("peak MB", lambda run: run.peak / 1e6)):
        by_size = {
            method: [
                (SHAPES[size].elements / 1e9, _value(counts["2"], value))
                for size, counts in measured[method].items()
                if counts.get("2")
            ]
            for method in methods
        }
        panels.append(Panel(f"{up}, two models", "weights, 10⁹", _drawn(by_size)))
        by_count = {
            method: [
                (float(count), _value(runs, value))
                for count, runs in measured[method].get(counted_size, {}).items()
                if runs
            ]
            for method in methods
        }
        panels.append(Panel(f"{up}, {counted_size}", "models", _drawn(by_count)))
    return panels


def _value(runs: Sequence[Sequence[float]], value: Callable[[Any], float]) -> float:
    return value(medians(runs))


def _drawn(lines: Mapping[str, list[tuple[float, float]]]) -> Mapping[str, Any]:
    return {name: points for name, points in lines.items() if points}


if __name__ == "__main__":
    main()
