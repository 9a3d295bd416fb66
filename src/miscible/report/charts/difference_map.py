"""Merge minus parent by layer and phenomenon, as a heat map that tells noise from change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from miscible.analyse.depth_maps import MEAN_OF_PARENTS
from miscible.report.figure import (
    Chart,
    ChartGroup,
    Figure,
    Selector,
    axis,
    category_axis,
    color,
    finite,
    layer_axis,
    layout,
    width,
)
from miscible.report.table import Table, plain
from miscible.words import metric_name, spans, with_interval

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables

COLOR_BAR = 76
ROW = 24
MOST_ROWS = 48
"""Rows of a map; of more data sets those are shown that differ the most surely somewhere."""

SMALLEST_SCALE = 0.05
"""A scale that ends below this would paint rounding errors."""


def difference_maps(tables: StudyTables, analysis: Analysis, ranking: Sequence[str]) -> ChartGroup:
    """Return one panel with a map for each merge, reference, and kind of row.

    Args:
        tables: the study.
        analysis: its analysis.
        ranking: merges, the best first, as they are offered.
    """
    if analysis.maps.empty:
        return ChartGroup("difference-maps", ())
    merges = [merge for merge in ranking if merge in set(analysis.maps["model"])]
    present = set(analysis.maps["reference"])
    references = [name for name in (*tables.parents, MEAN_OF_PARENTS) if name in present]
    kinds = {"phenomena": _surest(analysis.maps), "data sets": _surest(analysis.dataset_maps)}
    views = {}
    names: list[str] = []
    for k, rows in enumerate(kinds.values()):
        ticks = _ticks(rows, tables)
        names += [text for _, _, text in ticks]
        reach = _reach(rows, analysis)
        held = dict(iter(rows.groupby(["model", "reference"], sort=False)))
        for i, merge in enumerate(merges):
            for j, reference in enumerate(references):
                cells = held.get((merge, reference), rows.iloc[:0])
                views[f"{i} {j} {k}"] = _view(cells, ticks, reach, analysis.options.alpha)
    layers = sorted({int(layer) for layer in analysis.maps["layer"]})
    left = width(names)
    x = layer_axis(layers[-1], first=layers[0], showgrid=False)
    chart = Chart(
        id="difference-map",
        title="Merge minus parent",
        caption="Blue: the merge is better; orange: it is worse. One scale for all merges; "
        "(r) marks correlations, all other rows are accuracies." + _cut(analysis),
        figure={"data": [], "layout": layout(x, axis(), left=left, right=COLOR_BAR)},
        table=_table(analysis, merges, references),
        height=views["0 0 0"]["layout"]["height"],
        narrowest=left + COLOR_BAR + 13 * len(layers),
        views=views,
    )
    selectors = [
        Selector("Merge", merges), Selector("minus", references), Selector("by", list(kinds))
    ]  # fmt: skip
    return ChartGroup("difference-maps", (chart,), selectors=selectors, wide=True)


def _surest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the units that differ the most surely, at most `MOST_ROWS`."""
    least = rows.groupby(["unit", "metric"], sort=False)["q_value"].min()
    if len(least) <= MOST_ROWS:
        return rows
    kept = set(least.sort_values(kind="stable").index[:MOST_ROWS])
    held = [key in kept for key in zip(rows["unit"], rows["metric"], strict=True)]
    return rows[np.array(held, dtype=bool)]


def _cut(analysis: Analysis) -> str:
    count = len(analysis.dataset_maps[["unit", "metric"]].drop_duplicates())
    if count <= MOST_ROWS:
        return ""
    return (
        f" Of {count} data sets those {MOST_ROWS} are shown that differ the most surely somewhere."
    )


def _ticks(rows: pd.DataFrame, tables: StudyTables) -> list[tuple[str, str, str]]:
    """Return unit, metric and label of each row of a map, units of a competence together."""
    inside = tables.scores[tables.scores["domain"] == "internals"]
    competence = dict(zip(inside["dataset"], inside["competence"], strict=True))
    competence |= dict(zip(inside["phenomenon"], inside["competence"], strict=True))
    held = {
        (str(unit), str(metric)) for unit, metric in zip(rows["unit"], rows["metric"], strict=True)
    }
    ordered = sorted(held, key=lambda row: (competence.get(row[0], ""), row))
    return [
        (unit, metric, unit + (" (r)" if metric == "probe_pearson" else ""))
        for unit, metric in ordered
    ]


def _reach(rows: pd.DataFrame, analysis: Analysis) -> float:
    """Return the end of the scale: the largest difference beyond noise of a merge that works."""
    alive = rows[~rows["model"].isin(list(analysis.collapsed))]
    shown = alive[alive["q_value"] <= analysis.options.alpha]
    held = next((part for part in (shown, alive) if len(part)), rows)
    return max(SMALLEST_SCALE, math.ceil(20 * float(held["difference"].abs().max())) / 20)


