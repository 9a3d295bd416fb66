"""A made-up study whose true effects are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

from miscible.analyse import Analysis, Resampling, StudyTables, analyse
from report.synthetic_internals import (
    BASE,
    COLLAPSED,
    FIRST,
    MERGES,
    SECOND,
    internals,
    regression,
    similarities,
    with_controls,
)


@dataclass(frozen=True)
class Task:
    """True means of base and parents; *bonus* is what a family gains over the line."""

    metric: str
    base: float
    first: float
    second: float
    bonus: dict[str, float]
    collapsed: float
    per_cluster: int = 1

    @property
    def up(self) -> bool:
        return self.metric != "bits_per_byte"


TASKS = {
    "gsm8k_text": Task("bits_per_byte", 0.93, 0.68, 0.91, {"ties": -0.04, "slerp": -0.01}, 3.4),
    "python_text": Task("bits_per_byte", 1.10, 1.08, 0.80, {"ties": -0.04}, 3.9),
    "arc_easy": Task("acc", 0.45, 0.46, 0.44, {"ties": 0.26, "slerp": 0.02}, 0.25),
    "gsm8k": Task("exact_match", 0.10, 0.32, 0.12, {"task_arithmetic": -0.05}, 0.005),
    "blimp": Task("acc", 0.83, 0.82, 0.84, {}, 0.52, per_cluster=4),
}


def synthetic_tables(
    seed: int = 0,
    *,
    items: int = 200,
    layers: int = 31,
    pairs: int = 60,
    rename: dict[str, str] | None = None,
    with_internals: bool = True,
) -> StudyTables:
    """Return the study; *rename* maps names of models, families or data sets to others."""
    rng = np.random.default_rng(seed)
    models = _models()
    doses = _doses(rng)
    share = {FIRST: 0.0, SECOND: 1.0}
    share |= dict(zip(doses["model"], doses["share"], strict=True))
    kept = [_behaviour(name, task, models, share, items, rng) for name, task in TASKS.items()]
    if with_internals:
        for index in range(12):
            kept.extend(internals(index, models, share, layers, pairs, rng))
        kept.append(regression(models, share, layers, pairs, rng))
    held = pd.concat(kept, ignore_index=True)
    held["layer"] = held["layer"].astype("Int64")
    scores = with_controls(_scores(held))
    failures = pd.DataFrame(
        [{"model": "slerp-0.7", "step": "evaluate: gsm8k", "error": "out of memory"}]
    )
    tables = StudyTables(
        name="math + code",
        models=models,
        scores=scores,
        items=held.drop(columns=["phenomenon", "competence"]),
        doses=doses,
        failures=failures,
        similarities=similarities(models, share, layers if with_internals else 0),
        provenance=PROVENANCE,
    )
    return _renamed(tables, rename) if rename else tables


PROVENANCE = {
    "miscible": "0.1.0",
    "libraries": {"torch": "2.13.0", "transformers": "5.10.0", "lm-eval": "0.4.13"},
    "seed": 0,
    "dtype": "float32",
    "device": "cpu",
    "options": {"limit": 200, "layers": "all"},
    "seconds": {"merge": 12.31, "evaluate": 181.0, "probe": 96.5},
}


def _models() -> pd.DataFrame:
    rows: list[tuple[str, str, str, str, float]] = [
        (BASE, "base", BASE, "", np.nan),
        (FIRST, "parent", FIRST, "", np.nan),
        (SECOND, "parent", SECOND, "", np.nan),
    ]
    rows += [(name, "merge", method, method, dose) for name, (method, dose) in MERGES.items()]
    columns = ["model", "role", "family", "method", "requested_dose"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["reference"] = "HuggingFaceTB/SmolLM2-135M+" + frame["model"]
    frame["fingerprint"] = [f"{7919 * i:020x}" for i in range(len(frame))]
    return frame


def _doses(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for name, (method, dose) in MERGES.items():
        size = {"task_arithmetic": 1.2, "dare_ties": 1.6}.get(method, 1.0)
        share = float(np.clip(dose + rng.normal(0, 0.01), 0.01, 0.99))
        for parent, part in ((FIRST, 1 - share), (SECOND, share)):
            rows.append(
                {
                    "model": name,
                    "parent": parent,
                    "projection": size * part + 0.03,
                    "coefficient": size * part,
                    "share": part,
                    "cosine": part / np.hypot(share, 1 - share),
                    "residual": {"ties": 0.35, "dare_ties": 0.8}.get(method, 0.02),
                }
            )
    return pd.DataFrame(rows)


def true_mean(task: Task, model: str, share: dict[str, float], family: str) -> float:
    """Return the planted mean of a model on a task."""
    if model == BASE:
        return task.base
    if model == COLLAPSED:
        return task.collapsed
    line = (1 - share[model]) * task.first + share[model] * task.second
    return line + task.bonus.get(family, 0.0)


def _behaviour(
    name: str,
    task: Task,
    models: pd.DataFrame,
    share: dict[str, float],
    items: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    clusters = np.arange(items) // task.per_cluster
    difficulty = rng.normal(size=items // task.per_cluster + 1)[clusters]
    size = rng.integers(200, 900, size=items).astype(float)
    frames = []
    for model, family in zip(models["model"], models["family"], strict=True):
        mean = true_mean(task, model, share, family)
        noise = rng.normal(size=items)
        if task.up:
            value = (0.85 * difficulty + 0.53 * noise < stats.norm.ppf(mean)).astype(float)
        else:
            value = mean + 0.2 * difficulty + 0.08 * noise
        frames.append(
            pd.DataFrame(
                {
                    "model": model,
                    "domain": "behaviour",
                    "dataset": name,
                    "metric": task.metric,
                    "item": [f"{name}-{i}" for i in range(items)],
                    "cluster": [f"c{c}" for c in clusters],
                    "value": value,
                    "weight": 1.0 if task.up else size,
                    "layer": None,
                    "phenomenon": "",
                    "competence": "",
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _scores(items: pd.DataFrame) -> pd.DataFrame:
    keys = ["model", "domain", "dataset", "metric", "layer", "phenomenon", "competence"]
    weighted = items.assign(weighted=items["value"] * items["weight"])
    grouped = weighted.groupby(keys, sort=False, dropna=False)
    frame = grouped.agg(
        total=("weighted", "sum"),
        weight=("weight", "sum"),
        n=("value", "size"),
        sd=("value", "std"),
    ).reset_index()
    frame["estimate"] = frame.pop("total") / frame.pop("weight")
    half = 1.96 * frame.pop("sd") / np.sqrt(frame["n"])
    frame["low"], frame["high"] = frame["estimate"] - half, frame["estimate"] + half
    frame["higher_is_better"] = frame["metric"] != "bits_per_byte"
    inside = frame["domain"] == "internals"
    frame["baseline"] = np.where(inside, 0.5, np.nan)
    frame["selectivity"] = np.nan
    frame["flags"] = ""
    frame.loc[inside & (frame["estimate"] <= 0.5), "flags"] = "collapsed"
    return frame


def _renamed(tables: StudyTables, names: dict[str, str]) -> StudyTables:
    def rename(frame: pd.DataFrame) -> pd.DataFrame:
        columns = [
            c for c in ("model", "parent", "other", "family", "method", "dataset") if c in frame
        ]
        return frame.assign(**{c: frame[c].replace(names) for c in columns})

    return StudyTables(
        name=names.get(tables.name, tables.name),
        models=rename(tables.models),
        scores=rename(tables.scores),
        items=rename(tables.items),
        doses=rename(tables.doses),
        failures=rename(tables.failures),
        similarities=rename(tables.similarities),
        provenance=tables.provenance,
    )


@cache
def small_study() -> StudyTables:
    """Return a study that is quick to analyse, made once."""
    return synthetic_tables(layers=5, pairs=40)


@cache
def small_analysis() -> Analysis:
    """Return the analysis of `small_study` with few resamples, made once."""
    return analyse(small_study(), Resampling(resamples=400, flips=1999))
