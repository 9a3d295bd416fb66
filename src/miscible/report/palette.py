"""Which look each model and family gets, the same in every chart.

Colours are named series of the style sheet (Okabe and Ito 2008, darkened for light backgrounds to
a contrast of 3:1). Base and parents keep theirs; families take the rest in the order of the study.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from miscible.report.figure import Style, color

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables

PARENT_SERIES = ("s1", "s2", "s8")
FAMILY_SERIES = ("s3", "s4", "s5", "s6", "s7")
PARENT_SYMBOLS = ("square", "diamond", "hourglass")
FAMILY_SYMBOLS = ("circle", "triangle-up", "triangle-down", "star", "cross", "pentagon", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


class Palette:
    """Styles of the models and families of a study.

    Attributes:
        models, families: looks of lines and markers.
        band: colours of the intervals of base and parents.
        shades: colours of the intervals of all models.
    """

    def __init__(self, tables: StudyTables) -> None:
        self.models: dict[str, Style] = {}
        self.families: dict[str, Style] = {}
        self.band: dict[str, str] = {}
        self.shades: dict[str, str] = {}
        if tables.base is not None:
            self._keep(tables.base, Style(color("ink"), "dot", "x", 2.5), "ink")
        for i, parent in enumerate(tables.parents):
            series = PARENT_SERIES[i % len(PARENT_SERIES)]
            symbol = PARENT_SYMBOLS[i % len(PARENT_SYMBOLS)]
            self._keep(parent, Style(color(series), "solid", symbol, 3.0), series)
        of: dict[str, list[str]] = {}
        for merge in tables.merges:
            of.setdefault(tables.family[merge], []).append(merge)
        for i, (family, merges) in enumerate(of.items()):
            series = FAMILY_SERIES[i % len(FAMILY_SERIES)]
            tint = color(series)
            symbol = FAMILY_SYMBOLS[i % len(FAMILY_SYMBOLS)]
            self.families[family] = Style(tint, DASHES[i % len(DASHES)], symbol)
            for j, merge in enumerate(merges):
                self.models[merge] = Style(tint, DASHES[(i + j) % len(DASHES)], symbol)
                self.shades[merge] = color(f"{series}-band")

    def _keep(self, model: str, style: Style, series: str) -> None:
        self.models[model] = style
        self.band[model] = self.shades[model] = color(f"{series}-band")
