"""Where the numbers come from, and which are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from miscible.analyse.taxonomy import distinct_metrics
from miscible.report.table import Table, plain
from miscible.words import counted, listed

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables

NUMERICS = ("code", "libraries", "seed", "dtype", "device")
"""Columns of a row's provenance that one study should hold constant."""


def provenance_table(tables: StudyTables) -> Table:
    """Return the study's provenance, flattened; numerics that differ between rows are listed."""
    rows = [[name, value] for name, value in _flat(tables.provenance)]
    for name in NUMERICS:
        if name in tables.scores:
            values = sorted({str(value) for value in tables.scores[name].dropna()})
            mixed = " (differs between rows)" if len(values) > 1 else ""
            rows.append([f"rows: {name}", "; ".join(values) + mixed])
    return plain("Versions, numerics and seconds", ["what", "value"], rows)


def models_table(tables: StudyTables) -> Table:
    """Return every model with its reference and fingerprint."""
    columns = ["model", "role", "family", "reference", "fingerprint"]
    body = [[str(row[name]) for name in columns] for row in tables.models.to_dict("records")]
    return plain("Models", columns, body)


def failures_table(tables: StudyTables) -> Table | None:
    """Return the cells that failed; None if none did."""
    if tables.failures.empty:
        return None
    columns = ["model", "step", "error"]
    body = [[str(row[name]) for name in columns] for row in tables.failures.to_dict("records")]
    return plain("Cells that failed", columns, body)


def exclusions(tables: StudyTables, analysis: Analysis) -> tuple[str, ...]:
    """Return what was left out of the analysis and why, one sentence each."""
    return tuple(_exclusions(tables, analysis))


def _exclusions(tables: StudyTables, analysis: Analysis) -> Iterator[str]:
    dropped = sum(int(frame["n_dropped"].sum()) for frame in (analysis.behaviour, analysis.layers))
    yield (
        f"{counted(dropped, 'item comparison')} dropped because only one of the two models has "
        "the item."
    )
    empty = int(tables.scores["estimate"].isna().sum()) if len(tables.scores) else 0
    yield f"{counted(empty, 'score')} without a value."
    if len(tables.scores):
        probes = distinct_metrics(tables.scores[tables.scores["domain"] == "internals"])
        flat = int(probes["flags"].str.contains("collapsed").sum())
        yield f"{counted(flat, 'probe')} at the score of a constant predictor (flagged collapsed)."
    lost = [merge for merge in tables.merges if merge not in tables.dose]
    if lost:
        yield f"No measured dose, so not on the dose curves: {listed(lost)}."
    alone = analysis.gains[(analysis.gains["reason"] != "") & (analysis.gains["n_items"] > 0)]
    if len(alone):
        tasks = alone.drop_duplicates(["parent", "dataset", "metric"])
        parts = [f"{row.parent} on {row.dataset}" for row in tasks.itertuples()]
        yield f"No retained gain where the parent shows none over the base: {listed(parts)}."
    for reason, rows in analysis.ranks[analysis.ranks["reason"] != ""].groupby("reason"):
        yield f"{counted(len(rows), 'correlation')} not computed: {reason}."
    if len(analysis.collapsed):
        yield f"Collapsed, shown apart: {listed(analysis.collapsed)}."


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{path} · {name}" if path else str(name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield path, ", ".join(str(part) for part in value)
    else:
        yield path, f"{value:.2f}" if isinstance(value, float) else str(value)
