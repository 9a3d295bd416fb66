"""The report: one HTML file that needs nothing else, on any screen, in light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.analyse import analyse, findings, verdicts
from miscible.report.charts.competences import competence_charts
from miscible.report.charts.difference_map import difference_maps
from miscible.report.charts.dose import dose_charts
from miscible.report.charts.layers import (
    has_selectivity,
    has_words,
    layer_charts,
    layers_that_differ,
)
from miscible.report.charts.preference import preference_charts
from miscible.report.charts.ranks import rank_charts
from miscible.report.charts.similarity import similarity_charts
from miscible.report.document import document, write_document
from miscible.report.expectations import (
    expectation_charts,
    expectations_finding,
    expectations_table,
)
from miscible.report.internals_tables import (
    aggregates_table,
    distances_table,
    profile_table,
    uncounted,
)
from miscible.report.measure_page import mergeability_groups, mergeability_tables
from miscible.report.mergeability import Mergeability
from miscible.report.palette import Palette
from miscible.report.provenance import (
    exclusions,
    failures_table,
    models_table,
    provenance_table,
)
from miscible.report.score_tables import (
    SIGNS,
    doses_table,
    gains_table,
    matched_table,
    scores_table,
    standing_meanings,
)

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables


@dataclass(frozen=True)
class Span:
    """Where an interval lies on the scale of all merges, in per cent of its width."""

    low: float
    value: float
    high: float
    zero: float


def write_report(tables: StudyTables, path: Path, analysis: Analysis | None = None) -> None:
    """Write the report of a study.

    The file is complete or absent: it is written beside *path* and renamed.

    Args:
        tables: the study.
        path: where to write.
        analysis: of the same study, if it is at hand; otherwise it is run here.

    Raises:
        StoreError: if the file cannot be written.
    """
    write_document(render(tables, analysis or analyse(tables)), path)


def render(tables: StudyTables, analysis: Analysis) -> str:
    """Return the report as HTML."""
    merges = verdicts(tables, analysis)
    ranking = [merge.model for merge in merges]
    palette = Palette(tables)
    groups = {
        "dose": dose_charts(tables, analysis, palette, domain="behaviour"),
        "inner_dose": dose_charts(tables, analysis, palette, domain="internals"),
        "competences": competence_charts(tables, analysis, palette),
        "maps": difference_maps(tables, analysis, ranking),
        "similarity": similarity_charts(tables, analysis, palette, ranking),
        "layers": layer_charts(tables, analysis, palette, ranking),
        "preference": preference_charts(tables, analysis, palette),
        "ranks": rank_charts(analysis),
    }
    groups["expected"] = expectation_charts(tables)
    before = Mergeability(tables.mergeability, tables.base or "base")
    groups |= mergeability_groups(before)
    return document(
        "report.html.j2",
        groups,
        study=tables,
        analysis=analysis,
        findings=findings(tables, analysis, merges),
        merges=merges,
        spans=_spans(analysis),
        scores=scores_table(tables, analysis, ranking),
        gains=gains_table(tables, analysis, ranking),
        matched=matched_table(analysis),
        doses=doses_table(tables),
        mergeability=mergeability_tables(before) if before.models else None,
        expectations=expectations_table(tables),
        expected=expectations_finding(tables),
        depth=layers_that_differ(tables, analysis),
        aggregates=aggregates_table(analysis, ranking, tables),
        profile=profile_table(analysis),
        distances=distances_table(analysis),
        uncounted=list(uncounted(analysis)),
        has_words=has_words(tables),
        has_selectivity=has_selectivity(tables),
        provenance=provenance_table(tables),
        models=models_table(tables),
        failures=failures_table(tables),
        exclusions=exclusions(tables, analysis),
        signs=[(str(s), SIGNS[s], text) for s, text in standing_meanings(tables).items()],
    )


def _spans(analysis: Analysis) -> dict[str, Span]:
    """Return each merge's interval on one scale; collapsed merges are clipped to its end."""
    rows: dict[str, Any] = {str(row["model"]): row for row in analysis.overall.to_dict("records")}
    alive = [row for name, row in rows.items() if name not in analysis.collapsed]
    reach = max(
        (abs(row[end]) for row in alive or rows.values() for end in ("low", "high")), default=1
    )
    reach = 1.1 * reach if reach > 0 else 1.0

    def place(value: float) -> float:
        return round(50 + 50 * min(max(value / reach, -1.0), 1.0), 2)

    return {
        name: Span(place(row["low"]), place(row["difference"]), place(row["high"]), place(0.0))
        for name, row in rows.items()
        if row["low"] == row["low"]
    }
