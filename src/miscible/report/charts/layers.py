"""Probe curves over layers, one panel a phenomenon or competence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from miscible.analyse.taxonomy import by_unit, distinct_metrics
from miscible.analyse.words import metric_name, number, with_interval
from miscible.report.figure import (
    Chart,
    ChartGroup,
    Toggle,
    averaged_over,
    axis,
    color,
    finite,
    label,
    layout,
)
from miscible.report.table import Table, plain

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.report.figure import Style
    from miscible.report.palette import Palette

SHOWN_AT_FIRST = 3
"""Merges whose curves are visible before the reader chooses."""


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
    rows = tables.scores[(tables.scores["domain"] == "internals") & tables.scores["layer"].notna()]
    if rows.empty:
        return ChartGroup("layer-charts", ())
    rows = distinct_metrics(rows)
    chance = by_unit(rows.assign(estimate=rows["baseline"]), analysis.unit)
    curves = by_unit(rows, analysis.unit)
    charts = []
    for i, (key, held) in enumerate(curves.groupby(["metric", "unit"], sort=False)):
        metric, unit = str(key[0]), str(key[1])
        line = chance[(chance["metric"] == metric) & (chance["unit"] == unit)]["estimate"].mean()
        charts.append(_panel(f"layers-{i}", unit, metric, held, float(line), palette))
    present = set(rows["model"])
    alive = [merge for merge in ranking if merge not in analysis.collapsed][:SHOWN_AT_FIRST]
    fixed = [name for name in (tables.base, *tables.parents) if name in present]
    toggles = [Toggle(str(name), str(name), palette.models[str(name)]) for name in fixed]
    toggles += [
        Toggle(merge, merge, palette.models[merge], shown=merge in alive)
        for merge in tables.merges
        if merge in present
    ]
    hidden = {toggle.group for toggle in toggles if not toggle.shown}
    for chart in charts:
        for trace in chart.figure["data"]:
            if trace.get("meta", {}).get("group") in hidden:
                trace["visible"] = False
    return ChartGroup("layer-charts", charts, toggles)


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


def _panel(
    name: str, unit: str, metric: str, rows: pd.DataFrame, chance: float, palette: Palette
) -> Chart:
    data: list[dict[str, Any]] = []
    for model, held in rows.groupby("model", sort=False):
        held = held.sort_values("layer")
        style = palette.models[str(model)]
        if model in palette.band:
            data.extend(_band(held, palette.band[str(model)]))
        data.append(_line(held, str(model), style))
    last = int(rows["layer"].max())
    if chance == chance:
        data.insert(0, _chance(last, chance))
    count = int(rows["datasets"].max())
    x = axis("layer (0 = embedding)", range=[-0.5, last + 0.5], tickformat="d")
    y = axis(metric_name(metric), tickformat="~g")
    sets = averaged_over(count)
    return Chart(
        id=name,
        title=unit,
        caption=f"{metric_name(metric).capitalize()}, {sets}.",
        figure={"data": data, "layout": layout(x, y)},
        table=_table(rows, unit, metric),
    )


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


def _chance(last: int, chance: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [-0.5, last + 0.5],
        "y": [chance, chance],
        "line": {"color": color("muted"), "dash": "dot", "width": 1.2},
        "text": [f"trivial predictor: {number(chance)}"] * 2,
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
