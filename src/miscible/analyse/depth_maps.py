"""Where in depth, and in which phenomenon, a merge differs from a parent.

A map has a cell for each layer and each unit (a phenomenon, or a data set). A cell is the merge
minus the parent on the same test items, averaged over the items of a data set and then over the
data sets of the unit, as all scores of units are. Its interval resamples the clusters of each data
set; its test flips their signs (see `saddlepoint`). Benjamini and Hochberg's correction is over
all cells of one map, because a map asks one question: where does this merge differ from that one?
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from miscible.analyse.multiplicity import benjamini_hochberg
from miscible.analyse.panel import Floats, Panel, panels
from miscible.analyse.resample import (
    ClusterSums,
    Resampling,
    bootstrap_means,
    cluster_sums,
    interval,
    ratio,
)
from miscible.analyse.saddlepoint import sign_flip_p_values
from miscible.analyse.taxonomy import Unit, unit_of_datasets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from miscible.analyse.tables import StudyTables

MEAN_OF_PARENTS = "mean of parents"


@dataclass(frozen=True, slots=True)
class DepthRow:
    """A cell of a map; the columns of `depth_maps`.

    Attributes:
        model, reference: a merge, and a parent or `MEAN_OF_PARENTS`.
        unit, metric, layer: the cell.
        higher_is_better: direction of the metric.
        difference, low, high: merge minus reference in the unit of the metric, and its interval.
        p_value: two-sided.
        q_value: corrected over all cells of the map.
        n_items, n_clusters: compared items, and the clusters they come in.
        datasets: data sets behind the cell.
    """

    model: str
    reference: str
    unit: str
    metric: str
    layer: int
    higher_is_better: bool
    difference: float
    low: float
    high: float
    p_value: float
    q_value: float
    n_items: int
    n_clusters: int
    datasets: int


COLUMNS = [field.name for field in fields(DepthRow)]
MAP = ["model", "reference"]


class _Part(NamedTuple):
    """One data set: its K comparisons, and the (K,) items of each."""

    name: str
    sums: ClusterSums
    n_items: Floats


def depth_maps(
    tables: StudyTables, *, unit: Unit = "phenomenon", options: Resampling | None = None
) -> pd.DataFrame:
    """Return a `DepthRow` for each merge, reference, unit and layer that was probed."""
    options = options or Resampling()
    references = [*tables.parents, *([MEAN_OF_PARENTS] if len(tables.parents) > 1 else [])]
    pairs = [(merge, reference) for merge in tables.merges for reference in references]
    if not pairs:
        return pd.DataFrame(columns=COLUMNS)
    frames = [
        _cells(unit_name, held, pairs, tables.parents, options)
        for unit_name, held in layered_panels(tables, unit)
    ]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.concat(frames, ignore_index=True).dropna(subset=["difference"])
    grouped = frame.groupby(MAP, sort=False)["p_value"]
    frame["q_value"] = grouped.transform(lambda p: benjamini_hochberg(p.to_numpy()))
    return frame[COLUMNS].reset_index(drop=True)


def layered_panels(tables: StudyTables, unit: Unit) -> Iterator[tuple[str, list[Panel]]]:
    """Yield the panels of internals with layers that share a unit and a metric, by the unit."""
    names: Mapping[str, str] = unit_of_datasets(tables.scores, unit)

    def key(panel: Panel) -> tuple[str, str]:
        return names.get(panel.cell.dataset, panel.cell.dataset), panel.cell.metric

    held = [panel for panel in panels(tables, "internals") if None not in panel.layers]
    for (name, _), group in groupby(sorted(held, key=key), key=key):
        yield name, list(group)


def _cells(
    unit: str,
    held: Sequence[Panel],
    pairs: Sequence[tuple[str, str]],
    parents: Sequence[str],
    options: Resampling,
) -> pd.DataFrame:
    layers = sorted({layer for panel in held for layer in panel.layers if layer is not None})
    found = [_part(panel, pairs, parents, layers) for panel in held]
    present = np.stack([np.isfinite(part.sums.means) for part in found]).astype(float)
    share = np.nan_to_num(ratio(present, present.sum(axis=0)))
    difference: Floats = np.zeros(present.shape[1])
    draws: Floats = np.zeros((options.resamples, present.shape[1]))
    parts = []
    for weight, part in zip(share, found, strict=True):
        difference += weight * np.nan_to_num(part.sums.means)
        drawn = bootstrap_means(part.sums, options, part.name)
        draws += np.where(weight > 0, weight * drawn, 0.0)  # 0 * NaN would be NaN
        total = np.where(weight > 0, part.sums.weight.sum(axis=0), 1.0)
        parts.append(weight * part.sums.weighted / total)
    missing = present.sum(axis=0) == 0
    low, high = interval(draws, options.level)
    n_clusters = np.sum([(part.sums.weight > 0).sum(axis=0) for part in found], axis=0)
    few = n_clusters < 2
    p_values = sign_flip_p_values(np.concatenate(parts))
    return pd.DataFrame(
        {
            "model": np.repeat([model for model, _ in pairs], len(layers)),
            "reference": np.repeat([reference for _, reference in pairs], len(layers)),
            "unit": unit,
            "metric": held[0].cell.metric,
            "layer": np.tile(layers, len(pairs)),
            "higher_is_better": held[0].higher_is_better,
            "difference": np.where(missing, np.nan, difference),
            "low": np.where(few, np.nan, low),
            "high": np.where(few, np.nan, high),
            "p_value": np.where(missing, np.nan, p_values),
            "n_items": np.sum([part.n_items for part in found], axis=0).astype(int),
            "n_clusters": n_clusters.astype(int),
            "datasets": present.sum(axis=0).astype(int),
        }
    )


def _part(
    panel: Panel,
    pairs: Sequence[tuple[str, str]],
    parents: Sequence[str],
    layers: Sequence[int],
) -> _Part:
    places = [panel.layers.index(layer) if layer in panel.layers else -1 for layer in layers]
    # All parents or none: a mean of some of them is another reference.
    rows = {name: panel.row(name) for pair in pairs for name in pair if name != MEAN_OF_PARENTS}
    rows[MEAN_OF_PARENTS] = np.mean([panel.row(parent) for parent in parents], axis=0)
    differences = np.stack([rows[model] - rows[reference] for model, reference in pairs])
    differences = differences[:, places]
    differences[:, [place < 0 for place in places]] = np.nan
    differences = differences.reshape(-1, differences.shape[-1])
    sums = cluster_sums(differences, panel.weights, panel.clusters)
    n_items = np.isfinite(differences).sum(axis=1).astype(float)
    return _Part(panel.cell.dataset, sums, n_items)
