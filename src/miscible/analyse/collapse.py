"""Which merges are broken: their likelihood exploded or is no number, or they were flagged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from miscible.words import listed, metric_name

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables

RATIO = 1.5
"""A merge whose loss is this many times that of the worst of base and parents is collapsed.

Merges of one family that work lie within some 10 % of their parents' bits per byte; the uniform
distribution over bytes costs 8 bits, ten times what a small language model needs. Half as much
again as the worst parent lies far from both."""

LOSSES = ("bits_per_byte", "bits_per_token", "nats_per_token", "nats_per_byte", "loss")
PERPLEXITIES = ("perplexity", "word_perplexity", "byte_perplexity", "token_perplexity")
FLAGS = {
    "collapsed": "flagged on {}",
    "nonfinite": "some of its log-probabilities on {} are not finite",
}
"""Flags of behaviour that make a merge a collapsed one, and how that is said."""


def collapsed_merges(tables: StudyTables, *, ratio: float = RATIO) -> dict[str, str]:
    """Return the collapsed merges and why, in the order of the study.

    A perplexity is compared by its logarithm, which is a loss. A merge that has a loss which is no
    finite number is collapsed, whatever its parents have. Flags count on behaviour only: on
    internals ``collapsed`` marks one probe at its constant predictor, not a model.
    """
    rows = tables.scores[tables.scores["domain"] == "behaviour"]
    found: dict[str, str] = {}
    for row in rows.itertuples():
        for flag, words in FLAGS.items():
            if flag in str(row.flags).split(","):
                found.setdefault(str(row.model), words.format(row.dataset))
    for (dataset, metric), held in rows.groupby(["dataset", "metric"], sort=True):
        if metric not in LOSSES + PERPLEXITIES:
            continue
        name = f"{metric_name(str(metric))} on {dataset}"
        loss = held.set_index("model")["estimate"].astype(float)
        for merge in loss.index[~np.isfinite(loss)]:
            found.setdefault(str(merge), f"{name} is no finite number")
        if metric in PERPLEXITIES:
            loss = loss.map(lambda value: math.log(value) if value > 0 else math.nan)
        references = [str(model) for model in (tables.base, *tables.parents) if model is not None]
        known = loss.reindex(references).replace(math.inf, math.nan).dropna()
        worst = known.max()
        if not worst > 0:
            continue
        whose = "the worst parent's"
        if not set(tables.parents) <= set(known.index):
            whose = f"the worst of {listed(known.index)} (other parents have no score)"
        for merge, value in loss.reindex(list(tables.merges)).items():
            if ratio * worst < value < math.inf:
                found.setdefault(str(merge), f"{name} is {value / worst:.1f} times {whose}")
    return {merge: found[merge] for merge in tables.merges if merge in found}
