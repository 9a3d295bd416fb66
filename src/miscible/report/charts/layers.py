"""Probe curves over layers, one panel a phenomenon or competence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from miscible.analyse.taxonomy import WORDS, by_unit, distinct_metrics
from miscible.report.charts.toggles import model_toggles
from miscible.report.figure import (
    HEIGHT,
    Chart,
    ChartGroup,
    averaged_over,
    axis,
    color,
    finite,
    label,
    layer_axis,
    layout,
)
from miscible.report.table import Table, plain
from miscible.words import metric_name, number, with_interval

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.report.figure import Style
    from miscible.report.palette import Palette


STRIP = 90
"""Pixels that selectivity takes below the curves."""


def layer_charts(
    tables: StudyTables, analysis: Analysis, palette: Palette, ranking: Sequence[str]
) -> ChartGroup:
    """Return a panel for each unit and metric that was probed at several layers.

    Args:
        tables: the study.
        analysis: its analysis.
        palette: looks of the models.
        ranking: merges, the best first: the first that have not collapsed are shown at first.
    """
    inside = tables.scores[tables.scores["domain"] == "internals"]
    rows = distinct_metrics(inside[inside["layer"].notna()])
    if rows.empty:
        return ChartGroup("layer-charts", ())
    unit = analysis.unit
    words = inside[inside["metric"].isin(list(WORDS.values()))]
    trivial = _levels(by_unit(rows.assign(estimate=rows["baseline"]), unit))
    lexical = _levels(by_unit(words, unit)) if len(words) else {}
    bare = rows.assign(estimate=rows["selectivity"], low=np.nan, high=np.nan)
    selective = dict(iter(by_unit(bare, unit).groupby(["metric", "unit"])))
    charts = []
    for i, (key, held) in enumerate(by_unit(rows, unit).groupby(["metric", "unit"], sort=False)):
        metric, name = str(key[0]), str(key[1])
        levels = _Levels(
            trivial.get((metric, name), np.nan),
            lexical.get((WORDS.get(metric, ""), name), np.nan),
        )
        strip = selective[(metric, name)].dropna(subset=["estimate"])
        charts.append(_panel(f"layers-{i}", name, metric, held, strip, levels, palette))
    present = set(rows["model"])
    toggles = model_toggles(charts, present, tables, analysis, palette, ranking)
    return ChartGroup("layer-charts", charts, toggles)


def has_words(tables: StudyTables) -> bool:
    """Return whether bags of words were probed."""
    return bool(tables.scores["metric"].isin(list(WORDS.values())).any())


def has_selectivity(tables: StudyTables) -> bool:
    """Return whether control labels were probed."""
    return bool(tables.scores["selectivity"].notna().any())


def layers_that_differ(tables: StudyTables, analysis: Analysis) -> Table | None:
    """Return how many layers of each merge differ from each reference, None without layers."""
    rows = analysis.layers
    rows = rows[rows["layer"].notna()]
    if rows.empty:
        return None
    shown = rows["p_bh"] <= analysis.options.alpha
    better = (rows["difference"] > 0) == rows["higher_is_better"].astype(bool)
    rows = rows.assign(better=shown & better, worse=shown & ~better)
    counts = rows.groupby(["model", "reference"])[["better", "worse"]].sum()
    total = rows.groupby(["model", "reference"]).size()
    references = list(dict.fromkeys(rows["reference"]))
    body = []
    for merge in tables.merges:
        cells = [merge]
        for reference in references:
            if (merge, reference) not in counts.index:
                cells.append("–")
                continue
            held = counts.loc[(merge, reference)]
            n = int(total[(merge, reference)])
            cells.append(f"{int(held['better'])} better, {int(held['worse'])} worse of {n}")
        body.append(cells)
    heads = ["merge", *(f"against {reference}" for reference in references)]
    return plain("Layers (of all probing data sets) at which a merge differs", heads, body)


class _Levels(NamedTuple):
    """What needs no layer: the constant predictor and bags of words; NaN for none."""

    trivial: float
    words: float


def _levels(scores: pd.DataFrame) -> dict[Any, float]:
    means = scores.groupby(["metric", "unit"])["estimate"].mean()
    return {key: float(value) for key, value in means.items()}


def _panel(
    name: str,
    unit: str,
    metric: str,
    rows: pd.DataFrame,
    strip: pd.DataFrame,
    levels: _Levels,
    palette: Palette,
) -> Chart:
    last = int(rows["layer"].max())
    data: list[dict[str, Any]] = []
    for value, what, look in (
        (levels.trivial, "trivial predictor", ("dot", "muted", 1.2)),
        (levels.words, "bags of words", ("dash", "ink", 1.4)),
    ):
        if value == value:
            data.append(_level(last, value, what, *look))
    for model, held in rows.groupby("model", sort=False):
        held = held.sort_values("layer")
        style = palette.models[str(model)]
        if model in palette.band:
            data.extend(_band(held, palette.band[str(model)]))
        data.append(_line(held, str(model), style))
    for model, held in strip.groupby("model", sort=False):
        thin = replace(palette.models[str(model)], width=1.3)
        data.append(_line(held.sort_values("layer"), str(model), thin) | {"yaxis": "y2"})
    x = layer_axis(last)
    y = axis(metric_name(metric), tickformat="~g")
    height = HEIGHT
    more: dict[str, Any] = {}
    if len(strip):
        height += STRIP
        part = STRIP / (height - 56)  # of what the margins leave
        y |= {"domain": [part + 0.05, 1]}
        x |= {"anchor": "y2"}
        more["yaxis2"] = axis("selectivity", tickformat="~g", domain=[0, part - 0.05], nticks=4)
        more["yaxis2"] |= {"anchor": "x", "zeroline": True, "zerolinecolor": color("axis")}
    reference = f"; bags of words {number(levels.words)}" if levels.words == levels.words else ""
    sets = averaged_over(int(rows["datasets"].max()))
    return Chart(
        id=name,
        title=unit,
        caption=f"{_capital(metric_name(metric))}, {sets}{reference}.",
        figure={"data": data, "layout": layout(x, y, **more)},
        table=_table(rows, unit, metric),
        height=height,
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(rows: pd.DataFrame, model: str, style: Style) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [int(layer) for layer in rows["layer"]],
        "y": finite(rows["estimate"]),
        "line": {"color": style.color, "dash": style.dash, "width": style.width},
        "text": [
            f"<b>{label(model)}</b><br>layer {row['layer']}: "
            f"{with_interval(row['estimate'], row['low'], row['high'])}"
            for row in rows.to_dict("records")
        ],
        "hoverinfo": "text",
        "meta": {"group": model},
    }


def _band(rows: pd.DataFrame, tint: str) -> list[dict[str, Any]]:
    edge = {
        "type": "scatter",
        "mode": "lines",
        "x": [int(layer) for layer in rows["layer"]],
        "line": {"width": 0, "color": tint},
        "hoverinfo": "skip",
        "meta": {"group": str(rows["model"].iloc[0])},
    }
    fill = {"fill": "tonexty", "fillcolor": tint}
    return [edge | {"y": finite(rows["low"])}, edge | fill | {"y": finite(rows["high"])}]


def _level(
    last: int, value: float, what: str, dash: str, tint: str, thick: float
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [-0.5, last + 0.5],
        "y": [value, value],
        "line": {"color": color(tint), "dash": dash, "width": thick},
        "text": [f"{what}: {number(value)}"] * 2,
        "hoverinfo": "text",
    }


def _table(rows: pd.DataFrame, unit: str, metric: str) -> Table:
    wide = rows.pivot(index="layer", columns="model", values="estimate")
    wide = wide[list(dict.fromkeys(rows["model"]))]
    body = [
        [str(layer), *(number(float(value), 0.01) for value in values)]
        for layer, values in zip(wide.index, wide.to_numpy(dtype=float), strict=True)
    ]
    return plain(f"{unit}: {metric_name(metric)} by layer", ["layer", *wide.columns], body)
