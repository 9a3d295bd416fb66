"""Scores against measured dose, one panel a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from miscible.analyse.taxonomy import unit_names
from miscible.report.figure import (
    RIGHT,
    Chart,
    ChartGroup,
    Style,
    Toggle,
    axis,
    color,
    error_bars,
    finite,
    label,
    layout,
    short,
    width,
)
from miscible.report.table import Table, plain
from miscible.words import metric_name, number, with_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.report.palette import Palette

END = 14
"""Characters of a name at an end of the axis."""

COLLAPSED = "collapsed"
"""Group of the collapsed merges, hidden at first: they would flatten all other curves."""


def dose_charts(
    tables: StudyTables, analysis: Analysis, palette: Palette, *, domain: str
) -> ChartGroup:
    """Return a panel for each behaviour task, or for each unit of internals.

    Empty if no merge has a measured dose.
    """
    points = analysis.doses if domain == "behaviour" else _units(tables, analysis)
    merges = points[(points["role"] == "merge") & points["dose"].notna()]
    if merges.empty:
        return ChartGroup(f"dose-{domain}", ())
    panels = points.groupby(["dataset", "metric"], sort=False)
    charts = [
        _panel(f"dose-{domain}-{i}", str(key[0]), str(key[1]), held, tables, analysis, palette)
        for i, (key, held) in enumerate(panels)
    ]
    alive = merges[~merges["model"].isin(list(analysis.collapsed))]
    toggles = [
        Toggle(family, family, palette.families[family])
        for family in dict.fromkeys(str(name) for name in alive["family"])
    ]
    if set(merges["model"]) & set(analysis.collapsed):
        style = Style(color("muted"), "dot", "x-thin")
        toggles.append(Toggle(COLLAPSED, "collapsed merges", style, shown=False))
    return ChartGroup(f"dose-{domain}", charts, toggles)


def _panel(
    name: str,
    dataset: str,
    metric: str,
    points: pd.DataFrame,
    tables: StudyTables,
    analysis: Analysis,
    palette: Palette,
) -> Chart:
    ends = points[points["dose"].isin([0.0, 1.0]) & (points["role"] != "merge")]
    data = [_base_line(points, tables), _straight_line(ends)]
    merges = points[(points["role"] == "merge") & points["dose"].notna()]
    broken = merges["model"].isin(list(analysis.collapsed))
    for key, held in merges[~broken].groupby("family", sort=False):
        family = str(key)
        data.append(_curve(held.sort_values("dose"), family, palette.families[family]))
        data.append(_rings(held, family, analysis.options.alpha))
    if broken.any():
        dead = _curve(merges[broken], COLLAPSED, Style(color("muted"), "dot", "x-thin"))
        dead |= {"mode": "markers", "visible": False}
        data.append(dead)
    for row in ends.itertuples():
        style = palette.models[str(row.model)]
        data.append(_curve(ends[ends["model"] == row.model], "", style, size=11))
    up = bool(points["higher_is_better"].iloc[0])
    better = "higher is better" if up else "lower is better"
    x = axis(
        _dose_title(tables),
        tickvals=[0, 0.25, 0.5, 0.75, 1],
        ticktext=_dose_ticks(tables),
        tickangle=0,
        range=[min(-0.06, merges["dose"].min() - 0.06), max(1.06, merges["dose"].max() + 0.06)],
    )
    y = axis(metric_name(metric), tickformat="~g")
    return Chart(
        id=name,
        title=dataset,
        caption=f"{metric_name(metric).capitalize()}, {better}.",
        figure={
            "data": [trace for trace in data if trace],
            # Below 0 and 1 stand the names of the ends, in a second line.
            "layout": layout(x, y, bottom=66, right=max(RIGHT, width(_ends(tables), END) // 2)),
        },
        table=_table(points, dataset),
    )


def _curve(points: pd.DataFrame, group: str, style: Style, *, size: int = 9) -> dict[str, Any]:
    hover = [
        f"<b>{label(row['model'])}</b><br>"
        f"{with_interval(row['score'], row['low'], row['high'])}<br>"
        f"measured dose {number(row['dose'])}" + _against_line(row)
        for row in points.to_dict("records")
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": finite(points["dose"]),
        "y": finite(points["score"]),
        "error_y": error_bars(
            list(points["score"]), list(points["low"]), list(points["high"]), style.color
        ),
        "line": {"color": style.color, "dash": style.dash, "width": 1.8},
        "marker": {
            "color": style.color,
            "symbol": style.symbol,
            "size": size,
            "line": {"color": style.color, "width": 2 if "thin" in style.symbol else 0},
        },
        "text": hover,
        "hoverinfo": "text",
        "meta": {"group": group},
    }


def _rings(points: pd.DataFrame, group: str, alpha: float) -> dict[str, Any]:
    """Return rings around the points that lie off the straight line, an empty trace if none."""
    if "p_holm" not in points:
        return {}
    held = points[points["p_holm"] <= alpha]
    if held.empty:
        return {}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": finite(held["dose"]),
        "y": finite(held["score"]),
        "marker": {
            "symbol": "circle-open",
            "size": 18,
            "color": color("ink"),
            "line": {"width": 1.6, "color": color("ink")},
        },
        "hoverinfo": "skip",
        "meta": {"group": group},
    }


def _against_line(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["deviation"]):
        return ""
    by = with_interval(row["deviation"], row["deviation_low"], row["deviation_high"], signed=True)
    return f"<br>off the straight line by {by}"


def _straight_line(ends: pd.DataFrame) -> dict[str, Any]:
    held = ends.sort_values("dose")
    if len(held) < 2:
        return {}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": finite(held["dose"]),
        "y": finite(held["score"]),
        "line": {"color": color("muted"), "width": 1.2, "dash": "dash"},
        "hoverinfo": "skip",
    }


def _base_line(points: pd.DataFrame, tables: StudyTables) -> dict[str, Any]:
    base = points[points["model"] == tables.base]
    if base.empty or len(tables.parents) < 2:
        return {}
    score = finite(base["score"])[0]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [-0.06, 1.06],
        "y": [score, score],
        "line": {"color": color("ink"), "width": 1.5, "dash": "dot"},
        "text": [f"<b>{label(tables.base)}</b><br>{_first_interval(base)}"] * 2,
        "hoverinfo": "text",
    }


def _first_interval(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    return with_interval(float(row["score"]), float(row["low"]), float(row["high"]))


def _dose_title(tables: StudyTables) -> str:
    if len(tables.parents) == 1:
        return f"dose of {short(tables.parents[0])} (coefficient)"
    return f"measured share of {short(tables.parents[1])}"


def _dose_ticks(tables: StudyTables) -> Sequence[str]:
    low, high = (label(short(end, END)) for end in _ends(tables))
    return [f"0<br>{low}", "0.25", "0.5", "0.75", f"1<br>{high}"]


def _ends(tables: StudyTables) -> tuple[object, object]:
    first, second, *_ = (tables.base, *tables.parents)[len(tables.parents) > 1 :]
    return first, second


def _table(points: pd.DataFrame, dataset: str) -> Table:
    rows = [
        [
            str(row["model"]),
            number(row["dose"]),
            with_interval(row["score"], row["low"], row["high"]),
            number(row["expected"]),
            with_interval(
                row["deviation"], row["deviation_low"], row["deviation_high"], signed=True
            ),
        ]
        for row in points.to_dict("records")
    ]
    heads = ["model", "measured dose", "score", "straight line", "off the line"]
    return plain(f"{dataset}: scores against dose", heads, rows)


def _units(tables: StudyTables, analysis: Analysis) -> pd.DataFrame:
    """Average the curves of internals over the data sets of each unit, taken as independent."""
    points = analysis.inner_doses
    if points.empty:
        return points
    inside = tables.scores[tables.scores["domain"] == "internals"]
    named = dict(zip(inside["dataset"], unit_names(inside, analysis.unit), strict=True))
    points = points.assign(dataset=points["dataset"].map(named))
    squares = {
        "low": (points["score"] - points["low"]) ** 2,
        "high": (points["high"] - points["score"]) ** 2,
        "deviation_low": (points["deviation"] - points["deviation_low"]) ** 2,
        "deviation_high": (points["deviation_high"] - points["deviation"]) ** 2,
    }
    keys = ["family", "model", "role", "domain", "dataset", "metric", "higher_is_better"]
    points = points.assign(**squares)
    grouped = points.groupby(keys, sort=False)
    frame = grouped[["dose", "score", "expected", "deviation"]].mean()
    reach = (grouped[list(squares)].sum(min_count=1) ** 0.5).div(grouped.size(), axis=0)
    for end, sign in (("low", -1), ("high", 1)):
        frame[end] = frame["score"] + sign * reach[end]
        frame[f"deviation_{end}"] = frame["deviation"] + sign * reach[f"deviation_{end}"]
    return frame.reset_index().sort_values(["metric", "dataset"], kind="stable")
