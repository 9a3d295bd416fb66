"""How alike the layers of two models are, and how a merge drifts from its parents with depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from miscible.report.charts.toggles import model_toggles
from miscible.report.figure import (
    Chart,
    ChartGroup,
    Figure,
    Selector,
    axis,
    color,
    finite,
    label,
    layer_axis,
    layout,
    short,
)
from miscible.report.table import plain
from miscible.words import metric_name, number, with_interval

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.report.palette import Palette

GROUP = "similarity-charts"
COLOR_BAR = 66


class _Words(NamedTuple):
    title: str
    unit: str
    caption: str


WORDS = {
    "cka": _Words("CKA of equal layers", "CKA", "1: the same geometry up to rotation and scale."),
    "cosine": _Words("Cosine", "cosine", "Mean over texts of the cosine of the two states."),
    "relative_distance": _Words(
        "Distance", "relative distance", "Length of the difference over that of the other's state."
    ),
    "norm_ratio": _Words("Ratio of norms", "norm ratio", "Below 1 the activations have shrunk."),
    "lens_kl": _Words(
        "Logit-lens divergence", "KL, bits",
        "What the next word would be if this layer were the last, against the other model.",
    ),
    "effective_rank": _Words(
        "Effective rank", "effective rank", "How many directions the states of the texts fill."
    ),
    "participation_ratio": _Words(
        "Participation ratio", "participation ratio",
        "Like the effective rank, with more weight on the few directions of largest variance.",
    ),
    "lens_gap": _Words(
        "Still to be predicted", "KL, bits",
        "What the next word would be if this layer were the last, against the model's own answer.",
    ),
    "anisotropy": _Words(
        "Anisotropy", "mean cosine", "Cosine of two texts' states: near 1 all look alike."
    ),
}  # fmt: skip


def similarity_charts(
    tables: StudyTables, analysis: Analysis, palette: Palette, ranking: Sequence[str]
) -> ChartGroup:
    """Return CKA maps of all pairs and curves over layers of all metrics; empty without rows.

    Args:
        tables: the study.
        analysis: its analysis.
        palette: looks of the models.
        ranking: merges, the best first: the first that have not collapsed are shown at first.
    """
    rows = tables.similarities.dropna(subset=["estimate"])
    rows = rows[rows["model"].isin(list(palette.models))]
    if rows.empty:
        return ChartGroup(GROUP, ())
    cka = rows[(rows["metric"] == "cka") & (rows["model"] != rows["other"])]
    charts = []
    selectors = []
    if len(cka):
        pairs = _pairs(cka, tables, ranking)
        charts.append(_maps(cka, pairs))
        names = [f"{model} with {other}" for model, other in pairs]
        selectors.append(Selector("CKA of all layers:", names))
    charts += _curves(rows[rows["layer"] == rows["other_layer"]], tables, palette)
    present = set(rows["model"])
    toggles = model_toggles(charts, present, tables, analysis, palette, ranking)
    return ChartGroup(GROUP, charts, toggles, selectors)


def _pairs(
    rows: pd.DataFrame, tables: StudyTables, ranking: Sequence[str]
) -> list[tuple[str, str]]:
    held = {(str(a), str(b)) for a, b in rows[["model", "other"]].drop_duplicates().to_numpy()}
    order = {name: i for i, name in enumerate((*ranking, *tables.parents, tables.base))}
    last = len(order)
    return sorted(held, key=lambda pair: [order.get(name, last) for name in pair])


def _maps(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> Chart:
    held = dict(iter(rows.groupby(["model", "other"], sort=False)))
    views = {str(i): _view(held[pair], *pair) for i, pair in enumerate(pairs)}
    most = []
    for model, other in pairs:
        wide = _square(held[(model, other)])
        same = [layer for layer in wide.index if layer in wide.columns]
        equal = [float(wide.loc[layer, layer]) for layer in same]
        moved = sum(wide.loc[layer].idxmax() != layer for layer in same)
        most.append([model, other, number(min(equal, default=math.nan)), f"{moved} of {len(same)}"])
    heads = ["model", "with", "least CKA of equal layers", "layers more like another layer"]
    return Chart(
        id="cka-map",
        title="CKA of all layers",
        caption="Debiased linear CKA; a bright diagonal: layers kept their places.",
        figure={"data": [], "layout": layout(axis(), axis(), right=COLOR_BAR)},
        table=plain("CKA of all pairs of models", heads, most),
        height=420,
        views=views,
    )


def _view(rows: pd.DataFrame, model: str, other: str) -> Figure:
    wide = _square(rows)
    heat = {
        "type": "heatmap",
        "z": [finite(line) for line in np.round(wide.to_numpy(dtype=float), 3)],
        "x": [int(layer) for layer in wide.columns],
        "y": [int(layer) for layer in wide.index],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, color("neutral")], [1, color("full")]],
        "colorbar": {"thickness": 10, "outlinewidth": 0, "tickvals": [0, 0.5, 1]},
        "hovertemplate": "layer %{y} with layer %{x}: CKA %{z:.3f}<extra></extra>",
    }
    named = {"xaxis": (other, wide.columns), "yaxis": (model, wide.index)}
    axes = {
        key: layer_axis(int(layers.max()), f"layer of {short(name)}", showgrid=False)
        for key, (name, layers) in named.items()
    }
    return {"data": [heat], "layout": axes}


def _square(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.pivot_table(index="layer", columns="other_layer", values="estimate")


def _curves(rows: pd.DataFrame, tables: StudyTables, palette: Palette) -> list[Chart]:
    alone = rows["model"] == rows["other"]
    rows = rows.assign(against=np.where(alone, "", rows["other"]))
    rank = {metric: i for i, metric in enumerate(WORDS)}
    others = {name: i for i, name in enumerate(("", *tables.parents, tables.base))}
    groups: Mapping[Any, pd.DataFrame] = dict(iter(rows.groupby(["metric", "against"])))
    keys = sorted(
        groups, key=lambda key: (rank.get(key[0], len(rank)), others.get(key[1], len(others)), key)
    )
    return [
        _panel(f"similarity-{i}", str(metric), str(other), groups[(metric, other)], palette)
        for i, (metric, other) in enumerate(keys)
    ]


def _panel(name: str, metric: str, other: str, rows: pd.DataFrame, palette: Palette) -> Chart:
    words = WORDS.get(metric, _Words(metric_name(metric).capitalize(), metric_name(metric), ""))
    data: list[dict[str, Any]] = []
    for model, held in rows.groupby("model", sort=False):
        data += _curve(held.sort_values("layer"), str(model), palette)
    last = int(rows["layer"].max())
    x = layer_axis(last)
    title = f"{words.title} with {other}" if other else words.title
    if other and metric in ("relative_distance", "lens_kl"):
        title = f"{words.title} from {other}"
    wide = rows.pivot_table(index="layer", columns="model", values="estimate", sort=False)
    body = [
        [str(layer), *(number(float(value), 0.01) for value in values)]
        for layer, values in zip(wide.index, wide.to_numpy(dtype=float), strict=True)
    ]
    return Chart(
        id=name,
        title=title,
        caption=words.caption or f"{words.unit} by layer.",
        figure={"data": data, "layout": layout(x, axis(words.unit, tickformat="~g"))},
        table=plain(f"{title} by layer", ["layer", *map(str, wide.columns)], body),
    )


def _curve(rows: pd.DataFrame, model: str, palette: Palette) -> list[dict[str, Any]]:
    style, shade = palette.models[model], palette.shades[model]
    common = {
        "type": "scatter",
        "mode": "lines",
        "x": [int(layer) for layer in rows["layer"]],
        "meta": {"group": model},
    }
    edge = common | {"line": {"width": 0, "color": shade}, "hoverinfo": "skip"}
    line = {
        "y": finite(rows["estimate"]),
        "line": {"color": style.color, "dash": style.dash, "width": style.width},
        "text": [
            f"<b>{label(model)}</b><br>layer {row['layer']}: "
            f"{with_interval(row['estimate'], row['low'], row['high'])}"
            for row in rows.to_dict("records")
        ],
        "hoverinfo": "text",
    }
    if rows["low"].isna().all() or rows["high"].isna().all():
        return [common | line]
    # A layer without an interval (all texts alike) must not tear the band.
    low, high = (rows[end].fillna(rows["estimate"]) for end in ("low", "high"))
    return [
        edge | {"y": finite(low)},
        edge | {"y": finite(high), "fill": "tonexty", "fillcolor": shade},
        common | line,
    ]
