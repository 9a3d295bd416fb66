"""Where along depth each family of models knows a phenomenon: centre of gravity and best layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True)
class FamilyCurves:
    """Curves over the layers of a unit, averaged over its data sets, of each family of models.

    Attributes:
        unit, metric: what was probed; scores turned so that higher is better.
        layers: their indices.
        models: those of each family.
        scores: float64 [families, layers].
        resamples: scores in resamples of the items, the same for all families,
            [resamples, families, layers].
        baseline: score of the trivial predictor.
    """

    unit: str
    metric: str
    layers: tuple[int, ...]
    models: Mapping[str, Sequence[str]]
    scores: Floats
    resamples: Floats
    baseline: float


def family_curves(
    tables: StudyTables,
    *,
    unit: Unit = "phenomenon",
    collapsed: Sequence[str] = (),
    options: Resampling | None = None,
) -> Iterator[FamilyCurves]:
    """Yield the curves of each unit that was probed at several layers, the same for all models."""
    options = options or Resampling()
    families: dict[str, list[str]] = {}
    for model in tables.models["model"]:
        if model not in collapsed:
            families.setdefault(tables.family[model], []).append(str(model))
    inside = tables.scores[tables.scores["domain"] == "internals"]
    trivial = inside.groupby(["dataset", "metric"])["baseline"].mean()
    for name, held in layered_panels(tables, unit):
        layers = tuple(layer for layer in held[0].layers if layer is not None)
        if len(layers) < 2 or any(panel.layers != layers for panel in held):
            continue
        full = {
            family: [model for model in models if all(_is_full(panel, model) for panel in held)]
            for family, models in families.items()
        }
        sound = {family: models for family, models in full.items() if models}
        if sound:
            # (resamples + 1, families, layers): the first is the estimate.
            curves = np.mean([_curves(panel, sound, options) for panel in held], axis=0)
            base = float(np.mean([_baseline(trivial, panel) for panel in held]))
            metric = held[0].cell.metric
            yield FamilyCurves(name, metric, layers, sound, curves[0], curves[1:], base)


def depth_profile(
    tables: StudyTables,
    *,
    unit: Unit = "phenomenon",
    collapsed: Sequence[str] = (),
    options: Resampling | None = None,
) -> pd.DataFrame:
    """Return a `ProfileRow` for each family and unit that was probed at several layers."""
    held = family_curves(tables, unit=unit, collapsed=collapsed, options=options)
    return pd.DataFrame([row for curves in held for row in _rows(curves)], columns=COLUMNS)


def _rows(curves: FamilyCurves) -> Iterator[ProfileRow]:
    index = np.asarray(curves.layers, dtype=float)
    for number, (family, models) in enumerate(curves.models.items()):
        scores, draws = curves.scores[number], curves.resamples[:, number]
        middle, best = centre(scores, draws, curves.baseline), best_layer(scores, draws)
        low, high = middle.interval
        centres = np.interp([middle.layer, low, high], np.arange(len(index)), index)
        bests = np.full(3, np.nan)
        if best.layer is not None and best.low is not None and best.high is not None:
            might = (best.low, best.high, *best.rivals)
            bests = index[[best.layer, min(might), max(might)]]
        yield ProfileRow(
            family=family,
            unit=curves.unit,
            metric=curves.metric,
            models=len(models),
            centre=float(centres[0]),
            centre_low=float(centres[1]),
            centre_high=float(centres[2]),
            best=float(bests[0]),
            best_low=float(bests[1]),
            best_high=float(bests[2]),
            last=int(index[-1]),
        )


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
