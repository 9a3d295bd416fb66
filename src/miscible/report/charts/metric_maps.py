"""All pairs of fine-tunes at once: a clustered map of any metric, and the models in a plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from miscible.report.figure import (
    Chart,
    ChartGroup,
    Figure,
    Selector,
    axis,
    category_axis,
    color,
    finite,
    label,
    layout,
    short,
    width,
)
from miscible.report.mergeability import Mergeability, figure
from miscible.report.table import plain
from miscible.words import metric_name

Array = npt.NDArray[np.float64]
COLOR_BAR = 74
CELL = 26
"""Pixels of a field, at least."""
WRITTEN = 12
"""Most models whose fields hold their numbers."""
LONGEST = 18


def metric_maps(held: Mergeability) -> ChartGroup:
    """Return a map of any metric, and the models in a plane; empty for fewer than two models."""
    charts: list[Chart] = []
    selectors: list[Selector] = []
    if len(held.models) > 2 and held.metrics:
        charts.append(_map(held))
        selectors.append(Selector("Metric:", [metric_name(name) for name in held.metrics]))
    plane = _plane(held)
    if plane is not None:
        charts.append(plane)
    return ChartGroup("metric-maps", charts, selectors=selectors)


def clustered(matrix: Array) -> list[int]:
    """Return an order of models in which those with alike values stand together.

    Average linkage with optimal leaf order over the distance of two models' rows, which is taken
    over the others. Models without values come last.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    count = len(matrix)
    known = [i for i in range(count) if np.isfinite(np.delete(matrix[i], i)).sum() >= 2]
    if len(known) < 3:
        return list(range(count))
    rows = matrix[np.ix_(known, known)]
    distance = np.zeros_like(rows)
    for i in range(len(known)):
        for j in range(i):
            gap = np.delete(rows[i] - rows[j], [i, j])
            gap = gap[np.isfinite(gap)]
            distance[i, j] = distance[j, i] = math.sqrt(float(np.mean(gap**2))) if len(gap) else 0.0
    condensed = squareform(distance, checks=False)
    order = leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))
    return [known[i] for i in order] + [i for i in range(count) if i not in known]


def _map(held: Mergeability) -> Chart:
    count = len(held.models)
    margin = width(held.models, LONGEST)
    height = max(340, CELL * count + margin + 60)
    views = {str(i): _view(held, metric, margin) for i, metric in enumerate(held.metrics)}
    heads = ["metric", "lowest", "of", "highest", "of"]
    body = []
    for metric in held.metrics:
        values = {pair: held.cell(*pair, metric).value for pair in held.pairs}
        known = {pair: value for pair, value in values.items() if math.isfinite(value)}
        low, high = (f(known, key=lambda pair: known[pair]) for f in (min, max))
        ends = [cell for p in (low, high) for cell in (figure(known[p]), " · ".join(p))]
        body.append([metric_name(metric), *ends])
    return Chart(
        id="metric-map",
        title="Every two models",
        caption="Models that are alike in this metric stand together; empty: no value.",
        figure={"data": [], "layout": layout(axis(), axis(), left=margin, right=COLOR_BAR)},
        table=plain("Lowest and highest pair of each metric", heads, body),
        height=height,
        narrowest=margin + COLOR_BAR + CELL * count,
        views=views,
    )


