"""Paired differences of merges with base and parents, on identical items.

The interval is a percentile cluster bootstrap; the p value is a sign-flip permutation over the
same clusters (see `resample`). Both are corrected within one question: *where does this merge
differ from this reference?*, that is, over all data sets, metrics and layers of a domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from miscible.analyse.multiplicity import benjamini_hochberg, holm
from miscible.analyse.panel import Floats, LayerChoice, Panel, panels
from miscible.analyse.power import detectable_difference
from miscible.analyse.resample import (
    Resampling,
    bootstrap_means,
    cluster_sums,
    interval,
    ratio,
    sign_flip_test,
)

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A merge minus a reference; the columns of `paired_differences`.

    Attributes:
        model, reference: the two models; *reference_role* is base or parent.
        domain, dataset, metric, layer: what was compared (layer <NA> where there is none).
        higher_is_better: direction of the metric.
        model_score, reference_score: weighted means on the items that both have.
        difference, low, high: paired difference in the unit of the metric, and its interval.
        standard_error: standard deviation of the bootstrap.
        p_value: two-sided.
        p_better, p_worse: one-sided, of the merge being better or worse, whichever way is better.
        p_holm, p_bh: two-sided p, corrected over data sets, metrics and layers.
        n_items, n_clusters: compared items, and the clusters they come in.
        n_dropped: items that only one of the two has.
        detectable: true difference that would be found with 80 % power.
    """

    model: str
    reference: str
    reference_role: str
    domain: str
    dataset: str
    metric: str
    layer: int | None
    higher_is_better: bool
    model_score: float
    reference_score: float
    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float
    p_better: float
    p_worse: float
    p_holm: float
    p_bh: float
    n_items: int
    n_clusters: int
    n_dropped: int
    detectable: float


COLUMNS = [field.name for field in fields(DifferenceRow)]
FAMILY = ["model", "reference", "domain"]


class Contrast(NamedTuple):
    """K paired comparisons of one panel with their inference; every field has shape (K,)."""

    difference: Floats
    low: Floats
    high: Floats
    standard_error: Floats
    p_value: Floats
    p_greater: Floats
    p_less: Floats
    n_items: Floats
    n_clusters: Floats


def paired_differences(
    tables: StudyTables,
    *,
    domain: str | None = None,
    layer: LayerChoice = "each",
    options: Resampling | None = None,
) -> pd.DataFrame:
    """Return a `DifferenceRow` for each merge, reference and measured cell.

    Args:
        tables: the study; merges are compared with its base and each parent.
        domain: behaviour or internals, None for both.
        layer: which layers to compare where there are several.
        options: resampling; the default is 2000 resamples and 9999 flips.
    """
    options = options or Resampling()
    references = [*([tables.base] if tables.base else []), *tables.parents]
    pairs = [(merge, other) for merge in tables.merges for other in references]
    frames = [
        _compare(panel.reduced(layer), pairs, options) for panel in panels(tables, domain) if pairs
    ]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.concat(frames, ignore_index=True)
    frame["reference_role"] = np.where(frame["reference"] == tables.base, "base", "parent")
    grouped = frame.groupby(FAMILY, sort=False)["p_value"]
    frame["p_holm"] = grouped.transform(lambda p: holm(p.to_numpy()))
    frame["p_bh"] = grouped.transform(lambda p: benjamini_hochberg(p.to_numpy()))
    return frame[COLUMNS]


def contrast(values: Floats, panel: Panel, options: Resampling) -> Contrast:
    """Infer the weighted mean of each row of paired differences.

    Args:
        values: (K, items) differences; NaN where either model lacks the item.
        panel: gives weights, clusters, and the name of the random stream.
        options: resampling.
    """
    sums = cluster_sums(values, panel.weights, panel.clusters)
    draws = bootstrap_means(sums, options, panel.cell.dataset)
    low, high = interval(draws, options.level)
    clusters = (sums.weight > 0).sum(axis=0)
    spread = draws.std(axis=0)
    few = clusters < 2
    p_values = sign_flip_test(sums, options, panel.cell.dataset)
    return Contrast(
        difference=sums.means,
        low=np.where(few, np.nan, low),
        high=np.where(few, np.nan, high),
        standard_error=np.where(few, np.nan, spread),
        p_value=p_values.two_sided,
        p_greater=p_values.greater,
        p_less=p_values.less,
        n_items=np.isfinite(values).sum(axis=1).astype(float),
        n_clusters=clusters.astype(float),
    )


def weighted_means(values: Floats, held: Floats, weights: Floats) -> Floats:
    """Return the (K,) weighted means of *values* (K, items) over the items *held* (K, items)."""
    return ratio(np.where(held, values, 0.0) @ weights, held @ weights)


def _compare(panel: Panel, pairs: Sequence[tuple[str, str]], options: Resampling) -> pd.DataFrame:
    pairs = [pair for pair in pairs if set(pair) <= set(panel.models)]
    if not pairs:
        return pd.DataFrame(columns=COLUMNS)
    ours = _stack(panel, (model for model, _ in pairs))
    theirs = _stack(panel, (reference for _, reference in pairs))
    differences = ours - theirs
    held = np.isfinite(differences)
    either = np.isfinite(ours) | np.isfinite(theirs)
    result = contrast(differences, panel, options)
    p_better, p_worse = (
        (result.p_greater, result.p_less)
        if panel.higher_is_better
        else (result.p_less, result.p_greater)
    )
    depth = len(panel.layers)
    frame = pd.DataFrame(
        {
            "model": np.repeat([model for model, _ in pairs], depth),
            "reference": np.repeat([reference for _, reference in pairs], depth),
            **panel.cell._asdict(),
            "layer": pd.array(list(panel.layers) * len(pairs), dtype="Int64"),
            "higher_is_better": panel.higher_is_better,
            "model_score": weighted_means(ours, held, panel.weights),
            "reference_score": weighted_means(theirs, held, panel.weights),
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "standard_error": result.standard_error,
            "p_value": result.p_value,
            "p_better": p_better,
            "p_worse": p_worse,
            "n_items": held.sum(axis=1),
            "n_clusters": result.n_clusters.astype(int),
            "n_dropped": (either & ~held).sum(axis=1),
        }
    )
    frame["detectable"] = detectable_difference(1.0, alpha=options.alpha) * frame["standard_error"]
    return frame


def _stack(panel: Panel, models: Iterable[str]) -> Floats:
    rows = np.stack([panel.row(model) for model in models])
    return rows.reshape(-1, rows.shape[-1])