def _view(
    rows: pd.DataFrame, ticks: Sequence[tuple[str, str, str]], reach: float, alpha: float
) -> Figure:
    place = {(unit, metric): i for i, (unit, metric, _) in enumerate(ticks)}
    layers = sorted({int(layer) for layer in rows["layer"]})
    shape = (len(ticks), len(layers))
    y = np.array([place[key] for key in zip(rows["unit"], rows["metric"], strict=True)], dtype=int)
    x = np.searchsorted(layers, rows["layer"].to_numpy(dtype=int))
    sign = np.where(rows["higher_is_better"], 1.0, -1.0)

    def grid(column: str, digits: int = 3) -> list[list[float | None]]:
        held = np.full(shape, np.nan)
        held[y, x] = np.round(rows[column].to_numpy(dtype=float), digits)
        return [finite(line) for line in held]

    z = np.full(shape, np.nan)
    z[y, x] = np.round(sign * rows["difference"].to_numpy(dtype=float), 4)
    shown = (rows["q_value"] <= alpha).to_numpy()
    better = z[y, x] > 0
    hidden = np.full(shape, np.nan)
    hidden[y[~shown], x[~shown]] = 1.0
    columns = [grid("low"), grid("high"), grid("q_value"), grid("n_items", 0)]
    heat: dict[str, Any] = {
        "type": "heatmap",
        "z": [finite(line) for line in z],
        "x": layers,
        "y": list(range(len(ticks))),
        "customdata": [
            [list(cell) for cell in zip(*line, strict=True)] for line in zip(*columns, strict=True)
        ],
        "hovertemplate": (
            "<b>%{y}</b>, layer %{x}<br>%{z:+.3f} [%{customdata[0]:+.3f}, %{customdata[1]:+.3f}]"
            "<br>q %{customdata[2]:.2g}, %{customdata[3]} items<extra></extra>"
        ),
        "zmin": -reach,
        "zmax": reach,
        "xgap": 1,
        "ygap": 1,
        "colorscale": [[0, color("less")], [0.5, color("neutral")], [1, color("more")]],
        "colorbar": {"thickness": 10, "outlinewidth": 0, "nticks": 5, "tickformat": "+.2~f"},
    }
    veil = {
        "type": "heatmap",
        "z": [finite(line) for line in hidden],
        "x": layers,
        "y": list(range(len(ticks))),
        "xgap": 1,
        "ygap": 1,
        "colorscale": [[0, color("veil")], [1, color("veil")]],
        "showscale": False,
        "hoverinfo": "skip",
    }
    at = np.asarray(layers)[x] if layers else x
    hatch = _marks(at[~shown], y[~shown], "line-ne-open", "hatch", 11)
    marks = [
        _marks(at[shown & better], y[shown & better], "triangle-up", "ink", 7),
        _marks(at[shown & ~better], y[shown & ~better], "triangle-down", "ink", 7),
    ]
    rows_axis = category_axis([text for _, _, text in ticks], down=True)
    height = 64 + max(3, len(ticks)) * ROW
    return {
        "data": [trace for trace in (heat, veil, hatch, *marks) if trace["x"]],
        "layout": {"yaxis": rows_axis, "height": height},
    }


def _marks(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], symbol: str, tint: str, size: int
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [int(value) for value in x],
        "y": [int(value) for value in y],
        "marker": {"symbol": symbol, "size": size, "color": color(tint), "line": {"width": 1}},
        "hoverinfo": "skip",
    }


def _table(analysis: Analysis, merges: Sequence[str], references: Sequence[str]) -> Table:
    rows = analysis.maps[analysis.maps["q_value"] <= analysis.options.alpha]
    order = {name: i for i, name in enumerate((*merges, *references))}
    body = []
    for key, held in rows.groupby(["model", "reference", "unit", "metric"], sort=False):
        better = (held["difference"] > 0) == held["higher_is_better"].astype(bool)
        most = held.iloc[int(held["difference"].abs().argmax())]
        size = with_interval(most["difference"], most["low"], most["high"], signed=True)
        body.append(
            [
                *(str(part) for part in key[:3]),
                metric_name(str(key[3])),
                spans(held.loc[better, "layer"]),
                spans(held.loc[~better, "layer"]),
                f"{size} at {int(most['layer'])}",
            ]
        )
    body.sort(key=lambda line: (order[line[0]], order[line[1]], line[2]))
    heads = ["merge", "minus", "phenomenon", "metric", "better at layers", "worse at layers"]
    caption = "Differences beyond noise" if body else "No difference is beyond noise"
    return plain(caption, [*heads, "largest difference"], body)
