"""How far each fine-tune went from the base, layer by layer."""

from __future__ import annotations

from typing import Any

import pandas as pd

from miscible.report.figure import (
    Chart,
    ChartGroup,
    Toggle,
    axis,
    finite,
    label,
    layer_axis,
    layout,
)
from miscible.report.mergeability import Mergeability, figure
from miscible.report.table import plain

SHOWN_AT_FIRST = 8
"""Curves that are visible before the reader chooses."""


def change_profiles(held: Mergeability) -> ChartGroup:
    """Return |tau| of every layer of every model; empty where a model has fewer than two layers."""
    rows = held.rows
    rows = rows[(rows["second"] == "") & (rows["scope"] != "") & (rows["status"] == "ok")]
    rows = rows[rows["metric"] == "task_vector_norm"]
    if rows["scope"].nunique() < 2:
        return ChartGroup("change-profiles", ())
    scopes = list(dict.fromkeys(rows.sort_values("sequence")["scope"]))
    number = {scope: i for i, scope in enumerate(scopes)}
    data = [
        _curve(held, str(name), part.assign(place=part["scope"].map(number)).sort_values("place"))
        for name, part in rows.groupby("first", sort=False)
    ]
    names = [trace["meta"]["group"] for trace in data]
    shown = set(names[:SHOWN_AT_FIRST])
    for trace in data:
        trace["visible"] = trace["meta"]["group"] in shown
    wide = rows.pivot_table(index="scope", columns="first", values="value", sort=False)
    wide = wide.loc[scopes]
    body = [
        [str(scope), *map(figure, values)]
        for scope, values in zip(wide.index, wide.to_numpy(dtype=float), strict=True)
    ]
    chart = Chart(
        id="change-profile",
        title="Length of the task vector by layer",
        caption="|tau| of the tensors of a layer; the first place is what comes before the layers.",
        figure={
            "data": data,
            "layout": layout(
                layer_axis(len(scopes) - 1, "layer (0 = before the layers)"),
                axis("|tau|", tickformat="~g", rangemode="tozero"),
            ),
        },
        table=plain("Length of the task vector by layer", ["layer", *map(str, wide.columns)], body),
    )
    toggles = [Toggle(name, name, held.styles[name], name in shown) for name in names]
    return ChartGroup("change-profiles", [chart], toggles, wide=True)


def _curve(held: Mergeability, name: str, rows: pd.DataFrame) -> dict[str, Any]:
    style = held.styles[name]
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(rows) <= 16 else "lines",
        "x": [int(place) for place in rows["place"]],
        "y": finite(rows["value"]),
        "meta": {"group": name},
        "line": {"color": style.color, "dash": style.dash, "width": style.width},
        "marker": {"symbol": style.symbol, "color": style.color, "size": 6},
        "text": [
            f"<b>{label(name)}</b><br>{label(scope)}: {figure(float(value))}"
            for scope, value in zip(rows["scope"], rows["value"], strict=True)
        ],
        "hoverinfo": "text",
    }
