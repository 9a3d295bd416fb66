"""Internals without layers (minimal-pair preference), one panel a phenomenon or competence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from miscible.analyse.taxonomy import by_unit, of_models
from miscible.report.figure import (
    Chart,
    ChartGroup,
    averaged_over,
    axis,
    category_axis,
    color,
    error_bars,
    finite,
    label,
    layout,
    width,
)
from miscible.report.table import plain
from miscible.words import metric_name, number, with_interval

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.report.palette import Palette


def preference_charts(tables: StudyTables, analysis: Analysis, palette: Palette) -> ChartGroup:
    """Return a panel of one row a model for each unit and metric of internals without layers."""
    inside = of_models(tables.scores[tables.scores["domain"] == "internals"])
    rows = inside[inside["layer"].isna()]
    if rows.empty:
        return ChartGroup("preference-charts", ())
    chance = by_unit(rows.assign(estimate=rows["baseline"]), analysis.unit)
    order = {str(name): i for i, name in enumerate(tables.models["model"])}
    charts = []
    scores = by_unit(rows, analysis.unit)
    for i, (key, held) in enumerate(scores.groupby(["metric", "unit"], sort=False)):
        same = (chance["metric"] == key[0]) & (chance["unit"] == key[1])
        line = float(chance[same]["estimate"].mean())
        held = held.sort_values("model", key=lambda names: names.map(order))
        charts.append(_panel(f"preference-{i}", str(key[1]), str(key[0]), held, line, palette))
    return ChartGroup("preference-charts", charts)


def _panel(
    name: str, unit: str, metric: str, rows: pd.DataFrame, chance: float, palette: Palette
) -> Chart:
    styles = [palette.models[str(model)] for model in rows["model"]]
    tints = [style.color for style in styles]
    names = [label(model) for model in rows["model"]]
    values = [list(rows[column].astype(float)) for column in ("estimate", "low", "high")]
    texts = [with_interval(*triple) for triple in zip(*values, strict=True)]
    data = []
    for i, style in enumerate(styles):  # error bars have one colour a trace
        estimate, low, high = ([column[i]] for column in values)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": finite(estimate),
                "y": [i],
                "error_x": error_bars(estimate, low, high, style.color),
                "marker": {"color": tints[i], "symbol": style.symbol, "size": 9},
                "text": [f"<b>{names[i]}</b><br>{texts[i]}"],
                "hoverinfo": "text",
            }
        )
    settings: dict[str, Any] = {}
    if chance == chance:
        settings["shapes"] = [
            {
                "type": "line",
                "x0": chance,
                "x1": chance,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"color": color("muted"), "dash": "dot", "width": 1.2},
            }
        ]
    x = axis(metric_name(metric), tickformat="~g")
    y = category_axis(rows["model"], down=True, showgrid=True, ticklabelstandoff=4)
    count = int(rows["datasets"].max())
    sets = averaged_over(count)
    at = f"; dotted: chance ({number(chance)})" if chance == chance else ""
    body = [[str(model), text] for model, text in zip(rows["model"], texts, strict=True)]
    return Chart(
        id=name,
        title=unit,
        caption=f"{metric_name(metric).capitalize()}, {sets}{at}.",
        figure={"data": data, "layout": layout(x, y, left=width(rows["model"]), **settings)},
        table=plain(f"{unit}: {metric_name(metric)}", ["model", metric_name(metric)], body),
        height=90 + 21 * len(rows),
    )
