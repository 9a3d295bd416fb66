"""Scores reduced to one layer, and averaged over the data sets of a phenomenon or competence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pandas as pd

from miscible.analyse.panel import LayerChoice

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables

Unit: TypeAlias = Literal["dataset", "phenomenon", "competence"]

REPEATED_BY = {"probe_macro_f1": "probe_accuracy"}
"""Metrics that tell next to nothing that another one of the same data set does not tell."""

WORDS = {f"probe_{score}": f"bag_of_words_{score}" for score in ("accuracy", "macro_f1", "pearson")}
"""Metrics of a probe, and of the same probe on bags of words, which no model has touched."""


def reduce_layers(scores: pd.DataFrame, choice: LayerChoice) -> pd.DataFrame:
    """Return scores with one row a model, data set and metric (see `panel.LayerChoice`).

    Scores without a layer are kept as they are. A mean over layers has no interval: the layers of
    a model are far from independent, so that one made of their intervals would be wrong.
    """
    if choice == "each" or scores.empty:
        return scores
    flat, layered = scores[scores["layer"].isna()], scores[scores["layer"].notna()]
    if layered.empty:
        return flat
    if choice == "mean":
        held = layered.assign(low=np.nan, high=np.nan)
        means = held.groupby(["model", "dataset", "metric"], sort=False)["estimate"].mean()
        first = held.drop_duplicates(["model", "dataset", "metric"]).drop(columns="estimate")
        reduced = first.merge(means.reset_index(), on=["model", "dataset", "metric"])
        return pd.concat([flat, reduced.drop(columns="layer")], ignore_index=True)
    if choice == "last":
        wanted = layered.groupby(["dataset", "metric"])["layer"].max()
    else:
        sign = np.where(layered["higher_is_better"], 1.0, -1.0)
        aligned = layered.assign(estimate=sign * layered["estimate"])
        by_layer = aligned.groupby(["dataset", "metric", "layer"])["estimate"].mean()
        wanted = by_layer.groupby(["dataset", "metric"]).idxmax().map(lambda key: key[2])
    chosen = layered.merge(wanted.rename("chosen").reset_index(), on=["dataset", "metric"])
    chosen = chosen[chosen["layer"] == chosen["chosen"]].drop(columns="chosen")
    return pd.concat([flat, chosen], ignore_index=True)


def by_unit(scores: pd.DataFrame, unit: Unit) -> pd.DataFrame:
    """Return scores of internals averaged over the data sets of each unit.

    Columns: model, unit, metric, layer, estimate, low, high, datasets, higher_is_better. The
    interval takes the data sets as independent. A model that lacks one of a unit's data sets has
    NaN there, because its mean would be of something else.
    """
    rows = scores.assign(unit=unit_names(scores, unit))
    rows = rows.assign(
        below=(rows["estimate"] - rows["low"]) ** 2, above=(rows["high"] - rows["estimate"]) ** 2
    )
    keys = ["model", "unit", "metric", "layer"]
    grouped = rows.groupby(keys, sort=False, dropna=False)
    frame = grouped.agg(
        estimate=("estimate", "mean"),
        below=("below", lambda part: part.sum(skipna=False)),
        above=("above", lambda part: part.sum(skipna=False)),
        datasets=("estimate", "count"),
        higher_is_better=("higher_is_better", "first"),
    ).reset_index()
    full = frame.groupby(["unit", "metric"])["datasets"].transform("max")
    frame.loc[frame["datasets"] < full, "estimate"] = np.nan
    frame["low"] = frame["estimate"] - np.sqrt(frame.pop("below")) / full
    frame["high"] = frame["estimate"] + np.sqrt(frame.pop("above")) / full
    return frame


def unit_names(scores: pd.DataFrame, unit: Unit) -> pd.Series:
    """Return the unit of each row; rows that name none are a unit of their own data set."""
    named = scores[unit].fillna("")
    return named.where(named != "", scores["dataset"])


def of_models(scores: pd.DataFrame) -> pd.DataFrame:
    """Return scores without those of bags of words: they are stored with every model, of none."""
    return scores[~scores["metric"].isin(list(WORDS.values()))]


def distinct_metrics(scores: pd.DataFrame) -> pd.DataFrame:
    """Return scores of models without metrics that repeat another of the same data set.

    The macro-F1 of a probe tells what its accuracy tells, the more so on minimal pairs, which have
    as many good sentences as bad ones; it stays in the rows, and stays out of charts and
    correlations.
    """
    scores = of_models(scores)
    repeats = scores["metric"].map(REPEATED_BY)
    present = set(zip(scores["dataset"], scores["metric"], strict=True))
    kept = [
        (dataset, by) not in present for dataset, by in zip(scores["dataset"], repeats, strict=True)
    ]
    return scores[np.array(kept, dtype=bool)]


def chosen_unit(tables: StudyTables, most: int = 8) -> Unit:
    """Return the finest of phenomenon and competence that gives at most *most* units."""
    internals = tables.scores[tables.scores["domain"] == "internals"]
    if internals.empty or unit_names(internals, "phenomenon").nunique() <= most:
        return "phenomenon"
    return "competence"


def unit_of_datasets(scores: pd.DataFrame, unit: Unit) -> dict[str, str]:
    """Return the unit of each data set of internals."""
    inside = scores[scores["domain"] == "internals"].drop_duplicates("dataset")
    if unit == "dataset":
        return {str(name): str(name) for name in inside["dataset"]}
    return dict(zip(inside["dataset"], unit_names(inside, unit), strict=True))
