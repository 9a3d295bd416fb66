"""Which merges are broken: their likelihood exploded, or their behaviour was flagged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from miscible.analyse.words import metric_name

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables

RATIO = 1.5
"""A merge whose loss is this many times that of the worst of base and parents is collapsed.

Merges of one family that work lie within some 10 % of their parents' bits per byte; the uniform
distribution over bytes costs 8 bits, ten times what a small language model needs. Half as much
again as the worst parent lies far from both."""

LOSSES = ("bits_per_byte", "bits_per_token", "nats_per_token", "nats_per_byte", "loss")
PERPLEXITIES = ("perplexity", "word_perplexity", "byte_perplexity", "token_perplexity")
FLAG = "collapsed"


def collapsed_merges(tables: StudyTables, *, ratio: float = RATIO) -> dict[str, str]:
    """Return the collapsed merges and why, in the order of the study.

    A perplexity is compared by its logarithm, which is a loss. The flag ``collapsed`` counts on
    behaviour only: on internals it marks one probe at its constant predictor, not a model.
    """
    rows = tables.scores[tables.scores["domain"] == "behaviour"]
    found: dict[str, str] = {}
    for row in rows[rows["flags"].fillna("").str.split(",").map(lambda f: FLAG in f)].itertuples():
        found.setdefault(str(row.model), f"flagged on {row.dataset}")
    for (dataset, metric), held in rows.groupby(["dataset", "metric"], sort=True):
        if metric not in LOSSES + PERPLEXITIES:
            continue
        loss = held.set_index("model")["estimate"].astype(float)
        if metric in PERPLEXITIES:
            loss = loss.map(lambda value: math.log(value) if value > 0 else math.nan)
        known = [name for name in (tables.base, *tables.parents) if name in loss.index]
        worst = loss.reindex(known).max()
        if not worst > 0:
            continue
        for merge, value in loss.reindex(list(tables.merges)).items():
            if _exploded(value, ratio * worst):
                times = f"{value / worst:.1f} times the worst parent's"
                found.setdefault(str(merge), f"{metric_name(str(metric))} on {dataset} is {times}")
    return {merge: found[merge] for merge in tables.merges if merge in found}


def _exploded(value: float, limit: float) -> bool:
    return value > limit and not pd.isna(value)
