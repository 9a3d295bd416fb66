"""Time a sweep of models: miscible in one process against one ``lm_eval`` process per model.

Both evaluate the same documents with the same prompts in float32: ARC-easy without and with 5
examples, two BLiMP paradigms, and the solutions of GSM8K. Scores are compared, too.

    python benchmarks/evaluate/compare.py demo:smollm2-135m-instruct ../shared/data

CPU seconds are the figure to read on a machine that does other work as well.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ARC: dict[str, Any] = {
    "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test",
    "fewshot_split": "test", "fewshot_config": {"sampler": "first_n"},
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{choices.label.index(answerKey)}}", "doc_to_choice": "{{choices.text}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}  # fmt: skip
BLIMP: dict[str, Any] = {
    "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test",
    "doc_to_text": "", "doc_to_target": 0, "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
    "num_fewshot": 0, "metric_list": [{"metric": "acc"}],
}  # fmt: skip
SOLUTIONS: dict[str, Any] = {
    "dataset_path": "json", "output_type": "loglikelihood_rolling", "test_split": "test",
    "doc_to_text": "", "doc_to_target": "Question: {{question}}\nAnswer: {{answer}}",
    "metric_list": [{"metric": "bits_per_byte"}],
}  # fmt: skip
TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "arc_0_shot": ({**ARC, "num_fewshot": 0}, "arc.jsonl"),
    "arc_5_shot": ({**ARC, "num_fewshot": 5}, "arc.jsonl"),
    "island": (BLIMP, "wh_island.jsonl"),
    "causative": (BLIMP, "causative.jsonl"),
    "solutions": (SOLUTIONS, "gsm8k.jsonl"),
}


@dataclass
class Timed:
    """Wall and CPU seconds, and scores by task and metric."""

    wall: float
    cpu: float
    scores: dict[tuple[str, str], float]


def write_tasks(data: Path, folder: Path) -> None:
    """Write the tasks and their documents into *folder*."""
    behaviour = data / "behaviour"
    for source, name in (("arc/ARC-Easy-test", "arc"), ("gsm8k/test", "gsm8k")):
        content = gzip.decompress((behaviour / f"{source}.jsonl.gz").read_bytes())
        (folder / f"{name}.jsonl").write_bytes(content)
    with zipfile.ZipFile(data / "probing" / "blimp" / "BLiMP.zip") as archive:
        for name in ("wh_island", "causative"):
            (folder / f"{name}.jsonl").write_bytes(archive.read(f"data/{name}.jsonl"))
    for name, (config, file) in TASKS.items():
        kwargs = {"data_files": {"test": file}}
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump({"task": name, "dataset_kwargs": kwargs, **config})
        )


def run_ours(reference: str, folder: Path, models: int, limit: int) -> Timed:
    """Evaluate *models* models in one process; start-up and loading are included."""
    program = f"""
import json
from miscible.evaluate import EvaluationOptions, evaluators
from miscible.models import LiveModel, open_checkpoint
options = EvaluationOptions({tuple(TASKS)!r}, include=({str(folder)!r},), limit={limit})
harness = evaluators.get("lm_eval")(options)
checkpoint = open_checkpoint({reference!r})
live = LiveModel.load(checkpoint)
for number in range({models}):
    if number:
        live.swap(checkpoint)
    found = harness.evaluate(live)
print(json.dumps([[row.dataset, row.metric, row.estimate] for row in found.scores]))
"""
    wall, cpu, output = _timed([sys.executable, "-c", program], folder)
    rows = json.loads(output.splitlines()[-1])
    return Timed(wall, cpu, {(task, metric): value for task, metric, value in rows})


def run_lm_eval(model: Path, folder: Path, limit: int) -> Timed:
    """Evaluate one model with lm-eval's command line."""
    out = folder / "out"
    command = [
        sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args",
        f"pretrained={model},dtype=float32", "--device", "cpu", "--batch_size", "8", "--tasks",
        ",".join(TASKS), "--include_path", str(folder), "--limit", str(limit), "--log_samples",
        "--output_path", str(out),
    ]  # fmt: skip
    wall, cpu, _ = _timed(command, folder)
    file = max(out.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    results = json.loads(file.read_text())["results"]
    scores = {
        (task, key.removesuffix(",none")): value
        for task, metrics in results.items()
        for key, value in metrics.items()
        if key.endswith(",none") and "stderr" not in key
    }
    return Timed(wall, cpu, scores)


def _timed(command: list[str], folder: Path) -> tuple[float, float, str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **offline}, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def main() -> None:
    """Print both times, their ratio, and the largest difference between scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model reference; every model of the sweep is this one")
    parser.add_argument("data", type=Path, help="folder of shared data")
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--limit", type=int, default=40, help="documents of each task")
    parser.add_argument("--timed", type=int, default=1, help="lm_eval processes really run")
    asked = parser.parse_args()

    from miscible.models import open_checkpoint

    model = open_checkpoint(asked.model).folder
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_tasks(asked.data, folder)
        runs = [run_lm_eval(model, folder, asked.limit) for _ in range(asked.timed)]
        ours = run_ours(str(model), folder, asked.models, asked.limit)
    share = asked.models / asked.timed
    wall, cpu = (share * sum(getattr(run, name) for run in runs) for name in ("wall", "cpu"))
    print(f"{asked.models} models, {asked.limit} documents a task, load before {load:.1f}")
    print(f"lm_eval, {asked.timed} of {asked.models} processes run: {wall:.0f} s, {cpu:.0f} CPU s")
    print(f"miscible, one process: {ours.wall:.0f} s, {ours.cpu:.0f} CPU s")
    print(f"ratio: {wall / ours.wall:.1f} wall, {cpu / ours.cpu:.1f} CPU")
    for key, value in runs[0].scores.items():
        print(f"  {key[0]:12} {key[1]:14} lm_eval {value:.6f}  miscible {ours.scores[key]:.6f}")


if __name__ == "__main__":
    main()
