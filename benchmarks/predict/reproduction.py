"""The tables of *Demystifying Mergeability* again, from its authors' published measurements.

    python benchmarks/predict/reproduction.py FOLDER docs/data/mergeability-reproduction 199

FOLDER has metrics_ViT-B-16.csv, performance_ViT-B-16.csv and zeroshot_ViT-B-16.csv. Written are
loto.csv (leave one task out) and unseen.csv (leave five out), a row a predictor, target and method.
The last argument is the number of relabelled tables of each null.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from miscible.predict.baselines import BASELINES
from miscible.predict.contract import Predictor, make
from miscible.predict.pairs import Examples, Floats, PairTable, Target
from miscible.predict.pearson import Pearson
from miscible.predict.tables import read_tables
from miscible.predict.threads import one_thread
from miscible.predict.validation.calibration import calibrate
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import Fold, leave_one_task_out, leave_tasks_out
from miscible.predict.validation.null import p_value, relabel
from miscible.predict.validation.scores import score_lkto, score_loto

METHODS = ("weight_avg", "arithmetic", "tsv", "ties", "dare", "isotropic")
SEEDS, DRAWS, K = 10, 40, 5
NOT_OF_THE_PAPER = "right_subspace_overlap"
"""An older column of the table, which is not among the paper's 28 metrics."""


def main(data: Path, out: Path, null: int) -> None:
    metrics, scores = data / "metrics_ViT-B-16.csv", data / "performance_ViT-B-16.csv"
    bare = read_tables(metrics, scores, drop=[NOT_OF_THE_PAPER], complete=True)
    models = published(data)
    print(bare.counts, models.counts)
    start = time.process_time()
    with one_thread():
        _write(out / "loto.csv", _loto(bare, models, null))
        _write(out / "unseen.csv", _unseen(bare, models, null))
    print(f"{time.process_time() - start:.0f} s of CPU time")


def published(data: Path) -> PairTable:
    """Return the published tables with the scalars of their models."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models.csv"
        # The published zero-shot score of EMNIST is that of letters; the study has digits.
        lines = (data / "zeroshot_ViT-B-16.csv").read_text().splitlines()
        models.write_text("\n".join(line for line in lines if not line.startswith("EMNIST,")))
        return read_tables(
            data / "metrics_ViT-B-16.csv", data / "performance_ViT-B-16.csv", models,
            drop=[NOT_OF_THE_PAPER],
        )  # fmt: skip


def _loto(bare: PairTable, with_models: PairTable, number: int) -> list[dict[str, object]]:
    plain: list[tuple[str, PairTable, Predictor, int, int]] = [
        ("paper, L1 penalty 1", bare, Pearson(), SEEDS, 0),
        ("paper, no penalty", bare, Pearson(penalty=0.0), SEEDS, 0),
        ("least squares", bare, make("ols"), 1, number),
        ("ridge", bare, make("ridge"), 1, 0),
        ("lasso", bare, make("lasso"), SEEDS, 0),
        ("lasso with scalars of models", with_models, make("lasso"), SEEDS, number),
    ]
    rows: list[dict[str, object]] = []
    for target in ("raw", "normalised"):
        for method in METHODS:
            for name, table, predictor, seeds, null in plain:
                examples = table.examples(method, target)
                folds = leave_one_task_out(examples.pairs)
                runs = [crossvalidate(predictor, examples, folds, seed=s) for s in range(seeds)]
                each = [score_loto(folds, [f.mean for f in r], examples.mean) for r in runs]
                row = _row(name, target, method, examples, [s.r_mean for s in each])
                row |= {
                    "r_sd_folds": each[0].r_sd, "r_pooled": each[0].r_pooled,
                    "skill": each[0].skill,
                    "covered_80": calibrate(folds, runs[0], examples).observed,
                }  # fmt: skip
                if null and (target == "raw") == (name == "least squares"):
                    held = relabel(
                        predictor, examples, table.pairs, folds, [], number=null, seed=0
                    ).loto
                    row |= {"null_r": held.mean(), "p": p_value(each[0].r_mean, held)}
                rows.append(row)
            rows += _baselines(with_models, method, target, leave_one_task_out, score_loto)
            print(target, method, flush=True)
    return rows


def _unseen(bare: PairTable, with_models: PairTable, number: int) -> list[dict[str, object]]:
    plain = [
        ("ridge", bare, make("ridge")),
        ("lasso", bare, make("lasso")),
        ("lasso with scalars of models", with_models, make("lasso")),
    ]
    rows: list[dict[str, object]] = []
    for target in ("raw", "normalised"):
        for method in METHODS:
            for name, table, predictor in plain:
                examples = table.examples(method, target)
                folds = leave_tasks_out(examples.pairs, K, DRAWS, 0)
                forecasts = crossvalidate(predictor, examples, folds, seed=0)
                score = score_lkto(folds, [f.mean for f in forecasts], examples.mean)
                row = _row(name, target, method, examples, [score.r])
                covered = calibrate(folds, forecasts, examples).observed
                row |= {"skill": score.skill, "covered_80": covered}
                if table is with_models and target == "normalised":
                    held = relabel(
                        predictor, examples, table.pairs, [], folds, number=number, seed=0
                    )
                    row |= {"null_r": held.lkto.mean(), "p": p_value(score.r, held.lkto)}
                rows.append(row)
            rows += _baselines(
                with_models, method, target, lambda p: leave_tasks_out(p, K, DRAWS, 0), score_lkto
            )
    return rows


def _baselines(
    table: PairTable,
    method: str,
    target: Target,
    split: Callable[..., list[Fold]],
    score: Callable[..., object],
) -> list[dict[str, object]]:
    examples = table.examples(method, target)
    folds = split(examples.pairs)
    rows = []
    for name, baseline in BASELINES.items():
        guesses: list[Floats] = [
            baseline.guess(examples.take(f.train), examples.pairs.take(f.test)) for f in folds
        ]
        found = score(folds, guesses, examples.mean)
        r = getattr(found, "r_mean", None)
        row = _row(f"baseline: {name}", target, method, examples, [r if r is not None else found.r])
        rows.append({**row, "skill": found.skill})
    return rows


def _row(
    name: str, target: Target, method: str, examples: Examples, r: Sequence[float]
) -> dict[str, object]:
    return {
        "predictor": name, "target": target, "method": method, "pairs": len(examples),
        "r": float(np.mean(r)), "r_sd_seeds": float(np.std(r, ddof=1)) if len(r) > 1 else "",
    }  # fmt: skip


COLUMNS = ("predictor", "target", "method", "pairs", "r", "r_sd_seeds", "r_sd_folds", "r_pooled",
           "skill", "null_r", "p", "covered_80")  # fmt: skip


def _write(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
