"""What the comparison with mergekit comes to: tables for terminal and Markdown, and a figure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from processes import Run, medians

sys.path.insert(0, str(Path(__file__).parents[1]))
from figures import Bar, bar_figure

CPU_TARGETS = {
    "linear": 9, "task_arithmetic": 9, "model_stock": 9, "slerp": 15, "karcher": 15,
    "dare_ties": 15, "ties": 20, "della": 20,
}  # fmt: skip
"""How many times less CPU than mergekit was aimed at."""
METHODS = tuple(CPU_TARGETS)
RANDOM = ("dare_ties", "della")
WALL_TARGETS = {
    "linear": 1.5, "task_arithmetic": 1.5, "model_stock": 1.5, "slerp": 1.5, "karcher": 1.5,
    "dare_ties": 4.0, "ties": 4.0,
}  # fmt: skip
"""How many times as long as copying was aimed at."""
PEAK_TARGET = 300e6
PROGRAMS = {
    "mergekit": "mergekit", "miscible-1": "miscible, 1 thread", "miscible-2": "miscible, 2 threads",
    "copy": "copying", "copy-fsync": "copying and fsync",
}  # fmt: skip
Row = list[str]


def ratio_rows(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Return the heading and a row a method: times less CPU, times copying, memory; targets."""
    heading = ["method", "CPU, times less", "target", "wall, times less", "wall / copying",
               "wall / copying, fsync", "target", "peak MB", "target"]  # fmt: skip
    rows = []
    for method, runs in _runs(results):
        one, two, theirs = (runs.get(k) for k in ("miscible-1", "miscible-2", "mergekit"))
        if one is None or two is None:
            continue
        rows.append([
            method,
            _ratio(theirs and theirs.cpu, one.cpu, 1),
            f">= {CPU_TARGETS[method]}",
            _ratio(theirs and theirs.wall, two.wall, 1),
            _ratio(two.wall, _wall(runs, "copy")),
            _ratio(two.wall, _wall(runs, "copy-fsync")),
            f"<= {WALL_TARGETS[method]}" if method in WALL_TARGETS else "",
            f"{max(one.peak, two.peak) / 1e6:.0f}",
            f"<= {PEAK_TARGET / 1e6:.0f}",
        ])  # fmt: skip
    return heading, rows


def run_rows(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Return the heading and a row a method and program: medians, number of runs, load."""
    heading = ["method", "program", "wall s", "CPU s", "peak MB", "runs", "load before"]
    rows = []
    for method, runs in _runs(results):
        for program, run in runs.items():
            count = len(results["measured"]["runs"][method][program])
            rows.append([method, PROGRAMS[program], f"{run.wall:.2f}", f"{run.cpu:.2f}",
                         f"{run.peak / 1e6:.0f}", str(count), f"{run.load:.1f}"])  # fmt: skip
    return heading, rows


def agreement_rows(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Return the heading and a row a method that draws nothing at random."""
    heading = ["method", "elements that differ", "largest difference", "mean difference"]
    rows = [
        [method, f"{found['differing']:.3%}", f"{found['largest']:.2g}", f"{found['mean']:.2g}"]
        for method, found in results["measured"].get("agreement", {}).items()
    ]
    return heading, rows


def print_tables(results: Mapping[str, Any]) -> None:
    """Print the ratios and the agreement; single runs have been told already."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    for title, (heading, rows) in list(_tables(results).items())[:2]:
        table = Table(*heading, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def write_summary(results: Mapping[str, Any], path: Path, figure: Path) -> None:
    """Write the tables as Markdown, and the figure."""
    facts = results["machine"]
    versions = ", ".join(f"{name} {held}" for name, held in facts["versions"].items())
    lines = [
        f"# Against mergekit: two fine-tunes of {results['size']}",
        "",
        f"{results['elements'] / 1e9:.3f} G weights in bfloat16, files in the page cache, whole "
        f"processes. {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB; Python "
        f"{facts['python']}, {versions}. Against: {facts['mergekit']}.",
        "",
        "Ratios of CPU are of one thread, of wall of two; mergekit uses as many as torch does by "
        "default. Copying reads the same inputs and writes a file of the output's size, in two "
        "threads, with Python's own start-up alone. Our wall includes fsync.",
    ]
    for title, (heading, rows) in _tables(results).items():
        lines += ["", f"## {title}", "", _markdown(heading), "|" + "---|" * len(heading)]
        lines += [_markdown(row) for row in rows]
    failed = results["measured"].get("failed", {})
    lines += [""] if failed else []
    lines += [f"{m}, {p}: {why}" for m, held in failed.items() for p, why in held.items()]
    path.write_text("\n".join(lines) + "\n")
    bars = [
        Bar(method, runs["mergekit"].cpu / runs["miscible-1"].cpu, CPU_TARGETS[method])
        for method, runs in _runs(results)
        if "mergekit" in runs and "miscible-1" in runs
    ]
    if bars:
        title = f"CPU seconds of mergekit over those of miscible, {results['size']} pair"
        figure.write_text(bar_figure(title, bars, "target"))


def _tables(results: Mapping[str, Any]) -> Mapping[str, tuple[Row, list[Row]]]:
    return {
        "Against the targets": ratio_rows(results),
        "Agreement of the outputs": agreement_rows(results),
        "Medians": run_rows(results),
    }


def _runs(results: Mapping[str, Any]) -> list[tuple[str, dict[str, Run]]]:
    held = results["measured"].get("runs", {})
    return [
        (method, {p: medians(held[method][p]) for p in PROGRAMS if p in held[method]})
        for method in METHODS
        if method in held
    ]


def _wall(runs: Mapping[str, Run], program: str) -> float | None:
    return runs[program].wall if program in runs else None


def _ratio(over: float | None, under: float | None, digits: int = 2) -> str:
    return "" if over is None or not under else f"{over / under:.{digits}f}"


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
