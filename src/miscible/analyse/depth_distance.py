"""How far the curve of each family of merges lies from the curve of each parent, along depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from miscible.analyse.depth_profile import FamilyCurves, family_curves
from miscible.analyse.resample import Resampling
from miscible.analyse.taxonomy import Unit
from miscible.probe.scoring.depth import curve_distance

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables


@dataclass(frozen=True, slots=True)
class DistanceRow:
    """A family of merges against a parent; the columns of `depth_distance`.

    Attributes:
        family: of merges, whose curves are averaged; collapsed merges are not among them.
        parent: whose curve they are compared with.
        unit, metric: what was probed.
        mean, mean_low, mean_high: mean over layers of merges minus parent.
        distance, distance_low, distance_high: root mean square over layers of the difference,
            less what noise alone gives (`probe.scoring.depth.CurveDistance`).
        shift, shift_low, shift_high: centre of gravity of the merges minus the parent's, in layers;
            NaN for flat curves.
    """

    family: str
    parent: str
    unit: str
    metric: str
    mean: float
    mean_low: float
    mean_high: float
    distance: float
    distance_low: float
    distance_high: float
    shift: float
    shift_low: float
    shift_high: float


COLUMNS = [field.name for field in fields(DistanceRow)]


def depth_distance(
    tables: StudyTables,
    *,
    unit: Unit = "phenomenon",
    collapsed: Sequence[str] = (),
    options: Resampling | None = None,
) -> pd.DataFrame:
    """Return a `DistanceRow` for each family of merges, parent, and unit with several layers."""
    held = family_curves(tables, unit=unit, collapsed=collapsed, options=options)
    merges = {tables.family[model] for model in tables.merges}
    parents = [tables.family[model] for model in tables.parents]
    rows = [row for curves in held for row in _rows(curves, merges, parents)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(curves: FamilyCurves, merges: set[str], parents: Sequence[str]) -> Iterator[DistanceRow]:
    places = {family: number for number, family in enumerate(curves.models)}
    steps = np.diff(curves.layers)
    a_step = float(steps.mean())  # in layers, of a place along the curve
    for family in places:
        for parent in parents:
            if family not in merges or parent not in places:
                continue
            one, other = places[family], places[parent]
            found = curve_distance(
                curves.scores[one], curves.scores[other],
                curves.resamples[:, one], curves.resamples[:, other], curves.baseline,
            )  # fmt: skip
            yield DistanceRow(
                family, parent, curves.unit, curves.metric,
                found.mean, *found.mean_interval,
                found.distance, *found.distance_interval,
                a_step * found.shift, *(a_step * end for end in found.shift_interval),
            )  # fmt: skip
