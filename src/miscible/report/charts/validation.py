"""How good a predictor is: scores beside baselines and null, forecasts beside outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from miscible.predict.pairs import Examples, Floats
from miscible.predict.validation.calibration import half_width
from miscible.predict.validation.result import Comparison, Validation
from miscible.report.figure import (
    Chart,
    Figure,
    axis,
    category_axis,
    color,
    error_bars,
    finite,
    label,
    layout,
)
from miscible.report.table import Table, plain
from miscible.words import counted, number, p_value, with_interval

SCORES = {
    "loto_r": ("One model new", "LOTO r: every task is held out once, its partners are known"),
    "lkto_r": ("Both models new", "r among pairs of which both tasks are held out"),
    "lkto_skill": ("Both models new: errors", "skill: 1 - SSE / SSE of the training mean"),
}
"""Scores that are drawn: title and axis."""
LEAST_SKILL = -1.5
"""Where the axis of skill ends; worse is worse than useless all the same."""
LINE = 26
TRUTH = {
    "loto": ("One model new", "truth-one"),
    "lkto": ("Both models new", "truth-both"),
}


def forest_charts(validations: Sequence[Validation]) -> list[Chart]:
    """Return a chart a score, with a view a method."""
    charts = []
    for score, (title, words) in SCORES.items():
        held = [each for each in validations if _value(each.own, score) is not None]
        if not held:
            continue
        rows = max(len(each.baselines) for each in held) + 2
        charts.append(
            Chart(
                id=f"forest-{score.replace('_', '-')}",
                title=title,
                caption=f"{words}. Lines: 95 % over resampled tasks. Grey band: 95 % of the null, "
                "fitted to the metrics of the wrong models.",
                figure={"data": [], "layout": {}},
                table=_forest_table(validations, score),
                height=LINE * rows + 70,
                narrowest=420,
                views={str(n): _forest(each, score, words) for n, each in enumerate(validations)},
            )
        )
    return charts


def truth_charts(validations: Sequence[Validation], examples: Sequence[Examples]) -> list[Chart]:
    """Return predicted against measured, a chart a way of holding out, with a view a method."""
    charts = []
    for kind, (title, name) in TRUTH.items():
        if not any(each.forecasts[kind][0] for each in validations):
            continue
        views = {
            str(n): _truth(each, held, kind)
            for n, (each, held) in enumerate(zip(validations, examples, strict=True))
        }
        charts.append(
            Chart(
                id=name,
                title=f"Predicted and measured: {title.lower()}",
                caption="Each mark is a merge that its forecast has not seen; on the dashed line "
                "it came out as predicted. Lines: predictive intervals.",
                figure={"data": [], "layout": {}},
                table=_truth_table(validations, kind),
                height=420,
                narrowest=360,
                views=views,
            )
        )
    return charts


def validation_table(validations: Sequence[Validation]) -> Table:
    """Return scores of all methods with their p values."""
    body = []
    for each in validations:
        null = each.null
        ps = (null.loto_p, null.lkto_p, null.skill_p) if null else (None, None, None)
        cells = [
            f"{_cell(each.own, score)}{f', p {p_value(p)}' if p is not None else ''}"
            for score, p in zip(SCORES, ps, strict=True)
        ]
        cover = each.coverage
        covered = [
            f"{cover[kind].observed:.0%} of {cover[kind].level:.0%}" if kind in cover else "–"
            for kind in ("loto", "lkto")
        ]
        body.append([each.method, f"{each.pairs} of {each.tasks}", *cells, *covered])
    heads = ["method", "pairs of models", "LOTO r", "unseen r", "unseen skill",
             "coverage, one new", "coverage, both new"]  # fmt: skip
    return plain("All methods", heads, body)


def _forest(each: Validation, score: str, words: str) -> Figure:
    rows = [("this predictor", each.own), *((b.title, b) for b in each.baselines.values())]
    values = [_value(held, score) for _, held in rows]
    bounds = [held.intervals.get(score, (math.nan, math.nan)) for _, held in rows]
    null = _null(each, score)
    names = [name for name, _ in rows] + (["null"] if len(null) else [])
    estimate = [math.nan if value is None else value for value in values]
    low, high = [b[0] for b in bounds], [b[1] for b in bounds]
    if score == "lkto_skill":
        estimate, low, high = (
            [max(v, LEAST_SKILL) if v == v else v for v in column]
            for column in (estimate, low, high)
        )
    tints = [color("accent"), *([color("muted")] * (len(rows) - 1))]
    data: list[dict[str, Any]] = []
    if len(null):
        band = np.quantile(null, [0.025, 0.975]).tolist()
        if score == "lkto_skill":
            band = [max(end, LEAST_SKILL) for end in band]
        data.append(
            {
                "type": "scatter", "mode": "lines", "hoverinfo": "skip", "fill": "toself",
                "x": [band[0], band[1], band[1], band[0]], "line": {"width": 0},
                "y": [-0.6, -0.6, len(names) - 0.4, len(names) - 0.4],
                "fillcolor": color("ink-band"),
            }
        )  # fmt: skip
        data.append(_marker([float(null.mean())], [len(rows)], color("ink"), "x", [
            f"null: mean {number(float(null.mean()))}, {counted(len(null), 'relabelling')}"
        ]))  # fmt: skip
    for place in range(len(rows)):
        mark = _marker(
            finite(estimate[place : place + 1]), [place], tints[place],
            "circle" if place == 0 else "square",
            [f"{label(names[place])}: {_cell(rows[place][1], score)}"],
        )  # fmt: skip
        mark["error_x"] = error_bars(
            estimate[place : place + 1], low[place : place + 1], high[place : place + 1],
            tints[place],
        )  # fmt: skip
        data.append(mark)
    ticks = category_axis(names, longest=99, down=True)
    ends = [LEAST_SKILL - 0.05, 1.05] if score == "lkto_skill" else [-0.75, 1.05]
    across = axis(words.partition(":")[0], range=ends, zeroline=True, zerolinecolor=color("axis"))
    return {"data": data, "layout": layout(across, ticks, left=130)}


def _marker(
    x: Sequence[float | None], y: Sequence[float], tint: str, symbol: str, hover: Sequence[str]
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": list(x), "y": list(y), "hovertext": list(hover),
        "hoverinfo": "text", "marker": {"color": tint, "symbol": symbol, "size": 9},
    }  # fmt: skip


def _truth(each: Validation, examples: Examples, kind: str) -> Figure:
    folds, forecasts = each.forecasts[kind]
    scale = each.coverage[kind].scale if kind in each.coverage else math.nan
    predicted, half, measured, hover = [], [], [], []
    names = examples.pairs.names()
    for fold, forecast in zip(folds, forecasts, strict=True):
        widths = half_width(forecast, scale)
        for place, row in enumerate(fold.test.tolist()):
            predicted.append(float(forecast.mean[place]))
            half.append(float(widths[place]))
            measured.append(float(examples.mean[row]))
            a, b = names[row]
            hover.append(
                f"<b>{label(a)} · {label(b)}</b><br>predicted {predicted[-1]:.3f} "
                f"± {half[-1]:.3f}, measured {measured[-1]:.3f}"
            )
    low, high = _ends(np.array([*predicted, *measured]))
    bars = {
        "type": "data", "array": finite(half), "color": color("s1-band"), "thickness": 1.2,
        "width": 0,
    }  # fmt: skip
    data = [
        {"type": "scatter", "mode": "lines", "x": [low, high], "y": [low, high],
         "hoverinfo": "skip", "line": {"color": color("axis"), "dash": "dash", "width": 1.5}},
        {**_marker(finite(predicted), measured, color("s1"), "circle", hover), "error_x": bars},
    ]  # fmt: skip
    data[1]["marker"] = {"color": color("s1"), "size": 6, "opacity": 0.75}
    across, up = axis("predicted", range=[low, high]), axis("measured", range=[low, high])
    return {"data": data, "layout": layout(across, up)}


def _ends(values: Floats) -> tuple[float, float]:
    low, high = float(values.min(initial=0.9)), float(values.max(initial=1.0))
    room = 0.04 * (high - low)
    return low - room, high + room


def _truth_table(validations: Sequence[Validation], kind: str) -> Table:
    body = []
    for each in validations:
        held = each.coverage.get(kind)
        if held is not None:
            share = f"{held.observed:.0%}" if held.observed == held.observed else "–"
            body.append([each.method, str(held.pairs), f"{held.level:.0%}", share,
                         number(held.width, 0.01)])  # fmt: skip
    heads = ["method", "held-out pairs", "level", "covered", "mean width"]
    return plain("Predictive intervals of held-out pairs", heads, body)


def _forest_table(validations: Sequence[Validation], score: str) -> Table:
    names = list(dict.fromkeys(b.title for each in validations for b in each.baselines.values()))
    body = []
    for each in validations:
        titles = {b.title: b for b in each.baselines.values()}
        null = _null(each, score)
        body.append([
            each.method, _cell(each.own, score),
            *(_cell(titles[name], score) if name in titles else "–" for name in names),
            number(float(null.mean())) if len(null) else "–",
        ])  # fmt: skip
    return plain(SCORES[score][1], ["method", "this predictor", *names, "null"], body)


def _null(each: Validation, score: str) -> Floats:
    if each.null is None:
        return np.zeros(0)
    held = {"loto_r": each.null.loto, "lkto_r": each.null.lkto, "lkto_skill": each.null.skill}
    return held[score][np.isfinite(held[score])]


def _value(held: Comparison, score: str) -> float | None:
    found = {
        "loto_r": held.loto.r_mean if held.loto else None,
        "lkto_r": held.lkto.r if held.lkto else None,
        "lkto_skill": held.lkto.skill if held.lkto else None,
    }
    return found[score]


def _cell(held: Comparison, score: str) -> str:
    value = _value(held, score)
    if value is None:
        return "–"
    return with_interval(value, *held.intervals.get(score, (math.nan, math.nan)))
