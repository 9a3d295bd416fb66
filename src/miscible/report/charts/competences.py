"""What each model scores in each competence, beside the baselines: one panel a competence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from miscible.analyse.competences import OVERALL
from miscible.report.figure import (
    Chart,
    ChartGroup,
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
from miscible.words import counted, number, with_interval

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.report.palette import Palette


def competence_charts(tables: StudyTables, analysis: Analysis, palette: Palette) -> ChartGroup:
    """Return a panel of one bar a model for each competence, and one for all data sets."""
    order = {str(name): i for i, name in enumerate(tables.models["model"])}
    charts = []
    for i, (name, held) in enumerate(analysis.competences.rows.groupby("competence", sort=False)):
        rows = held.sort_values("model", key=lambda names: names.map(order))
        charts.append(_panel(f"competence-{i}", str(name), rows, palette))
    return ChartGroup("competence-charts", charts)


def _panel(name: str, competence: str, rows: pd.DataFrame, palette: Palette) -> Chart:
    first = rows.iloc[0]
    majority, words = float(first["majority"]), float(first["bag_of_words"])
    start = majority if majority == majority else 0.0
    texts = [
        with_interval(row["score"], row["low"], row["high"]) for row in rows.to_dict("records")
    ]
    data: list[dict[str, Any]] = []
    for i, row in enumerate(rows.to_dict("records")):  # error bars have one colour a trace
        style = palette.models[row["model"]]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "base": start,
                "x": finite([row["score"] - start]),
                "y": [i],
                "width": 0.62,
                "marker": {"color": style.color, "opacity": 0.7},
                "error_x": error_bars([row["score"]], [row["low"]], [row["high"]], color("ink")),
                "text": [f"<b>{label(row['model'])}</b><br>{texts[i]}"],
                "textposition": "none",
                "hoverinfo": "text",
            }
        )
    x = axis("mean score", tickformat="~g", range=_range(rows, start, words))
    y = category_axis(rows["model"], down=True, ticklabelstandoff=4)
    lines = [_line(start, "dot", "muted")]
    at = f"Bars start at the constant predictor ({number(start)})"
    if words == words:
        lines.append(_line(words, "dash", "ink"))
        at += f"; dashed: bags of words ({number(words)})"
    body = [
        [str(row["model"]), text, number(majority), number(words)]
        for row, text in zip(rows.to_dict("records"), texts, strict=True)
    ]
    heads = ["model", "mean score", "constant predictor", "bags of words"]
    title = "all competences" if competence == OVERALL else competence
    return Chart(
        id=name,
        title=title,
        caption=f"{counted(int(first['datasets']), 'data set')}. {at}.",
        figure={
            "data": data,
            "layout": layout(x, y, left=width(rows["model"]), shapes=lines, barmode="overlay"),
        },
        table=plain(f"{title}: mean scores", heads, body),
        height=90 + 21 * len(rows),
    )


def _range(rows: pd.DataFrame, start: float, words: float) -> list[float]:
    held = [start, *rows["low"].dropna(), *rows["high"].dropna(), *rows["score"]]
    held += [words] if words == words else []
    low, high = min(held), max(held)
    margin = 0.04 * (high - low) or 0.01
    return [low - margin, high + margin]


def _line(at: float, dash: str, tint: str) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": at,
        "x1": at,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": color(tint), "dash": dash, "width": 1.4},
    }
