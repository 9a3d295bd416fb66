"""Rank correlations of behaviour and internals as heat maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from miscible.report.figure import (
    Chart,
    ChartGroup,
    axis,
    category_axis,
    color,
    finite,
    label,
    layout,
    short,
    width,
)
from miscible.report.table import plain
from miscible.words import metric_name, number, p_value, with_interval

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis


def rank_charts(analysis: Analysis) -> ChartGroup:
    """Return a heat map for each metric of internals, with and without collapsed merges."""
    charts = []
    groups = analysis.ranks.groupby(["collapsed", "unit_metric"], sort=True)
    for i, (key, held) in enumerate(groups):
        among = ""
        if analysis.collapsed:
            among = ", all models" if key[0] else ", without collapsed merges"
        charts.append(
            _map(f"ranks-{i}", f"{metric_name(str(key[1]))}{among}", held, analysis.options.alpha)
        )
    return ChartGroup("rank-charts", charts)


def _map(name: str, title: str, rows: pd.DataFrame, alpha: float) -> Chart:
    tasks = rows[["dataset", "metric"]].drop_duplicates()
    units = list(dict.fromkeys(str(unit) for unit in rows["unit"]))
    held = {(r["dataset"], r["metric"], r["unit"]): r for r in rows.to_dict("records")}
    z, text, hover, ticks = [], [], [], []
    for dataset, metric in tasks.itertuples(index=False, name=None):
        line = [held.get((dataset, metric, unit)) for unit in units]
        z.append(finite([row["tau"] if row else float("nan") for row in line]))
        text.append([_mark(row, alpha) for row in line])
        hover.append([_hover(row) for row in line])
        ticks.append(f"{label(short(dataset))}<br>{label(short(metric_name(metric)))}")
    n = int(rows["n_models"].max())
    slanted = max(map(len, units)) > 9
    x = category_axis(units, tickangle=-30 if slanted else 0)
    left = width([*tasks["dataset"], *map(metric_name, tasks["metric"])])
    bottom = 24 + (width(units) // 2 if slanted else 0)
    right = 72  # the colour bar
    y = axis(tickvals=list(range(len(ticks))), ticktext=ticks, autorange="reversed", showgrid=False)
    data = {
        "type": "heatmap",
        "z": z,
        "x": list(range(len(units))),
        "y": list(range(len(ticks))),
        "text": text,
        "texttemplate": "%{text}",
        "textfont": {"color": color("ink")},
        "hovertext": hover,
        "hoverinfo": "text",
        "zmin": -1,
        "zmax": 1,
        "xgap": 2,
        "ygap": 2,
        "colorscale": [
            [0.0, color("cold")],
            [0.5, color("neutral")],
            [1.0, color("warm")],
        ],
        "colorbar": {
            "title": {"text": "tau"},
            "thickness": 10,
            "outlinewidth": 0,
            "tickvals": [-1, -0.5, 0, 0.5, 1],
        },
    }
    return Chart(
        id=name,
        title=title,
        caption=f"Kendall's tau over up to {n} models of {int(rows['n_families'].max())} families; "
        "* holds after correction.",
        figure={"data": [data], "layout": layout(x, y, left=left, bottom=bottom, right=right)},
        table=_table(rows, title),
        height=bottom + 40 + 46 * len(ticks),
        narrowest=left + right + 62 * len(units),
    )


def _mark(row: Any, alpha: float) -> str:
    if not row or pd.isna(row["tau"]):
        return "–"
    star = "*" if row["tau_p_bh"] <= alpha else ""
    return f"{row['tau']:.2f}{star}".replace("-", "−")


def _hover(row: Any) -> str:
    if not row:
        return "no scores"
    names = f"<b>{label(row['dataset'])} with {label(row['unit'])}</b><br>"
    if row["reason"]:
        return f"{names}not computed: {label(row['reason'])}"
    return (
        f"{names}tau {with_interval(row['tau'], row['tau_low'], row['tau_high'])}<br>"
        f"p {p_value(row['tau_p'])}, corrected {p_value(row['tau_p_bh'])}<br>"
        f"rho {with_interval(row['rho'], row['rho_low'], row['rho_high'])}<br>"
        f"{row['n_models']} models of {row['n_families']} families"
    )


def _table(rows: pd.DataFrame, title: str) -> Any:
    body = [
        [
            f"{row['dataset']} ({metric_name(row['metric'])})",
            str(row["unit"]),
            with_interval(row["tau"], row["tau_low"], row["tau_high"]),
            p_value(row["tau_p"]),
            p_value(row["tau_p_bh"]),
            with_interval(row["rho"], row["rho_low"], row["rho_high"]),
            f"{row['n_models']} / {row['n_families']}",
            row["reason"] or number(float("nan")),
        ]
        for row in rows.to_dict("records")
    ]
    heads = ["behaviour", "internals", "tau", "p", "p corrected", "rho", "models / families"]
    return plain(f"Rank correlations: {title}", [*heads, "why not"], body)
