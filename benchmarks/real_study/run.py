"""The real study: the demo's parents on real benchmarks, five methods at three doses.

    python benchmarks/real_study/run.py WORK_FOLDER [--results docs/data/real-study]

Resumable: run it again to go on. Data is read from ``MISCIBLE_SHARED_DATA`` (default
``../shared/data``) and never copied into the project; what is kept are small tables of results.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml

from miscible.analyse import analyse, findings, verdicts
from miscible.analyse.taxonomy import by_unit, distinct_metrics
from miscible.demo.study import BASE, CHILDREN, adapter_folder
from miscible.report.page import write_report
from miscible.study import Study

sys.path.insert(0, str(Path(__file__).parents[1]))
import blimp

PAIRS = 60
LIMITS = {"gsm8k_solution_bpb": 60, "arc_easy": 120, "python_code_bpb": 100}
DOSES = [0.25, 0.5, 0.75]
METHODS = ["linear", "slerp", "task_arithmetic", "ties", "dare_ties"]


def main() -> None:
    """Write the study file, run it, and keep its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--results", type=Path, default=Path("docs/data/real-study"))
    arguments = parser.parse_args()
    data = Path(os.environ.get("MISCIBLE_SHARED_DATA", "../shared/data")).resolve()
    study = Study.open(write_study(arguments.work, data))
    summary = study.run()
    print(f"{summary.done} steps computed, {summary.reused} reused, {len(summary.failed)} failed")
    for step, error in summary.failed:
        print(f"failed: {step}: {error}")
    write_report(study.tables(), arguments.work / "report.html")
    keep(study, arguments.results)


def write_study(work: Path, data: Path) -> Path:
    """Write the study file and the twelve BLiMP files into *work*."""
    pairs = work / "blimp"
    blimp.unpack(data / "probing", pairs)
    behaviour = data / "behaviour"
    spec = {
        "name": "smollm2-math-code",
        "base": BASE,
        "parents": {child: f"{BASE}+{adapter_folder(child)}" for child in CHILDREN},
        "merges": [{"method": METHODS, "dose": DOSES}],
        "behaviour": {
            "tasks": list(LIMITS),
            "limit": LIMITS,
            "data": {
                "gsm8k_solution_bpb": str(behaviour / "gsm8k" / "test.jsonl.gz"),
                "arc_easy": str(behaviour / "arc" / "ARC-Easy-test.jsonl.gz"),
                "python_code_bpb": str(behaviour / "mbpp" / "mbpp.jsonl.gz"),
            },
        },
        "internals": {"datasets": [{"minimal_pairs": str(pairs.resolve())}], "limit": PAIRS},
    }
    path = work / "study.yml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def keep(study: Study, results: Path) -> None:
    """Write the tables that the documentation page is made of."""
    results.mkdir(parents=True, exist_ok=True)
    tables = study.tables()
    analysis = analyse(tables)
    provenance = ["key", "code", "libraries", "seed", "dtype", "device", "wall_seconds"]
    scores = tables.scores.drop(columns=[*provenance, "selectivity", "flags"])
    internals = scores[scores["domain"] == "internals"]
    curves = by_unit(distinct_metrics(internals), "competence")
    summary = ["model", "dataset", "metric", "reference", "difference", "low", "high", "p_holm"]
    frames = {
        "scores": scores[scores["domain"] == "behaviour"].dropna(axis="columns", how="all"),
        "layers": curves,
        "preferences": internals[internals["layer"].isna()].dropna(axis="columns", how="all"),
        "doses": tables.doses.drop(columns=[*provenance, "fingerprint"]),
        "standings": analysis.standings,
        "gains": analysis.gains,
        "overall": analysis.overall,
        "matched": analysis.matched,
        "ranks": analysis.ranks,
        "internals_differences": analysis.internals.filter(summary),
    }
    for name, frame in frames.items():
        frame.round(5).to_csv(results / f"{name}.csv", index=False)
    judged = verdicts(tables, analysis)
    lines = [*findings(tables, analysis, judged), "", *(held.headline for held in judged)]
    (results / "verdicts.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
