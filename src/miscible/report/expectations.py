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
from miscible.report.table import Column, Table, TableCell

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
        there = math.isfinite(each.measured)
        measured = TableCell(f"{each.measured:.3f}") if there else TableCell("–", each.error)
        verdict = TableCell("")
        if each.forecast and there:
            inside = each.low <= each.measured <= each.high
            verdict = TableCell("within" if inside else "outside", "of the interval")
        rows.append([TableCell(each.merge, each.parents), expected, measured, verdict])
    level = tables.predictions["level"].max() if len(tables.predictions) else math.nan
    note = f"{level:.0%} interval" if level == level else ""
    heads = [Column("merge"), Column("expected", note), Column("measured"), Column("")]
    return Table("Expected before merging, measured after", heads, rows)


def expectation_charts(tables: StudyTables) -> ChartGroup:
    """Return expected and measured scores side by side; empty without a forecast."""
    held = [each for each in expectations(tables) if each.forecast]
    table = expectations_table(tables)
    if not held or table is None:
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
        table=table,
        height=LINE * len(held) + 80,
    )
    return ChartGroup("expected-charts", [chart], wide=True)
