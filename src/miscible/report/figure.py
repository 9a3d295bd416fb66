"""A chart as Plotly's own JSON, with colours as names that the page resolves for its theme."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, TypeAlias

from miscible.report.table import Table

Figure: TypeAlias = dict[str, Any]

HEIGHT = 320

LEFT, BOTTOM, RIGHT = 68, 48, 14
"""Margins in pixels that hold an axis title and one line of numbers."""

LONGEST = 24
"""Characters of a name that an axis shows; the whole name is in the hover text and the table."""


@dataclass(frozen=True)
class Chart:
    """A chart and what those need who cannot see it.

    Attributes:
        id: element id, unique in the page.
        title: heading of the panel.
        caption: what to see in it.
        figure: Plotly's ``data`` and ``layout``; see `color`.
        table: the same numbers as a table.
        height: in CSS pixels.
        narrowest: width in CSS pixels below which the chart scrolls inside its box.
        views: figures among which the group's selectors choose, by the chosen values joined by
            spaces; a view's layout adds to that of *figure*, whose own data is then empty.
    """

    id: str
    title: str
    caption: str
    figure: Figure
    table: Table
    height: int = HEIGHT
    narrowest: int = 0
    views: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Toggle:
    """A legend entry that shows and hides the traces of one group.

    Attributes:
        group: value of ``meta.group`` of its traces.
        label: name shown.
        style: how its traces look.
        shown: whether they are visible at first.
    """

    group: str
    label: str
    style: Style
    shown: bool = True


@dataclass(frozen=True)
class Style:
    """How a model or family looks: told apart by colour, and without it by dash and marker."""

    color: str
    dash: str = "solid"
    symbol: str = "circle"
    width: float = 2.0


@dataclass(frozen=True)
class Selector:
    """A list of which one entry is shown.

    Attributes:
        label: what is chosen.
        options: what is offered; their positions, as text, are the values. The first is shown.
    """

    label: str
    options: Sequence[str]


@dataclass(frozen=True)
class ChartGroup:
    """Charts that share a legend and selectors; *wide* ones take the whole width of the page."""

    id: str
    charts: Sequence[Chart]
    toggles: Sequence[Toggle] = field(default_factory=tuple)
    selectors: Sequence[Selector] = field(default_factory=tuple)
    wide: bool = False


def color(name: str) -> str:
    """Return a colour by the name of its CSS variable; the page puts the theme's colour there."""
    return f"var(--{name})"


def label(text: object) -> str:
    """Return text as Plotly must get it: Plotly reads ``<b>`` and ``<a>`` in any label."""
    return escape(str(text), quote=False)


def short(text: object, longest: int = LONGEST) -> str:
    """Return text cut to at most *longest* characters.

    The middle goes: models of one study often begin alike, and differ at the end.
    """
    held = str(text)
    if len(held) > longest:
        head = (longest - 1) // 3
        held = f"{held[:head]}…{held[head + 1 - longest :]}"
    return held


def width(names: Iterable[object], longest: int = LONGEST) -> int:
    """Return the pixels that the longest of *names* takes on an axis, rather too many."""
    return 12 + round(7.5 * max((min(len(str(name)), longest) for name in names), default=0))


def averaged_over(count: int) -> str:
    """Return what a caption says of the data sets behind a score and its interval."""
    if count == 1:
        return "1 data set"
    return f"mean of {count} data sets, which its interval takes as independent"


def finite(values: Sequence[float] | Any) -> list[float | None]:
    """Return numbers for JSON: NaN and infinities become null, which Plotly leaves out."""
    return [float(v) if v is not None and math.isfinite(v) else None for v in values]


def axis(title: str = "", **settings: Any) -> dict[str, Any]:
    """Return an axis in the page's colours."""
    return {
        **({"title": {"text": label(title), "standoff": 8}} if title else {}),
        "gridcolor": color("grid"),
        "linecolor": color("axis"),
        "tickcolor": color("axis"),
        "zerolinecolor": color("grid"),
        "zeroline": False,
        "fixedrange": True,
        **settings,
    }


def category_axis(
    names: Iterable[object], *, longest: int = LONGEST, down: bool = False, **settings: Any
) -> dict[str, Any]:
    """Return an axis on which names stand at 0, 1, 2 ...

    Args:
        names: the categories.
        longest: characters of a name that are shown.
        down: the first name stands on top.
        settings: of the axis, in place of these.
    """
    ticks = [label(short(name, longest)) for name in names]
    place: dict[str, Any] = {"range": [max(len(ticks), 1) - 0.5, -0.5]} if down else {}
    held = {"tickvals": list(range(len(ticks))), "ticktext": ticks, "showgrid": False, **place}
    return axis(**{**held, **settings})


def layer_axis(
    last: int, title: str = "layer (0 = embedding)", *, first: int = 0, **settings: Any
) -> dict[str, Any]:
    """Return an axis of layers *first* to *last* with whole numbers on it."""
    step = next(step for step in (1, 2, 5, 10, 20, last) if last <= 8 * step)
    ticks = list(range(0, last + 1, step))
    return axis(title, tickvals=ticks, range=[first - 0.5, last + 0.5], **settings)


def layout(
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    *,
    left: int = LEFT,
    bottom: int = BOTTOM,
    right: int = RIGHT,
    **settings: Any,
) -> dict[str, Any]:
    """Return a layout without title or legend, which the page supplies.

    Margins are fixed. Plotly could fit them to the labels, but the labels depend on the size of
    the plot, so that for some numbers it goes back and forth and gives up with a warning.
    """
    return {
        "xaxis": dict(x),
        "yaxis": dict(y),
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": color("ink")},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {
            "bgcolor": color("surface"),
            "bordercolor": color("axis"),
            "font": {"color": color("ink")},
            "align": "left",
        },
        "margin": {"l": left, "r": right, "t": 8, "b": bottom, "autoexpand": False},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        **settings,
    }


def error_bars(
    estimate: Sequence[float], low: Sequence[float], high: Sequence[float], tint: str
) -> dict[str, Any]:
    """Return asymmetric error bars from interval limits."""
    return {
        "type": "data",
        "symmetric": False,
        "array": finite([h - e for e, h in zip(estimate, high, strict=True)]),
        "arrayminus": finite([e - w for e, w in zip(estimate, low, strict=True)]),
        "color": tint,
        "thickness": 1.2,
        "width": 3,
    }
