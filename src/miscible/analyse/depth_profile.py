"""Where along depth each family of models knows a phenomenon: centre of gravity and best layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from miscible.analyse.depth_maps import layered_panels
from miscible.analyse.panel import Floats, Panel
from miscible.analyse.resample import Resampling, bootstrap_means, cluster_sums
from miscible.analyse.taxonomy import Unit
from miscible.probe.scoring.depth import best_layer, centre

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A family's curve over layers in two numbers; the columns of `depth_profile`.

    Attributes:
        family: of models, whose curves are averaged; collapsed merges are not among them.
        unit, metric: what was probed; curves are averaged over the data sets of the unit.
        models: models of the family.
        centre, centre_low, centre_high: centre of gravity of what lies above the trivial
            predictor, in layers (see `probe.depth.centre_of_gravity`); NaN for a flat curve.
        best, best_low, best_high: layer with the highest score, and the first and the last of
            those that might be it: that were it in 95 % of the resamples, or that the resamples
            do not show to be below it.
        last: index of the last layer.
    """

    family: str
    unit: str
    metric: str
    models: int
    centre: float
    centre_low: float
    centre_high: float
    best: float
    best_low: float
    best_high: float
    last: int


COLUMNS = [field.name for field in fields(ProfileRow)]


def depth_profile(
    tables: StudyTables,
    *,
    unit: Unit = "phenomenon",
    collapsed: Sequence[str] = (),
    options: Resampling | None = None,
) -> pd.DataFrame:
    """Return a `ProfileRow` for each family and unit that was probed at several layers."""
    options = options or Resampling()
    families: dict[str, list[str]] = {}
    for model in tables.models["model"]:
        if model not in collapsed:
            families.setdefault(tables.family[model], []).append(str(model))
    inside = tables.scores[tables.scores["domain"] == "internals"]
    trivial = inside.groupby(["dataset", "metric"])["baseline"].mean()
    rows = [
        row
        for name, held in layered_panels(tables, unit)
        for row in _rows(name, held, families, trivial, options)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(
    unit: str,
    held: Sequence[Panel],
    families: Mapping[str, Sequence[str]],
    trivial: pd.Series,
    options: Resampling,
) -> list[ProfileRow]:
    layers = held[0].layers
    if len(layers) < 2 or any(panel.layers != layers for panel in held):
        return []
    sound = {
        family: [model for model in models if all(_is_full(panel, model) for panel in held)]
        for family, models in families.items()
    }
    sound = {family: models for family, models in sound.items() if models}
    if not sound:
        return []
    # (resamples + 1, families, layers): the first is the estimate.
    curves = np.mean([_curves(panel, sound, options) for panel in held], axis=0)
    base = float(np.mean([_baseline(trivial, panel) for panel in held]))
    index = np.asarray(layers, dtype=float)
    found = []
    for i, (family, models) in enumerate(sound.items()):
        scores, draws = curves[0, i], curves[1:, i]
        middle, best = centre(scores, draws, base), best_layer(scores, draws)
        low, high = middle.interval
        centres = np.interp([middle.layer, low, high], np.arange(len(index)), index)
        bests = np.full(3, np.nan)
        if best.layer is not None and best.low is not None and best.high is not None:
            might = (best.low, best.high, *best.rivals)
            bests = index[[best.layer, min(might), max(might)]]
        found.append(
            ProfileRow(
                family=family,
                unit=unit,
                metric=held[0].cell.metric,
                models=len(models),
                centre=float(centres[0]),
                centre_low=float(centres[1]),
                centre_high=float(centres[2]),
                best=float(bests[0]),
                best_low=float(bests[1]),
                best_high=float(bests[2]),
                last=int(index[-1]),
            )
        )
    return found


def _is_full(panel: Panel, model: str) -> bool:
    return bool(np.isfinite(panel.row(model)).any(axis=1).all())


def _curves(panel: Panel, families: Mapping[str, Sequence[str]], options: Resampling) -> Floats:
    values = np.stack(
        [np.mean([panel.row(model) for model in models], axis=0) for models in families.values()]
    )
    sums = cluster_sums(values.reshape(-1, values.shape[-1]), panel.weights, panel.clusters)
    draws = bootstrap_means(sums, options, panel.cell.dataset)
    curves: Floats = panel.sign * np.vstack([sums.means, draws])
    return curves.reshape(-1, *values.shape[:2])


def _baseline(trivial: pd.Series, panel: Panel) -> float:
    value = float(trivial.get((panel.cell.dataset, panel.cell.metric), np.nan))
    return panel.sign * value if np.isfinite(value) else 0.0
