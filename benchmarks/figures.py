"""Figures as SVG text: bars with marks, and small multiples of lines on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#5f6b6d",
    "#a5142e",
)  # fmt: skip
"""Told apart by most eyes that do not see all colours."""
INK, FAINT = "#222222", "#dddddd"
_LEAST_SPAN = math.log10(2.5)
"""Of an axis: what hardly differs should look like it."""
_STYLE = "font-family:system-ui,sans-serif;font-size:12px"


class Bar(NamedTuple):
    """A bar: its name, its length, and where a mark stands on it."""

    name: str
    value: float
    mark: float | None = None


class Panel(NamedTuple):
    """A panel of lines: its title, the name of the axis below, and points by the line's name."""

    title: str
    across: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def bar_figure(title: str, bars: Sequence[Bar], mark: str) -> str:
    """Return horizontal bars, each with a tick where its mark is."""
    left, right, top, step = 140, 80, 48, 30
    width, height = 760, top + step * len(bars) + 40
    longest = max(max(bar.value, bar.mark or 0.0) for bar in bars)
    scale = (width - left - right) / longest
    parts = [_text(12, 24, title, size=15)]
    for number, bar in enumerate(bars):
        y = top + number * step
        parts += [
            _text(left - 8, y + 15, bar.name, anchor="end"),
            f'<rect x="{left}" y="{y}" width="{bar.value * scale:.1f}" height="20" '
            f'fill="{COLORS[0]}"/>',
            _text(width - right + 12, y + 15, f"{bar.value:.1f}"),
        ]
        if bar.mark is not None:
            parts.append(_line(left + bar.mark * scale, y - 3, left + bar.mark * scale, y + 23,
                               COLORS[1], 3))  # fmt: skip
    y = top + step * len(bars) + 16
    parts += [_line(left, y - 10, left, y + 4, COLORS[1], 3), _text(left + 8, y + 2, mark)]
    return _document(width, height, parts)


def panel_figure(title: str, rows: Sequence[tuple[str, Sequence[Panel]]]) -> str:
    """Return rows of panels; panels of a row share the colours of their lines.

    Args:
        title: of the figure.
        rows: name and panels of each row.
    """
    wide, high, left, top = 300, 220, 150, 48
    columns = max(len(panels) for _, panels in rows)
    parts = [_text(12, 26, title, size=16)]
    for number, (name, panels) in enumerate(rows):
        y = top + number * high
        names = list(dict.fromkeys(line for panel in panels for line in panel.lines))
        colors = {line: COLORS[i % len(COLORS)] for i, line in enumerate(names)}
        parts.append(_text(12, y + 14, name, size=13, weight="bold"))
        for i, line in enumerate(names):
            parts += [_line(12, y + 28 + 15 * i, 26, y + 28 + 15 * i, colors[line], 3),
                      _text(31, y + 32 + 15 * i, line, size=11)]  # fmt: skip
        for column, panel in enumerate(panels):
            parts += _panel(panel, left + column * wide + 46, y + 22, wide - 64, high - 74, colors)
    return _document(left + columns * wide, top + len(rows) * high, parts)


def _panel(
    panel: Panel, x: float, y: float, width: float, height: float, colors: Mapping[str, str]
) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    if not points:
        return []
    across = _Axis([point[0] for point in points], x, x + width)
    up = _Axis([point[1] for point in points], y + height, y)
    parts = [_text(x, y - 8, panel.title, size=11)]
    for value in across.ticks:
        place = across.at(value)
        foot = y + height
        parts += [_line(place, y, place, foot, FAINT),
                  _text(place, foot + 14, _number(value), size=10, anchor="middle")]  # fmt: skip
    for value in up.ticks:
        place = up.at(value)
        parts += [_line(x, place, x + width, place, FAINT),
                  _text(x - 5, place + 3, _number(value), size=10, anchor="end")]  # fmt: skip
    parts.append(_text(x + width / 2, y + height + 28, panel.across, size=10, anchor="middle"))
    for name, line in panel.lines.items():
        placed = [(across.at(a), up.at(b)) for a, b in sorted(line)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colors[name]}" '
                     'stroke-width="1.8"/>')  # fmt: skip
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.4" fill="{colors[name]}">'
                  f"<title>{escape(name)}</title></circle>" for a, b in placed]  # fmt: skip
    return parts


class _Axis:
    # A logarithmic axis from *start* to *end*, on the paper.
    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = math.log10(min(values)), math.log10(max(values))
        room = max(0.05 * (high - low), (_LEAST_SPAN - high + low) / 2)
        self._low, self._high = low - room, high + room
        self._start, self._end = start, end
        self.ticks = self._ticks()

    def at(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def _ticks(self) -> list[float]:
        for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1, 1.5, 2, 3, 4, 5, 6, 7, 8)):
            found = [
                step * 10.0**power
                for power in range(math.floor(self._low), math.ceil(self._high) + 1)
                for step in steps
                if self._low <= math.log10(step) + power <= self._high
            ]
            if len(found) >= 3:
                return found
        return found


def _number(value: float) -> str:
    return f"{value:g}"


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "normal"
) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}" fill="{INK}">{escape(text)}</text>')  # fmt: skip


def _line(x: float, y: float, end: float, bottom: float, color: str, width: float = 1.0) -> str:
    return (f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end:.1f}" y2="{bottom:.1f}" '
            f'stroke="{color}" stroke-width="{width}"/>')  # fmt: skip


def _document(width: float, height: float, parts: Sequence[str]) -> str:
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" style="{_STYLE}">',
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
        *parts,
        "</svg>",
        "",
    ])  # fmt: skip
