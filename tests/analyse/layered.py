"""Studies of internals over layers whose true differences are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analyse.tiny import ROLES, no_similarities
from miscible.analyse import StudyTables


def layered_study(
    seed: int,
    lost: Mapping[tuple[str, str], tuple[range, float]] | None = None,
    *,
    merges: Sequence[str] = ("merge",),
    phenomena: Sequence[str] = ("agreement", "islands", "tense"),
    sets: int = 2,
    layers: int = 12,
    items: int = 100,
    per_cluster: int = 1,
    flip: float = 0.25,
) -> StudyTables:
    """Return a study in which all models know the same, but for what is *lost*.

    Items are hard or easy for all models alike; each model decides a share of *flip* of them by
    itself, and neighbouring layers mostly agree.

    Args:
        seed: of the items.
        lost: layers at which a model answers worse on a phenomenon, and by how much its accuracy
            falls.
        merges: names beside the base and the parents a and b.
        phenomena: names; the first half are of one competence, the others of another.
        sets: data sets a phenomenon.
        layers, items: of each data set.
        per_cluster: items that share a cluster.
        flip: share of items that models decide by themselves.
    """
    rng = np.random.default_rng(seed)
    models = ["base", "a", "b", *merges]
    frames = []
    for phenomenon in phenomena:
        for number in range(sets):
            shared = np.repeat(rng.random(-(-items // per_cluster)) < 0.75, per_cluster)[:items]
            for model in models:
                own = rng.random((layers, items)) < 0.75
                turned = np.repeat(rng.random((-(-layers // 3), items)) < flip, 3, axis=0)[:layers]
                right = np.where(turned, own, shared)
                where, loss = (lost or {}).get((model, phenomenon), (range(0), 0.0))
                for layer in where:
                    right[layer] &= rng.random(items) > loss / 0.75
                frames.append(_items(model, phenomenon, number, right, per_cluster))
    held = pd.concat(frames, ignore_index=True)
    return study_of(held.drop(columns="phenomenon"), scores_of(held, phenomena), models)


def study_of(items: pd.DataFrame, scores: pd.DataFrame, models: Sequence[str]) -> StudyTables:
    """Return a study of these items and scores, without anything else."""
    doses = ["model", "parent", "projection", "coefficient", "share", "cosine", "residual"]
    return StudyTables(
        name="layered",
        models=pd.DataFrame(
            {
                "model": list(models),
                "role": [ROLES.get(name, "merge") for name in models],
                "family": list(models),
                "method": "",
                "requested_dose": np.nan,
                "reference": "",
                "fingerprint": "",
            }
        ),
        scores=scores,
        items=items,
        doses=pd.DataFrame(columns=doses),
        failures=pd.DataFrame(columns=["model", "step", "error"]),
        similarities=no_similarities(),
        provenance={},
    )


def scores_of(items: pd.DataFrame, phenomena: Sequence[str]) -> pd.DataFrame:
    """Return the mean of each model, data set and layer, without an interval."""
    keys = ["model", "domain", "dataset", "metric", "layer", "phenomenon"]
    scores = items.groupby(keys, sort=False)["value"].mean().rename("estimate").reset_index()
    first = list(phenomena)[: len(phenomena) // 2]
    return scores.assign(
        low=np.nan,
        high=np.nan,
        n=0,
        competence=np.where(scores["phenomenon"].isin(first), "syntax", "semantics"),
        baseline=0.5,
        selectivity=np.nan,
        higher_is_better=True,
        flags="",
    )


def _items(
    model: str, phenomenon: str, number: int, right: np.ndarray, per_cluster: int
) -> pd.DataFrame:
    layers, items = right.shape
    return pd.DataFrame(
        {
            "model": model,
            "domain": "internals",
            "dataset": f"{phenomenon}_{number}",
            "metric": "probe_accuracy",
            "item": np.tile([f"i{i}" for i in range(items)], layers),
            "cluster": np.tile([f"c{i // per_cluster}" for i in range(items)], layers),
            "value": right.ravel().astype(float),
            "weight": 1.0,
            "layer": np.repeat(np.arange(layers), items),
            "phenomenon": phenomenon,
        }
    )
