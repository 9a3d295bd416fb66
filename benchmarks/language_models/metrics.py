"""Measure every two children: weights, then activations, gradients and loss barriers.

    python benchmarks/language_models/metrics.py ADAPTERS_FOLDER RESULTS_FOLDER

Calibration data are training texts of each task, so that both models of a pair are seen on the
data of the first, of the second, and of both.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import pandas as pd
import torch
from merges import BASE, pairs
from run import open_models
from tasks import TASKS

import miscible
from miscible.measure.calibration import CalibrationText, calibration_set
from miscible.measure.language_model import LanguageModel
from miscible.measure.loss_barrier import loss_barriers, with_barriers
from miscible.measure.result import Measurement
from miscible.measure.tracing import trace

LENGTH = 96
SEQUENCES = 8
TEXTS = 200
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("adapters", type=Path, help="folder of the children")
    parser.add_argument("results", type=Path, help="folder of metrics.csv")
    parser.add_argument("--scratch", type=Path, help="folder that holds gradients meanwhile")
    parser.add_argument("--sequences", type=int, default=SEQUENCES)
    parser.add_argument("--disk", type=float, default=12.0, help="most GB of gradients at a time")
    parser.add_argument("--weights-only", action="store_true")
    arguments = parser.parse_args()
    models = open_models(arguments.adapters)
    base = models.pop(BASE)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / "metrics.csv"
    started = time.monotonic()
    if arguments.weights_only:
        table(miscible.measure(base, models)).to_csv(path, index=False, float_format="%.8g")
        return
    # The dtype in which the merges are scored: the same numerics for both sides of the study.
    runner = LanguageModel.load(base, dtype="bfloat16")
    pieces = [
        calibration_set(
            training_text(task), runner.live.tokenizer,
            length=LENGTH, sequences=arguments.sequences, seed=SEED,
        )
        for task in TASKS
    ]  # fmt: skip
    traced = trace(
        models, runner, pieces, owners=list(TASKS),
        disk_bytes=int(arguments.disk * 1e9), folder=arguments.scratch,
    )  # fmt: skip
    print(f"traced in {time.monotonic() - started:.0f} s", flush=True)
    barriers = loss_barriers(traced, models, runner, pieces)
    print(f"barriers after {time.monotonic() - started:.0f} s", flush=True)
    found = miscible.measure(
        base, models,
        activations=with_barriers(traced.activation_pairs(), barriers),
        gradients=traced.gradient_pairs(), failures=traced.failures,
    )  # fmt: skip
    table(found).to_csv(path, index=False, float_format="%.8g")
    print(f"all after {time.monotonic() - started:.0f} s", flush=True)


def training_text(task: str) -> CalibrationText:
    """Return a seeded choice of a task's training texts."""
    texts = [item.context + item.answer for item in TASKS[task].items("train")]
    random.Random(SEED).shuffle(texts)
    return CalibrationText(task, tuple(texts[:TEXTS]))


def table(found: Measurement) -> pd.DataFrame:
    """Return one row a pair, one column a metric; X_a and X_b where it has a direction."""
    by_pair = {(pair.a, pair.b): pair for pair in found.pairs}
    rows = []
    for a, b in pairs():
        pair = by_pair[a, b]
        values: dict[str, float] = {}
        for name, held in pair.metrics.items():
            if name in pair.reverse:
                values |= {f"{name}_a": held.value, f"{name}_b": pair.reverse[name].value}
            else:
                values[name] = held.value
        rows.append({"pair": f"{a}__{b}", "task_a": a, "task_b": b, **values})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)  # where cores are shared, barriers cost more than threads gain
    main()
