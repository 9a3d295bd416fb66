"""One pair of fine-tunes: where it stands among all pairs, and how its metrics go with depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from miscible.models.roles import ROLES
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
    layer_axis,
    layout,
    short,
)
from miscible.report.mergeability import Mergeability, figure
from miscible.report.table import plain
from miscible.words import metric_name

LINE = 19
"""Pixels of a metric."""
LABELS = 330
BY_LAYER = {
    "task_vector_cosine_similarity": ("s1", "task vectors, cosine"),
    "right_subspace_overlap_top_k": ("s2", "subspaces, overlap"),
    "sign_conflict_rate": ("s4", "signs, conflict"),
    "activation_cka": ("s3", "states, CKA"),
    "encoder_gradient_cosine_similarity": ("s6", "gradients, cosine"),
}
"""Metrics within -1 to 1 that are drawn by layer, with their colours and words."""


def metric_pairs(held: Mergeability) -> ChartGroup:
    """Return what is known of a pair that the reader chooses; empty without pairs."""
    if not held.pairs:
        return ChartGroup("metric-pairs", ())
    charts = [_standing(held)]
    depth = _by_layer(held)
    charts += [depth] if depth is not None else []
    names = [f"{short(a)} · {short(b)}" for a, b in held.pairs]
    return ChartGroup("metric-pairs", charts, selectors=[Selector("Pair:", names)], wide=True)


def _standing(held: Mergeability) -> Chart:
    metrics = held.measured
    views = {str(i): _view(held, pair, metrics) for i, pair in enumerate(held.pairs)}
    shown = [metric for metric in metrics if metric in held.metrics][:8]
    body = [
        [f"{a} · {b}", *(held.cell(a, b, metric).text for metric in shown)] for a, b in held.pairs
    ]
    return Chart(
        id="metric-pair",
        title="Where the pair stands",
        caption="Each line runs from the lowest to the highest value of all pairs; grey marks are "
        "the other pairs. At the right the value, or why there is none.",
        figure={
            "data": [],
            "layout": layout(
                axis(range=[-0.03, 1.22], tickvals=[0, 1], ticktext=["lowest", "highest"]),
                category_axis(map(metric_name, metrics), longest=44, down=True),
                left=LABELS,
            ),
        },
        table=plain("All pairs, the first metrics", ["pair", *map(metric_name, shown)], body),
        height=LINE * len(metrics) + 70,
        narrowest=LABELS + 340,
        views=views,
    )


def _view(held: Mergeability, pair: tuple[str, str], metrics: Sequence[str]) -> Figure:
    others_x: list[float] = []
    others_y: list[int] = []
    x: list[float] = []
    y: list[int] = []
    hover: list[str] = []
    texts: list[str] = []
    why: list[str] = []
    for place, metric in enumerate(metrics):
        values = [held.cell(*each, metric).value for each in held.pairs]
        known = [value for value in values if math.isfinite(value)]
        cell = held.cell(*pair, metric)
        texts.append(label(cell.text))
        why.append(label(cell.reason))
        if not known or len(held.pairs) < 2:
            continue
        low, high = min(known), max(known)

        def on_line(value: float, low: float = low, high: float = high) -> float:
            return (value - low) / (high - low) if high > low else 0.5

        for each, value in zip(held.pairs, values, strict=True):
            if each != pair and math.isfinite(value):
                others_x.append(on_line(value))
                others_y.append(place)
        if math.isfinite(cell.value):
            below = sum(value < cell.value for value in known)
            x.append(on_line(cell.value))
            y.append(place)
            hover.append(
                f"<b>{label(metric_name(metric))}</b><br>{cell.text}, "
                f"higher than {below} of {len(known) - 1} others"
            )
    marks: dict[str, Any] = {"type": "scatter", "mode": "markers"}
    lines = {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip",
        "x": [0, 1, None] * len(metrics),
        "y": [v for place in range(len(metrics)) for v in (place, place, None)],
        "line": {"color": color("grid"), "width": 2},
    }  # fmt: skip
    return {
        "data": [
            lines,
            marks | {
                "x": finite(others_x), "y": others_y, "hoverinfo": "skip",
                "marker": {"symbol": "line-ns-open", "size": 8, "color": color("axis")},
            },
            marks | {
                "x": finite(x), "y": y, "hovertext": hover, "hoverinfo": "text",
                "marker": {"size": 10, "color": color("accent")},
            },
            {
                "type": "scatter", "mode": "text", "x": [1.05] * len(metrics),
                "y": list(range(len(metrics))), "text": texts, "textposition": "middle right",
                "hovertext": why, "hoverinfo": "text", "textfont": {"color": color("ink")},
            },
        ],
        "layout": {},
    }  # fmt: skip


def _by_layer(held: Mergeability) -> Chart | None:
    rows = held.rows
    rows = rows[(rows["scope"] != "") & (rows["second"] != "") & (rows["status"] == "ok")]
    rows = rows[rows["metric"].isin(list(BY_LAYER)) & rows["sequence"].gt(0)]
    scopes = list(dict.fromkeys(rows.sort_values("sequence")["scope"]))
    if len(scopes) < 3 or set(scopes) <= set(ROLES):
        return None
    number = {scope: i for i, scope in enumerate(scopes)}
    of_pair = dict(iter(rows.groupby(["first", "second"], sort=False)))
    views = {
        str(i): {"data": _curves(of_pair[pair], number) if pair in of_pair else [], "layout": {}}
        for i, pair in enumerate(held.pairs)
    }
    wide = rows.pivot_table(index="scope", columns="metric", values="value", sort=False)
    wide = wide.reindex(index=scopes, columns=[m for m in BY_LAYER if m in wide.columns])
    body = [
        [str(scope), *map(figure, values)]
        for scope, values in zip(wide.index, wide.to_numpy(dtype=float), strict=True)
    ]
    heads = ["layer", *(BY_LAYER[str(metric)][1] for metric in wide.columns)]
    return Chart(
        id="metric-pair-layers",
        title="The pair by layer",
        caption="Cosines, overlaps and shares of the same two models, layer by layer.",
        figure={
            "data": [],
            "layout": layout(
                layer_axis(len(scopes) - 1, "layer (0 = before the layers)"),
                axis(tickformat="~g", zeroline=True, zerolinecolor=color("axis")),
                right=170,
            ),
        },
        table=plain("Mean over all pairs, by layer", heads, body),
        height=360,
        narrowest=620,
        views=views,
    )


def _curves(rows: pd.DataFrame, number: dict[str, int]) -> list[dict[str, Any]]:
    ends: list[tuple[float, dict[str, Any]]] = []
    data: list[dict[str, Any]] = []
    for metric, (series, words) in BY_LAYER.items():
        held = rows[rows["metric"] == metric]
        if held.empty:
            continue
        held = held.assign(place=held["scope"].map(number)).sort_values("place")
        data.append(
            {
                "type": "scatter", "mode": "lines",
                "x": [int(place) for place in held["place"]], "y": finite(held["value"]),
                "line": {"color": color(series), "width": 2.2},
                "text": [
                    f"{label(words)}<br>{label(scope)}: {figure(float(value))}"
                    for scope, value in zip(held["scope"], held["value"], strict=True)
                ],
                "hoverinfo": "text",
            }
        )  # fmt: skip
        name = {
            "type": "scatter", "mode": "text", "x": [len(number) - 1],
            "text": [f" {label(words)}"], "textposition": "middle right", "hoverinfo": "skip",
            "textfont": {"color": color(series)}, "cliponaxis": False,
        }  # fmt: skip
        ends.append((float(held["value"].iloc[-1]), name))
    # Names beside the ends of the curves, apart enough to be read.
    if ends:
        values = [float(v) for trace in data for v in trace["y"] if v is not None]
        gap = 0.07 * ((max(values) - min(values)) or 1.0)
        last = -math.inf
        for end, name in sorted(ends, key=lambda held: held[0]):
            last = max(end, last + gap)
            data.append(name | {"y": [last]})
    return data
