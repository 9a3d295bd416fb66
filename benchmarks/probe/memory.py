"""Peak memory of probing by the number of data sets, with the bound on states set low.

    python benchmarks/probe/memory.py MODEL [--bound-mb 64]

Reads PUD treebanks from ``MISCIBLE_SHARED_DATA`` (default ``../shared/data``), a process a line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

LANGUAGES = ("en", "de", "es", "fi", "ru", "tr", "hi", "ar", "zh")


def main() -> None:
    """Print a line for each number of languages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--bound-mb", type=int, default=64)
    parser.add_argument("--languages", type=int, help="run once with so many, in this process")
    args = parser.parse_args()
    if args.languages:
        print(json.dumps(once(args.model, args.bound_mb, args.languages)))
        return
    for count in (1, 2, 4, 9):
        command = [sys.executable, __file__, args.model, "--bound-mb", str(args.bound_mb)]
        done = subprocess.run(
            [*command, "--languages", str(count)], capture_output=True, text=True, check=True
        )
        print(done.stdout.strip(), flush=True)


def once(model: str, bound: int, count: int) -> dict[str, int]:
    """Probe some languages and return the peak."""
    import miscible.probe.plan as plan
    from miscible.models import LiveModel, open_checkpoint
    from miscible.probe.contract import SourceOptions, open_datasets
    from miscible.probe.run import probe_model

    plan.MAX_STATES_BYTES = bound * 2**20
    folder = Path(os.environ.get("MISCIBLE_SHARED_DATA", "../shared/data")) / "probing" / "ud_pud"
    sources = [f"conllu:{next(folder.glob(f'{name}_pud*'))}" for name in LANGUAGES[:count]]
    live = LiveModel.load(open_checkpoint(model))
    datasets = open_datasets(sources, SourceOptions(limit=1000))
    held = plan.ProbePlan.build(datasets, live)
    probe_model(live, held)
    return {
        "languages": count,
        "data sets": len(datasets),
        "reads": sum(len(wave.encoding.reads) for wave in held.waves),
        "waves": len(held.waves),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main()
