"""The insides of a made-up study: probes with planted effects, baselines, similarities."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

BASE, FIRST, SECOND = "base", "math", "code"
MERGES = {
    "linear-0.25": ("linear", 0.25), "linear-0.5": ("linear", 0.5), "linear-0.75": ("linear", 0.75),
    "slerp-0.3": ("slerp", 0.3), "slerp-0.7": ("slerp", 0.7),
    "task_arithmetic-0.5": ("task_arithmetic", 0.5),
    "ties-0.4": ("ties", 0.4), "ties-0.6": ("ties", 0.6),
    "dare_ties-0.9": ("dare_ties", 0.9),
}  # fmt: skip
COLLAPSED = "dare_ties-0.9"
PHENOMENA = {
    "agreement": "syntax", "islands": "syntax", "npi licensing": "semantics", "tense": "morphology",
}  # fmt: skip
FORGETFUL, FORGOTTEN, LOSS = "slerp-0.7", "islands", 0.22
"""A merge that loses one phenomenon, in the middle third of its layers only."""


def internals(
    index: int,
    models: pd.DataFrame,
    share: dict[str, float],
    layers: int,
    pairs: int,
    rng: np.random.Generator,
) -> list[pd.DataFrame]:
    phenomenon = list(PHENOMENA)[index % 4]
    name = f"{phenomenon.replace(' ', '_')}_{index // 4 + 1}"
    depth = np.linspace(0, 1, layers)
    bump = 0.58 + 0.3 * np.sin(np.pi * np.clip(depth * 1.1, 0, 1)) ** 0.7
    difficulty = rng.normal(size=pairs)
    frames = []
    for model, family in zip(models["model"], models["family"], strict=True):
        s = share.get(model, 0.5)
        lift = 0.05 * (s if index % 2 else 1 - s) * (model != BASE) + 0.03 * (family == "ties")
        truth = np.clip(bump + lift * depth + 0.02 * rng.normal(), 0.5, 0.97)
        if model == COLLAPSED:
            truth = 0.5 + 0.4 * (bump - 0.5) * (1 - depth)
        if (model, phenomenon) == (FORGETFUL, FORGOTTEN):
            truth[layers // 3 : layers - layers // 3] -= LOSS
        for metric, means in (("probe_accuracy", truth), ("preference", truth[[-1]] - 0.05)):
            noise = rng.normal(size=(len(means), pairs))
            value = 0.85 * difficulty + 0.53 * noise < stats.norm.ppf(means)[:, None]
            frames.append(
                pd.DataFrame(
                    {
                        "model": model,
                        "domain": "internals",
                        "dataset": name,
                        "metric": metric,
                        "item": np.tile([f"p{i}" for i in range(pairs)], len(means)),
                        "cluster": np.tile([f"p{i}" for i in range(pairs)], len(means)),
                        "value": value.ravel().astype(float),
                        "weight": 1.0,
                        "layer": np.repeat(np.arange(layers), pairs) if len(means) > 1 else None,
                        "phenomenon": phenomenon,
                        "competence": PHENOMENA[phenomenon],
                    }
                )
            )
    return frames


def regression(
    models: pd.DataFrame,
    share: dict[str, float],
    layers: int,
    items: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    depth = np.linspace(0, 1, layers)
    label = rng.normal(size=items)
    label = (label - label.mean()) / label.std()
    frames = []
    for model in models["model"]:
        known = 0.35 + 0.4 * np.sin(np.pi * depth) + 0.05 * share.get(model, 0.5)
        if model == COLLAPSED:
            known = 0.2 * (1 - depth)
        noise = rng.normal(size=(layers, items))
        guess = known[:, None] * label + np.sqrt(1 - known**2)[:, None] * noise
        guess = guess - guess.mean(axis=1, keepdims=True)
        guess = guess / guess.std(axis=1, keepdims=True)
        names = [f"s{i}" for i in range(items)]
        frames.append(
            pd.DataFrame(
                {
                    "model": model,
                    "domain": "internals",
                    "dataset": "tree_depth",
                    "metric": "probe_pearson",
                    "item": np.tile(names, layers),
                    "cluster": np.tile([f"d{i // 2}" for i in range(items)], layers),
                    "value": (guess * label).ravel(),
                    "weight": 1.0,
                    "layer": np.repeat(np.arange(layers), items),
                    "phenomenon": "tree depth",
                    "competence": "syntax",
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def with_controls(scores: pd.DataFrame) -> pd.DataFrame:
    """Add selectivity, macro-F1 (without items) and bags of words, the same for all models."""
    probes = scores["metric"].isin(["probe_accuracy", "probe_pearson"])
    control = 0.5 * (scores["metric"] == "probe_accuracy") + 0.02
    scores["selectivity"] = np.where(probes, scores["estimate"] - control, np.nan)
    scores.loc[scores["metric"] == "probe_pearson", "baseline"] = 0.0
    accuracy = scores[scores["metric"] == "probe_accuracy"]
    macro = accuracy.assign(metric="probe_macro_f1", baseline=1 / 3)
    first = scores[probes].drop_duplicates(["model", "dataset"])
    words = first.assign(
        metric=first["metric"].str.replace("probe", "bag_of_words"),
        layer=pd.NA,
        estimate=np.where(first["metric"] == "probe_pearson", 0.31, 0.61),
        selectivity=np.nan,
    )
    words = words.assign(low=words["estimate"] - 0.06, high=words["estimate"] + 0.06)
    held = pd.concat([scores, macro, words], ignore_index=True)
    return held.astype({"layer": "Int64"})


def similarities(models: pd.DataFrame, share: dict[str, float], layers: int) -> pd.DataFrame:
    """Return how each merge compares with each parent: the less of it, the further from it."""
    depth = np.linspace(0, 1, layers) if layers else np.zeros(0)
    frames = [_similarity("base", "base", "anisotropy", np.zeros(0), 0.0)]
    for model in models["model"]:
        wrecked = 4.0 if model == COLLAPSED else 1.0
        rank = 60 - 25 * depth - 10 * (wrecked > 1) * depth
        frames.append(_similarity(model, model, "effective_rank", rank, 3.0))
        frames.append(_similarity(model, model, "anisotropy", 0.3 + 0.4 * depth**2, 0.03))
        if model == BASE:
            continue
        for parent in (FIRST, SECOND):
            if model in (FIRST, SECOND):
                continue
            gap = share[model] if parent == FIRST else 1 - share[model]
            away = 0.35 * wrecked * gap * depth**1.5
            apart = np.abs(np.subtract.outer(depth, depth))
            cka = np.clip(np.exp(-3 * apart) * (1 - np.minimum(away, 0.9))[:, None], 0, 1)
            frames.append(_similarity(model, parent, "cka", cka, 0.02))
            for metric, curve in (
                ("norm_ratio", 1 - 0.3 * away),
                ("cosine", 1 - 0.4 * away),
                ("relative_distance", 0.02 + away),
                ("lens_kl", 4 * away + 0.1 * (1 - depth)),
            ):
                frames.append(_similarity(model, parent, metric, curve, 0.02))
    return pd.concat(frames, ignore_index=True)


def _similarity(
    model: str, other: str, metric: str, values: np.ndarray, reach: float
) -> pd.DataFrame:
    layers = values.shape[0]
    square = values.ndim == 2
    flat = values.ravel()
    return pd.DataFrame(
        {
            "model": model,
            "other": other,
            "metric": metric,
            "layer": np.repeat(np.arange(layers), layers) if square else np.arange(layers),
            "other_layer": np.tile(np.arange(layers), layers) if square else np.arange(layers),
            "estimate": flat,
            "low": flat - reach,
            "high": flat + reach,
            "n": 128,
            "flags": "",
        }
    )
