"""The boxes that show and hide models in curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miscible.report.figure import Chart, Toggle

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.report.palette import Palette

SHOWN_AT_FIRST = 3
"""Merges whose curves are visible before the reader chooses."""


def model_toggles(
    charts: Sequence[Chart],
    present: set[str],
    tables: StudyTables,
    analysis: Analysis,
    palette: Palette,
    ranking: Sequence[str],
) -> list[Toggle]:
    """Return a box for each model, and hide in *charts* what is not shown at first.

    Args:
        charts: traces whose group is a model's name follow its box.
        present: models that have rows; the others get no box.
        tables, analysis, palette: of the study.
        ranking: merges, the best first: the first that have not collapsed are shown.
    """
    alive = [merge for merge in ranking if merge not in analysis.collapsed][:SHOWN_AT_FIRST]
    fixed = [name for name in (tables.base, *tables.parents) if name in present]
    toggles = [Toggle(str(name), str(name), palette.models[str(name)]) for name in fixed]
    toggles += [
        Toggle(merge, merge, palette.models[merge], shown=merge in alive)
        for merge in tables.merges
        if merge in present
    ]
    hidden = {toggle.group for toggle in toggles if not toggle.shown}
    for chart in charts:
        for trace in chart.figure["data"]:
            if trace.get("meta", {}).get("group") in hidden:
                trace["visible"] = False
    return toggles
