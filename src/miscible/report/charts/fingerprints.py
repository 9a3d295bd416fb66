"""What each merging method goes by: coefficients of its predictor, feature by feature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from miscible.predict.interpret.fingerprints import Weight
from miscible.predict.validation.result import Validation
from miscible.report.figure import (
    Chart,
    Figure,
    axis,
    category_axis,
    color,
    error_bars,
    label,
    layout,
)
from miscible.report.table import plain
from miscible.words import metric_name

MOST = 16
"""Features of a method that are drawn, the largest first."""
LINE = 24
LABELS = 330
STABLE = 0.95
"""Share of resamplings in which a weight that is to be read keeps its sign."""


def fingerprint_charts(
    validations: Sequence[Validation], stability: Mapping[str, Mapping[str, Weight]]
) -> list[Chart]:
    """Return the bars of one method at a time, and all methods as a map; none without weights."""
    held = [{n: w for n, w in each.coefficients.items() if w} for each in validations]
    if not any(held):
        return []
    stable = [stability.get(each.method, {}) for each in validations]
    ends = [
        abs(end)
        for weights, known in zip(held, stable, strict=True)
        for name in weights
        for end in (weights[name], *((known[name].low, known[name].high) if name in known else ()))
    ]
    reach = 1.08 * max(ends)
    views = {
        str(number): _bars(weights, known, reach)
        for number, (weights, known) in enumerate(zip(held, stable, strict=True))
    }
    longest = min(MOST, max(map(len, held)))
    features = _features(held)
    methods = [each.method for each in validations]
    body = [[name, *(_weight(w.get(name, 0.0)) for w in held)] for name in features]
    return [
        Chart(
            id="fingerprint",
            title="Its fingerprint",
            caption="By how much the expected outcome changes with one standard deviation of a "
            "metric, the others held. Lines: 95 % over resampled tasks. Pale bars change their "
            "sign in more than one resampling of twenty.",
            figure={"data": [], "layout": {}},
            table=plain("All weights that are not 0", ["metric", *methods], body),
            height=LINE * longest + 70,
            narrowest=LABELS + 260,
            views=views,
        ),
    ]


def fingerprint_map(validations: Sequence[Validation]) -> list[Chart]:
    """Return weights of all methods side by side, each over the largest of its method."""
    held = [{n: w for n, w in each.coefficients.items() if w} for each in validations]
    features = _features(held)
    if len(validations) < 2 or not features:
        return []
    methods = [each.method for each in validations]
    largest = [max((abs(w) for w in weights.values()), default=1.0) for weights in held]
    z = [
        [weights.get(name, 0.0) / top for weights, top in zip(held, largest, strict=True)]
        for name in features
    ]
    hover = [
        [
            f"<b>{label(metric_name(name))}</b><br>{label(method)}: {_weight(w.get(name, 0.0))}"
            for method, w in zip(methods, held, strict=True)
        ]
        for name in features
    ]
    data: dict[str, Any] = {
        "type": "heatmap", "z": z, "x": list(range(len(methods))), "y": list(range(len(features))),
        "hovertext": hover, "hoverinfo": "text", "zmin": -1, "zmax": 1, "xgap": 2, "ygap": 2,
        "showscale": False,
        "colorscale": [[0.0, color("cold")], [0.5, color("neutral")], [1.0, color("warm")]],
    }  # fmt: skip
    across = category_axis(methods, longest=14, side="top", tickangle=0)
    down = category_axis(map(metric_name, features), longest=44, down=True)
    frame = layout(across, down, left=LABELS, bottom=12)
    frame["margin"]["t"] = 30
    body = [[name, *(_weight(w.get(name, 0.0)) for w in held)] for name in features]
    return [
        Chart(
            id="fingerprints",
            title="All methods",
            caption="Blue: more of the metric, a better merge; orange: a worse one. Each method "
            "over its own largest weight.",
            figure={"data": [data], "layout": frame},
            table=plain("All weights that are not 0", ["metric", *methods], body),
            height=20 * len(features) + 60,
            narrowest=LABELS + 90 * len(methods),
        )
    ]


def _bars(weights: dict[str, float], known: Mapping[str, Weight], reach: float) -> Figure:
    shown = sorted(weights.items(), key=lambda each: -abs(each[1]))[:MOST]
    places = list(range(len(shown)))
    values = [weight for _, weight in shown]
    low = [known[name].low if name in known else math.nan for name, _ in shown]
    high = [known[name].high if name in known else math.nan for name, _ in shown]
    data = {
        "type": "bar", "orientation": "h", "x": values, "y": places,
        "hovertext": [_said(name, weight, known.get(name)) for name, weight in shown],
        "hoverinfo": "text", "width": 0.66,
        "marker": {
            "color": [color("s1") if weight > 0 else color("s2") for weight in values],
            "opacity": [1.0 if _holds(known.get(name)) else 0.4 for name, _ in shown],
        },
        "error_x": error_bars(values, low, high, color("muted")),
    }  # fmt: skip
    ticks = category_axis([metric_name(name) for name, _ in shown], longest=44, down=True)
    across = axis(
        "outcome per standard deviation", range=[-reach, reach], zeroline=True,
        zerolinecolor=color("axis"),
    )  # fmt: skip
    return {
        "data": [data] if shown else [],
        "layout": {**layout(across, ticks, left=LABELS), "height": LINE * len(shown) + 70},
    }


def _holds(weight: Weight | None) -> bool:
    return weight is None or weight.sign_bootstrap >= STABLE


def _said(name: str, value: float, known: Weight | None) -> str:
    text = f"<b>{label(metric_name(name))}</b>: {_weight(value)}"
    if known is None:
        return text
    return (
        f"{text} [{known.low:+.4f}, {known.high:+.4f}]<br>chosen in "
        f"{known.selected_bootstrap:.0%} of resamplings, with this sign in "
        f"{known.sign_bootstrap:.0%} of those"
    )


def _features(held: Sequence[dict[str, float]]) -> list[str]:
    size: dict[str, float] = {}
    for weights in held:
        top = max((abs(weight) for weight in weights.values()), default=1.0)
        for name, weight in weights.items():
            size[name] = size.get(name, 0.0) + abs(weight) / top
    return sorted(size, key=lambda name: -size[name])


def _weight(value: float) -> str:
    return f"{value:+.4f}" if value else "0"
