"""What fitting probes costs by rows, layers and width, on made-up states; drawn as a figure.

python benchmarks/probe/scaling.py [--figure docs/images/probe-cost.svg]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from miscible.probe.fit.held_out import Split, fit_classes, fit_values

sys.path.insert(0, str(Path(__file__).parents[1]))
from figures import Panel, panel_figure

SETTING = {"rows": 1000, "layers": 8, "width": 576}
GRIDS = {
    "rows": [250, 500, 1000, 2000, 4000],
    "layers": [1, 2, 4, 8, 16, 32],
    "width": [144, 288, 576, 1152, 2304],
}
TASKS = {"classes": 12, "two classes": 2, "values": 0}


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, default=Path("docs/images/probe-cost.svg"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/probe/scaling.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for classes in (2, 12):
        measure(rows=200, layers=1, width=400, classes=classes)  # load what is compiled
    found: dict[str, dict[str, list[float]]] = {}
    for axis, sizes in GRIDS.items():
        found[axis] = {task: [] for task in TASKS}
        for size in sizes:
            for task, classes in TASKS.items():
                seconds = measure(**{**SETTING, axis: size}, classes=classes)
                found[axis][task].append(round(seconds, 3))
            print(axis, size, {task: found[axis][task][-1] for task in TASKS}, flush=True)
    arguments.results.write_text(json.dumps({"setting": SETTING, "grids": GRIDS, "CPU s": found}))
    draw(found, arguments.figure)


def measure(rows: int, layers: int, width: int, classes: int) -> float:
    """Return the CPU time of one task with its control task, penalties chosen."""
    random = np.random.default_rng(0)
    states = random.standard_normal((rows, layers, width), dtype=np.float32)
    directions = random.standard_normal((width, max(classes, 1)), dtype=np.float32)
    signal = states[:, 0] @ directions / width**0.5
    cut = np.split(np.arange(rows), [rows * 6 // 10, rows * 3 // 4])
    split = Split(*cut)
    start = time.process_time()
    if classes:
        noisy = signal + random.standard_normal(signal.shape, dtype=np.float32)
        labels = np.stack([noisy.argmax(axis=1), random.integers(0, classes, rows)])
        fit_classes(states, labels.astype(np.int64), classes, split)
    else:
        values = np.stack([signal[:, 0], random.standard_normal(rows)]).astype(np.float64)
        fit_values(states, values, split)
    return time.process_time() - start


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw CPU seconds by each axis."""
    panels = []
    for axis, sizes in GRIDS.items():
        fixed = ", ".join(f"{size} {name}" for name, size in SETTING.items() if name != axis)
        lines = {
            task: list(zip(map(float, sizes), seconds, strict=True))
            for task, seconds in found[axis].items()
        }
        panels.append(Panel(fixed, axis, lines))
    title = "CPU seconds of a task and its control task: all penalties, one thread"
    path.write_text(panel_figure(title, [("CPU s", panels)]))


if __name__ == "__main__":
    main()
