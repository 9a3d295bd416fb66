"""The report: one HTML file that needs nothing else, on any screen, in light and dark."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from miscible.analyse import analyse, findings, verdicts
from miscible.errors import StoreError
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
from miscible.report.internals_tables import aggregates_table, profile_table, uncounted
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
    from collections.abc import Sequence

    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.report.figure import ChartGroup


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
    html = render(tables, analysis or analyse(tables))
    try:
        _write(html, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"the report cannot be written: {reason}.", where=str(path)) from error


def _write(html: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(html)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def render(tables: StudyTables, analysis: Analysis) -> str:
    """Return the report as HTML."""
    from plotly.offline import get_plotlyjs

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
    scripts = [get_plotlyjs(), _resource("report.js")]
    environment = Environment(
        loader=PackageLoader("miscible.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    template = environment.get_template("report.html.j2")
    return template.render(
        study=tables,
        analysis=analysis,
        findings=findings(tables, analysis, merges),
        merges=merges,
        spans=_spans(analysis),
        scores=scores_table(tables, analysis, ranking),
        gains=gains_table(tables, analysis, ranking),
        matched=matched_table(analysis),
        doses=doses_table(tables),
        depth=layers_that_differ(tables, analysis),
        aggregates=aggregates_table(analysis, ranking, tables),
        profile=profile_table(analysis),
        uncounted=list(uncounted(analysis)),
        has_words=has_words(tables),
        has_selectivity=has_selectivity(tables),
        provenance=provenance_table(tables),
        models=models_table(tables),
        failures=failures_table(tables),
        exclusions=exclusions(tables, analysis),
        signs=[(str(s), SIGNS[s], text) for s, text in standing_meanings(tables).items()],
        groups=groups,
        figures=figures_json(list(groups.values())),
        styles=Markup(_resource("report.css")),  # noqa: S704  our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704  our own and Plotly's
        script_hashes=[_hash(script) for script in scripts],
    )


def breakable(text: str) -> Markup:
    """Return text whose lines may break after the separators that model names are made of."""
    parts = re.split(r"(?<=[_/+.:-])", text)
    return Markup("<wbr>").join(parts)


def figures_json(groups: Sequence[ChartGroup]) -> Markup:
    """Return all figures as JSON that is inert inside a script element.

    No model name can close the element or open a comment: ``<``, ``>`` and ``&`` are written as
    escapes of JSON.
    """
    held = {
        chart.id: {**chart.figure, **({"views": chart.views} if chart.views else {})}
        for group in groups
        for chart in group.charts
    }
    text = json.dumps(rounded(held), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  escaped above


def rounded(value: Any) -> Any:
    """Return plain nested data with its numbers cut to the five digits that a screen can show."""
    if isinstance(value, float):
        short = float(f"{value:.5g}")
        return int(short) if short.is_integer() else short
    if isinstance(value, Mapping):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return value


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


def _resource(name: str) -> str:
    return files("miscible.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
