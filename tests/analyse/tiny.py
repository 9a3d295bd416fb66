"""Studies of a few numbers, written out."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from miscible.analyse import StudyTables
from miscible.records import SimilarityRow

ROLES = {"base": "base", "a": "parent", "b": "parent"}


def tiny_study(
    values: dict[str, dict[str, ArrayLike]],
    *,
    higher_is_better: bool = True,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    share: dict[str, float] | None = None,
    family: dict[str, str] | None = None,
    metric: str = "acc",
) -> StudyTables:
    """Return a study from item values by task and model; NaN is a missing item.

    Models named base, a and b are base and parents; the others are merges.
    """
    models = list(dict.fromkeys(name for task in values.values() for name in task))
    items = []
    for task, by_model in values.items():
        for model, column in by_model.items():
            column = np.asarray(column, dtype=float)
            n = len(column)
            frame = pd.DataFrame(
                {
                    "model": model,
                    "domain": "behaviour",
                    "dataset": task,
                    "metric": metric,
                    "item": [f"i{k}" for k in range(n)],
                    "cluster": np.arange(n) if clusters is None else np.asarray(clusters),
                    "value": column,
                    "weight": 1.0 if weights is None else np.asarray(weights, dtype=float),
                    "layer": pd.array([None] * n, dtype="Int64"),
                }
            )
            items.append(frame.dropna(subset=["value"]))
    held = pd.concat(items, ignore_index=True).astype({"cluster": str})
    total = held.assign(value=held["value"] * held["weight"])
    scores = total.groupby(["model", "domain", "dataset", "metric"], sort=False)
    scores = (scores["value"].sum() / scores["weight"].sum()).rename("estimate").reset_index()
    scores = scores.assign(
        low=np.nan,
        high=np.nan,
        n=0,
        layer=pd.array([None] * len(scores), dtype="Int64"),
        phenomenon="",
        competence="",
        baseline=np.nan,
        selectivity=np.nan,
        higher_is_better=higher_is_better,
        flags="",
    )
    parents = [name for name in models if ROLES.get(name) == "parent"]
    doses = [
        {"model": merge, "parent": parent, "share": part, "coefficient": part,
         "projection": part, "cosine": 0.5, "residual": 0.0}
        for merge, s in (share or {}).items()
        for parent, part in zip(parents, (1 - s, s) if len(parents) == 2 else (s,), strict=True)
    ]  # fmt: skip
    columns = ["model", "parent", "projection", "coefficient", "share", "cosine", "residual"]
    return StudyTables(
        name="tiny",
        models=pd.DataFrame(
            {
                "model": models,
                "role": [ROLES.get(name, "merge") for name in models],
                "family": [(family or {}).get(name, name) for name in models],
                "method": "",
                "requested_dose": np.nan,
                "reference": "",
                "fingerprint": "",
            }
        ),
        scores=scores,
        items=held,
        doses=pd.DataFrame(doses, columns=columns),
        failures=pd.DataFrame(columns=["model", "step", "error"]),
        similarities=no_similarities(),
        provenance={},
    )


def no_similarities() -> pd.DataFrame:
    """Return an empty frame with the columns of similarities."""
    return pd.DataFrame(columns=[field.name for field in fields(SimilarityRow)])