def _view(held: Mergeability, metric: str, margin: int) -> Figure:
    matrix = held.matrix(metric)
    order = clustered(matrix)
    names = [held.models[i] for i in order]
    z = matrix[np.ix_(order, order)]
    text = [[held.cell(a, b, metric) for b in names] for a in names]
    known = z[np.isfinite(z)]
    low, high = float(known.min()), float(known.max())
    signed = low < 0 < high
    reach = max(-low, high)
    scale = [color("less"), color("neutral"), color("more")] if signed else [
        color("neutral"), color("full")
    ]  # fmt: skip
    heat: dict[str, Any] = {
        "type": "heatmap",
        "z": [finite(row) for row in z],
        "zmin": -reach if signed else low,
        "zmax": reach if signed else high if high > low else low + 1,
        "colorscale": [[i / (len(scale) - 1), tint] for i, tint in enumerate(scale)],
        "colorbar": {"thickness": 10, "outlinewidth": 0, "nticks": 5, "tickformat": ".3~g"},
        "xgap": 1,
        "ygap": 1,
        "customdata": [
            [
                f"<b>{label(a)}</b> and <b>{label(b)}</b><br>{label(cell.text)}"
                + (f"<br>{label(cell.reason)}" if cell.reason else "")
                for b, cell in zip(names, row, strict=True)
            ]
            for a, row in zip(names, text, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    if len(names) <= WRITTEN:
        heat["text"] = [[_written(value) for value in row] for row in z]
        heat["texttemplate"] = "%{text}"
    return {
        "data": [heat],
        "layout": {
            "xaxis": category_axis(names, longest=LONGEST, tickangle=-90),
            "yaxis": category_axis(names, longest=LONGEST, down=True),
            "margin": {"l": margin, "r": COLOR_BAR, "t": 8, "b": margin, "autoexpand": False},
        },
    }


def _written(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.2g}"


def in_a_plane(gram: Array) -> tuple[Array, Array]:
    """Return models in the plane that holds most of how they differ.

    Args:
        gram: inner products of their task vectors, [models, models].

    Returns:
        Coordinates [models + 1, 2] about their mean, the base (the task vector 0) last; and the
        share of the squared distances that each of the two axes holds. These are the first two
        principal components, and classical scaling of the distances.
    """
    count = len(gram) + 1
    whole = np.zeros((count, count))
    whole[:-1, :-1] = gram
    centre = np.eye(count) - 1.0 / count
    values, vectors = np.linalg.eigh(centre @ whole @ centre)
    values = np.maximum(values[::-1], 0.0)
    found = vectors[:, ::-1][:, :2] * np.sqrt(values[:2])
    total = values.sum()
    return found, values[:2] / total if total > 0 else np.zeros(2)


def _plane(held: Mergeability) -> Chart | None:
    norms = {name: held.scalar(name, "task_vector_norm") for name in held.models}
    dots = held.matrix("task_vector_dot_product")
    known = [
        i for i, name in enumerate(held.models)
        if math.isfinite(norms[name]) and np.isfinite(np.delete(dots[i], i)).any()
    ]  # fmt: skip
    if len(known) < 2:
        return None
    names = [held.models[i] for i in known]
    gram = dots[np.ix_(known, known)]
    np.fill_diagonal(gram, [norms[name] ** 2 for name in names])
    if not np.isfinite(gram).all():
        return None
    places, shares = in_a_plane(gram)
    lines = [
        {
            "type": "scatter", "mode": "lines", "hoverinfo": "skip",
            "x": finite([places[-1, 0], x]), "y": finite([places[-1, 1], y]),
            "line": {"color": color("axis"), "width": 1},
        }
        for x, y in places[:-1]
    ]  # fmt: skip
    points = [
        _point(held, name, place, place[1] >= places[-1, 1], norms)
        for name, place in zip(names, places, strict=False)
    ]
    origin = {
        "type": "scatter", "mode": "markers+text", "x": finite(places[-1:, 0]),
        "y": finite(places[-1:, 1]), "text": ["base"], "textposition": "middle left",
        "textfont": {"color": color("muted")}, "hoverinfo": "text",
        "hovertext": [label(held.base)],
        "marker": {"symbol": "x", "size": 9, "color": color("ink")},
    }  # fmt: skip
    spread = float(np.ptp(places, axis=0).max()) or 1.0
    middle = (places.max(axis=0) + places.min(axis=0)) / 2
    ranges = [[float(m - 0.68 * spread), float(m + 0.68 * spread)] for m in middle]
    percents = [f"{100 * share:.0f} %" for share in shares]
    body = [
        [name, figure(norms[name]), figure(float(x)), figure(float(y))]
        for name, (x, y) in zip(names, places, strict=False)
    ]
    return Chart(
        id="model-map",
        title="The models in a plane",
        caption="Weights in the plane that keeps their distances best. A line is a task vector; "
        f"the two axes hold {percents[0]} and {percents[1]} of the squared distances.",
        figure={
            "data": [*lines, *points, origin],
            "layout": layout(
                axis(f"first component ({percents[0]})", range=ranges[0], tickformat="~g"),
                axis(
                    f"second component ({percents[1]})", range=ranges[1], tickformat="~g",
                    scaleanchor="x",
                ),
            ),
        },
        table=plain("Places in the plane", ["model", "norm", "first", "second"], body),
        height=460,
    )  # fmt: skip


def _point(
    held: Mergeability, name: str, place: Sequence[float], above: bool, norms: dict[str, float]
) -> dict[str, Any]:
    style = held.styles[name]
    side = "top center" if above else "bottom center"
    return {
        "type": "scatter", "mode": "markers+text", "x": finite(place[:1]), "y": finite(place[1:]),
        "text": [label(short(name, LONGEST))], "textposition": side,
        "textfont": {"color": color("ink")}, "hoverinfo": "text",
        "hovertext": [f"<b>{label(name)}</b><br>|tau| {figure(norms[name])}"],
        "marker": {"symbol": style.symbol, "size": 10, "color": style.color},
    }  # fmt: skip
