"""Methods compared at the same measured dose.

Methods asked for the same weight give very different doses, so that comparing them as they come is
mostly a comparison of doses. Here each method is read off its own curve at one dose: at the merge
that lies there, or on the straight line between its two merges around it, item by item.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from miscible.analyse.multiplicity import holm
from miscible.analyse.paired import contrast
from miscible.analyse.panel import LayerChoice, Panel, panels
from miscible.analyse.resample import Resampling

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables

TOLERANCE = 0.05
"""A merge this near to a dose stands for its method there."""


@dataclass(frozen=True, slots=True)
class MatchedRow:
    """Two methods at one dose; the columns of `methods_at_dose`.

    Attributes:
        dose: measured dose at which they are compared.
        family, other: the methods; *models* and *other_models* the merges that stand for them.
        difference, low, high: *family* minus *other*, paired, in the unit of the metric.
        p_value, p_holm: two-sided, and corrected over all pairs and tasks.
        n_items: items that all merges involved have.
    """

    dose: float
    family: str
    other: str
    models: str
    other_models: str
    domain: str
    dataset: str
    metric: str
    higher_is_better: bool
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    n_items: int


COLUMNS = [field.name for field in fields(MatchedRow)]


def methods_at_dose(
    tables: StudyTables,
    *,
    dose: float | None = None,
    domain: str = "behaviour",
    layer: LayerChoice = "mean",
    options: Resampling | None = None,
) -> pd.DataFrame:
    """Return a `MatchedRow` for each pair of methods that reach *dose*, and each task.

    Args:
        tables: the study.
        dose: where to compare; by default where the most methods can be compared, and of such
            doses the one nearest to 0.5.
        domain: behaviour or internals.
        layer: which layer stands for all.
        options: resampling.
    """
    options = options or Resampling()
    if dose is None:
        dose = _busiest_dose(tables)
    stand_ins = _stand_ins(tables, dose)
    pairs = list(combinations(stand_ins, 2))
    if not pairs:
        return pd.DataFrame(columns=COLUMNS)
    frames = [
        _compare(panel.reduced(layer), pairs, stand_ins, options)
        for panel in panels(tables, domain)
    ]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.concat(frames, ignore_index=True).assign(dose=dose)
    frame["p_holm"] = holm(frame["p_value"])
    return frame[COLUMNS]


def _compare(
    panel: Panel,
    pairs: list[tuple[str, str]],
    stand_ins: dict[str, dict[str, float]],
    options: Resampling,
) -> pd.DataFrame:
    values = {
        family: sum(
            (share * panel.row(model)[0] for model, share in parts.items()),
            start=np.zeros(panel.values.shape[2]),
        )
        for family, parts in stand_ins.items()
    }
    result = contrast(np.stack([values[a] - values[b] for a, b in pairs]), panel, options)
    return pd.DataFrame(
        {
            "family": [a for a, _ in pairs],
            "other": [b for _, b in pairs],
            "models": [", ".join(stand_ins[a]) for a, _ in pairs],
            "other_models": [", ".join(stand_ins[b]) for _, b in pairs],
            **panel.cell._asdict(),
            "higher_is_better": panel.higher_is_better,
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "p_value": result.p_value,
            "n_items": result.n_items.astype(int),
        }
    )


def _curves(tables: StudyTables) -> dict[str, list[tuple[float, str]]]:
    curves: dict[str, list[tuple[float, str]]] = {}
    for merge in tables.merges:
        if merge in tables.dose:
            curves.setdefault(tables.family[merge], []).append((tables.dose[merge], merge))
    return {family: sorted(points) for family, points in curves.items()}


def _stand_ins(tables: StudyTables, dose: float) -> dict[str, dict[str, float]]:
    """Return, for each method that reaches *dose*, its merges there and their shares."""
    held: dict[str, dict[str, float]] = {}
    for family, points in _curves(tables).items():
        near = min(points, key=lambda point: abs(point[0] - dose))
        if abs(near[0] - dose) <= TOLERANCE:
            held[family] = {near[1]: 1.0}
            continue
        below = [point for point in points if point[0] < dose]
        above = [point for point in points if point[0] > dose]
        if below and above:
            (left, first), (right, second) = below[-1], above[0]
            way = (dose - left) / (right - left)
            held[family] = {first: 1 - way, second: way}
    return held


def _busiest_dose(tables: StudyTables) -> float:
    doses = {round(dose, 2) for points in _curves(tables).values() for dose, _ in points}
    candidates = sorted(doses | {0.5})
    return max(candidates, key=lambda d: (len(_stand_ins(tables, d)), -abs(d - 0.5)))
