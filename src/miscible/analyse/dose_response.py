"""Scores against measured dose, and whether a merge does better than the line between its ends.

A merge at share s of the second parent would score (1 - s) * score(first) + s * score(second) if
behaviour were linear in weights. The deviation from that line is taken item by item, so that its
interval is a paired one. With more than two parents the line is the plane through all of them, and
with one parent the line runs from the base (0) to the parent (1) by the dose's coefficient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from miscible.analyse.multiplicity import holm
from miscible.analyse.paired import contrast, weighted_means
from miscible.analyse.panel import Floats, LayerChoice, Panel, panels
from miscible.analyse.resample import Resampling, bootstrap_means, cluster_sums, interval

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables


@dataclass(frozen=True, slots=True)
class DosePoint:
    """A model on a dose-response curve; the columns of `dose_response`.

    Attributes:
        family, role: to draw the curve; the parents are its ends.
        dose: measured (see `StudyTables.dose`), NaN if it could not be measured.
        score, low, high: weighted mean over the model's items and its bootstrap interval.
        expected: the line between the ends at this dose, on the items that all of them have.
        deviation, deviation_low, deviation_high: score minus *expected*, paired; NaN for ends.
        p_value, p_holm: two-sided, and corrected over all merges and tasks of the domain.
        n_items: items that the merge and all ends have.
    """

    family: str
    model: str
    role: str
    domain: str
    dataset: str
    metric: str
    higher_is_better: bool
    dose: float
    score: float
    low: float
    high: float
    expected: float
    deviation: float
    deviation_low: float
    deviation_high: float
    p_value: float
    p_holm: float
    n_items: int


COLUMNS = [field.name for field in fields(DosePoint)]


def dose_response(
    tables: StudyTables,
    *,
    domain: str | None = "behaviour",
    layer: LayerChoice = "mean",
    options: Resampling | None = None,
) -> pd.DataFrame:
    """Return a `DosePoint` for every model with items on each measured cell."""
    options = options or Resampling()
    frames = [_points(panel.reduced(layer), tables, options) for panel in panels(tables, domain)]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.concat(frames, ignore_index=True)
    grouped = frame.groupby("domain")["p_value"]
    frame["p_holm"] = grouped.transform(lambda p: holm(p.to_numpy()))
    return frame[COLUMNS]


def mixture(tables: StudyTables, merge: str) -> dict[str, float]:
    """Return how much of each end the line at the merge's dose holds; empty if not measured."""
    rows = tables.doses[tables.doses["model"] == merge] if len(tables.doses) else tables.doses
    if len(rows) == 0:
        return {}
    if len(tables.parents) > 1:
        shares = dict(zip(rows["parent"], rows["share"].astype(float), strict=True))
        complete = set(tables.parents) <= set(shares)
        if not complete or any(np.isnan(share) for share in shares.values()):
            return {}
        return {parent: shares[parent] for parent in tables.parents}
    coefficient = tables.dose.get(merge)
    if coefficient is None or tables.base is None or not tables.parents:
        return {}
    return {tables.base: 1 - coefficient, tables.parents[0]: coefficient}


def _points(panel: Panel, tables: StudyTables, options: Resampling) -> pd.DataFrame:
    values = panel.values[:, 0]
    sums = cluster_sums(values, panel.weights, panel.clusters)
    low, high = interval(bootstrap_means(sums, options, panel.cell.dataset), options.level)
    line = np.stack([_line(panel, mixture(tables, model)) for model in panel.models])
    result = contrast(values - line, panel, options)
    role = dict(zip(tables.models["model"], tables.models["role"], strict=True))
    return pd.DataFrame(
        {
            "family": [tables.family[model] for model in panel.models],
            "model": panel.models,
            "role": [role[model] for model in panel.models],
            **panel.cell._asdict(),
            "higher_is_better": panel.higher_is_better,
            "dose": [tables.dose.get(model, np.nan) for model in panel.models],
            "score": sums.means,
            "low": low,
            "high": high,
            "expected": weighted_means(line, np.isfinite(values - line), panel.weights),
            "deviation": result.difference,
            "deviation_low": result.low,
            "deviation_high": result.high,
            "p_value": result.p_value,
            "n_items": result.n_items.astype(int),
        }
    )


def _line(panel: Panel, parts: Mapping[str, float]) -> Floats:
    if not parts:
        return np.full(panel.values.shape[2], np.nan)
    total: Floats = sum(
        (share * panel.row(name)[0] for name, share in parts.items()),
        start=np.zeros(panel.values.shape[2]),
    )
    return total
