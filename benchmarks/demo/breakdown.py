"""Where the demo's time goes: wall time by kind of step, against the forward passes in it.

    python benchmarks/demo/breakdown.py FOLDER

Runs the demo into FOLDER (which should not exist) in this process, timing every forward pass of the
model from outside, and prints a Markdown table, the peak memory and the machine's load.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

START = time.perf_counter()

from miscible.demo.study import demo_study  # noqa: E402
from miscible.models.live import LiveModel  # noqa: E402
from miscible.report.page import write_report  # noqa: E402
from miscible.study import run as run_module  # noqa: E402


class Clock:
    """Seconds spent, by what was going on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.forward: dict[str, float] = defaultdict(float)
        self.phase = "other"

    def around(self, phase: str, function: Any) -> Any:
        """Return *function*, its time counted under *phase* (not that of phases within)."""

        def timed(*arguments: Any, **named: Any) -> Any:
            outer, self.phase = self.phase, phase
            start = time.perf_counter()
            before = self.seconds.copy()
            try:
                return function(*arguments, **named)
            finally:
                inner = sum(self.seconds.values()) - sum(before.values())
                self.seconds[phase] += time.perf_counter() - start - inner
                self.phase = outer

        return timed

    def watch(self, model: Any) -> None:
        """Count the forward passes of *model* under the phase in which they happen."""
        started = [0.0]
        model.register_forward_pre_hook(lambda *_: started.__setitem__(0, time.perf_counter()))
        model.register_forward_hook(
            lambda *_: self.forward.__setitem__(
                self.phase, self.forward[self.phase] + time.perf_counter() - started[0]
            )
        )


def main() -> None:
    """Run and print."""
    clock = Clock()
    load = LiveModel.load

    def watched(checkpoint: Any, **named: Any) -> LiveModel:
        live = load(checkpoint, **named)
        clock.watch(live.model)
        return live

    runner = run_module._Run
    for method, phase in (
        ("_doses", "doses"), ("_holding", "merging and swapping weights"),
        ("_behaviour", "behaviour"), ("_internals", "internals"),
    ):  # fmt: skip
        setattr(runner, method, clock.around(phase, getattr(runner, method)))
    run_module.LiveModel.load = clock.around("loading the base", watched)  # type: ignore[method-assign]
    folder = Path(sys.argv[1])
    imports = time.perf_counter() - START
    study = clock.around("planning", demo_study)(folder)
    clock.around("planning", lambda: study.plan)()
    summary = clock.around("storing rows", study.run)()
    page = folder / "report.html"
    clock.around("report", lambda: write_report(study.tables(), page))()
    total = time.perf_counter() - START
    print(f"{summary.done} steps, {len(summary.failed)} failed, {len(study.plan.models)} models\n")
    print("| phase | seconds | of it forward passes |\n|---|---|---|")
    print(f"| imports | {imports:.1f} | |")
    for phase, seconds in clock.seconds.items():
        forward = clock.forward.get(phase, 0.0)
        print(f"| {phase} | {seconds:.1f} | {f'{forward:.1f}' if forward else ''} |")
    forward = sum(clock.forward.values())
    print(f"| **all** | **{total:.1f}** | **{forward:.1f}** |\n")
    measured = sum(clock.seconds[phase] for phase in ("behaviour", "internals"))
    print(f"overhead of measuring over its forward passes: {measured / forward - 1:.1%}")
    print(f"overhead of the whole demo over its forward passes: {total / forward - 1:.1%}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory: {peak:.2f} GB; load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
