"""Should I merge? What was expected of each merge before it was made, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from miscible.report.table import Column, Table, TableCell, plain
from miscible.words import counted, number, percent

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables

LINE = 30


@dataclass(frozen=True, slots=True)
class Expectation:
    """One merge; numbers are NaN where there are none, and the reason then says why."""

    merge: str
    parents: str
    mean: float
    low: float
    high: float
    reason: str
    measured: float
    error: str

    @property
    def forecast(self) -> bool:
        """Whether there is a forecast."""
        return math.isfinite(self.mean)

    @property
    def inside(self) -> bool | None:
        """Whether the outcome lies in the interval, None where one of them is not there."""
        if not self.forecast or not math.isfinite(self.measured):
            return None
        return self.low <= self.measured <= self.high


def expectations(tables: StudyTables) -> list[Expectation]:
    """Return every merge of two parents with what was expected and measured of it."""
    said = {
        (row["first"], row["second"], row["method"]): row
        for row in tables.predictions.to_dict("records")
    }
    found: list[Expectation] = []
    for row in tables.outcomes.to_dict("records"):
        key = (row["first"], row["second"], row["method"])
        held: Any = said.get(key)
        if held is None:
            reason = "the predictor knows no such method" if said else "no forecast was made"
            held = {"mean": math.nan, "low": math.nan, "high": math.nan, "reason": reason}
        found.append(
            Expectation(
                str(row["model"]), f"{row['first']} + {row['second']}", float(held["mean"]),
                float(held["low"]), float(held["high"]), str(held["reason"]),
                float(row["outcome"]), str(row["error"]),
            )
        )  # fmt: skip
    return found


def expectations_finding(tables: StudyTables) -> str:
    """Say how many merges were forecast, and how many outcomes were as expected."""
    held = expectations(tables)
    if not held:
        return ""
    told = [each.inside for each in held if each.inside is not None]
    said = f"{sum(each.forecast for each in held)} of {counted(len(held), 'merge')} were forecast"
    if not told:
        return f"{said}."
    return (
        f"{said}; of {counted(len(told), 'outcome')}, {sum(told)} came to lie in the "
        f"{_interval(tables)}."
    )


def _interval(tables: StudyTables) -> str:
    level = tables.predictions["level"].max() if len(tables.predictions) else math.nan
    return f"{percent(level)} interval" if level == level else ""


def expectations_table(tables: StudyTables) -> Table | None:
    """Return the table of all merges; None where no predictor was asked."""
    held = expectations(tables)
    if not held:
        return None
    rows = []
    for each in held:
        if each.forecast:
            expected = TableCell(f"{each.mean:.3f}", f"[{each.low:.3f}, {each.high:.3f}]")
        else:
            expected = TableCell("abstained", each.reason)
        measured = TableCell("–", each.error)
        if math.isfinite(each.measured):
            told = {True: "in the interval", False: "outside the interval", None: ""}[each.inside]
            measured = TableCell(f"{each.measured:.3f}", told)
        rows.append([TableCell(each.merge, each.parents), expected, measured])
    note = _interval(tables)
    heads = [Column("merge"), Column("expected", note), Column("measured")]
    return Table("Expected before merging, measured after", heads, rows)


def expectation_charts(tables: StudyTables) -> ChartGroup:
    """Return expected and measured scores side by side; empty without a forecast."""
    held = [each for each in expectations(tables) if each.forecast]
    if not held:
        return ChartGroup("expected-charts", ())
    held.sort(key=lambda each: -each.mean)
    places = list(range(len(held)))
    mean = [each.mean for each in held]
    low, high = [each.low for each in held], [each.high for each in held]
    tint = color("accent")
    forecast: dict[str, Any] = {
        "type": "scatter", "mode": "markers", "x": finite(mean), "y": places, "hoverinfo": "text",
        "marker": {"color": tint, "size": 9},
        "error_x": error_bars(mean, low, high, tint),
        "hovertext": [
            f"{label(e.merge)}<br>expected {e.mean:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in held
        ],
    }  # fmt: skip
    measured: dict[str, Any] = {
        "type": "scatter", "mode": "markers", "x": finite([e.measured for e in held]), "y": places,
        "hoverinfo": "text", "marker": {"color": color("s2"), "size": 10, "symbol": "diamond"},
        "hovertext": [f"{label(e.merge)}<br>measured {e.measured:.3f}" for e in held],
    }  # fmt: skip
    names = [each.merge for each in held]
    body = [
        [e.merge, *(number(v, 0.001) for v in (e.mean, e.low, e.high, e.measured))] for e in held
    ]
    ticks = category_axis(names, down=True)
    scale = tables.predictions["target"].iloc[0]
    chart = Chart(
        id="expected-and-measured",
        title="Expected and measured",
        caption="Blue circles: expected before merging, with intervals; orange diamonds: measured.",
        figure={
            "data": [forecast, measured],
            "layout": layout(axis(f"{scale} score"), ticks, left=width(names)),
        },
        table=plain("Forecasts", ["merge", "expected", "lowest", "highest", "measured"], body),
        height=LINE * len(held) + 80,
    )
    return ChartGroup("expected-charts", [chart], wide=True)
