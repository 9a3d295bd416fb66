"""Tables of what the models score: tasks, retained gains, methods at one dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from miscible.analyse.standing import Standing
from miscible.report.table import Column, Table, TableCell, plain
from miscible.words import metric_name, number, p_value, percent, with_interval

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables

SIGNS = {
    Standing.ABOVE: "▲",
    Standing.BETWEEN: "◆",
    Standing.BELOW: "▼",
    Standing.UNRESOLVED: "○",
}


def standing_meanings(tables: StudyTables) -> dict[Standing, str]:
    """Return what each sign means, for the legend and for screen readers."""
    every = tables.every_parent()
    if len(tables.parents) == 1:
        return {
            Standing.ABOVE: f"better than {every}",
            Standing.BELOW: f"worse than {every}",
            Standing.UNRESOLVED: f"not told from {every}",
        }
    return {
        Standing.ABOVE: f"better than {every}",
        Standing.BETWEEN: "between the parents",
        Standing.BELOW: f"worse than {every}",
        Standing.UNRESOLVED: "not told from at least one parent",
    }


def scores_table(tables: StudyTables, analysis: Analysis, ranking: Sequence[str]) -> Table | None:
    """Return models x behaviour tasks, merges in the order of *ranking*; None without scores."""
    rows = tables.scores[tables.scores["domain"] == "behaviour"]
    if rows.empty:
        return None
    meanings = standing_meanings(tables)
    tasks = rows.drop_duplicates(["dataset", "metric"])
    held = {(r["model"], r["dataset"], r["metric"]): r for r in rows.to_dict("records")}
    place = {
        (r["model"], r["dataset"], r["metric"]): Standing(r["standing"])
        for r in analysis.standings.to_dict("records")
    }
    columns = [Column("model")]
    for task in tasks.to_dict("records"):
        arrow = "↑" if task["higher_is_better"] else "↓"
        columns.append(Column(task["dataset"], f"{metric_name(task['metric'])} {arrow}"))
    role = dict(zip(tables.models["model"], tables.models["role"], strict=True))
    fixed = [name for name in (tables.base, *tables.parents) if name is not None]
    body = []
    for model in [*fixed, *ranking]:
        broken = "collapsed" if model in analysis.collapsed else str(role[model])
        cells = [TableCell(model, note=broken)]
        for task in tasks.to_dict("records"):
            key = (model, task["dataset"], task["metric"])
            cells.append(_score_cell(held.get(key), place.get(key), meanings))
        body.append(cells)
    level = f"{100 * analysis.options.level:.0f} %"
    return Table(f"Scores with {level} intervals", columns, body)


def gains_table(tables: StudyTables, analysis: Analysis, ranking: Sequence[str]) -> Table | None:
    """Return what each merge keeps of the gain of the parent that gains most on each task.

    None if no parent shows a gain.
    """
    rows = analysis.gains.dropna(subset=["retained"])
    if rows.empty:
        return None
    most = rows.sort_values("gain", ascending=False, kind="stable")
    most = most.drop_duplicates(["dataset", "metric"]).sort_index()
    columns = [Column("merge")]
    for pair in _records(most):
        columns.append(Column(pair["dataset"], f"{metric_name(pair['metric'])}, {pair['parent']}"))
    held = {(r["model"], r["parent"], r["dataset"], r["metric"]): r for r in _records(rows)}
    body = []
    for merge in ranking:
        cells = [TableCell(merge)]
        for pair in _records(most):
            row = held.get((merge, pair["parent"], pair["dataset"], pair["metric"]))
            text = percent(row["retained"], row["low"], row["high"]) if row else "–"
            value, _, ends = text.partition(" [")
            cells.append(TableCell(value, note=f"[{ends}" if ends else ""))
        body.append(cells)
    caption = f"Share of the best parent's gain over {tables.base} that a merge keeps"
    return Table(caption, columns, body)


def matched_table(analysis: Analysis) -> Table | None:
    """Return the methods compared at one dose; None if fewer than two methods reach it."""
    rows = analysis.matched
    if rows.empty:
        return None
    body = []
    for row in _records(rows.sort_values("p_value", kind="stable")):
        better = (row["difference"] > 0) == row["higher_is_better"]
        shown = row["p_holm"] <= analysis.options.alpha
        winner = row["family"] if better else row["other"]
        body.append(
            [
                f"{row['family']} vs {row['other']}",
                f"{row['dataset']} ({metric_name(row['metric'])})",
                with_interval(row["difference"], row["low"], row["high"], signed=True),
                p_value(row["p_holm"]),
                winner if shown else "not told apart",
            ]
        )
    dose = number(float(rows["dose"].iloc[0]))
    heads = ["methods", "task", "difference", "p (Holm)", "better"]
    return plain(f"Methods at the same measured dose of {dose}", heads, body)


def doses_table(tables: StudyTables) -> Table | None:
    """Return the measured dose of each parent in each merge; None without doses."""
    if tables.doses.empty:
        return None
    asked = dict(zip(tables.models["model"], tables.models["requested_dose"], strict=True))
    body = [
        [
            row["model"],
            row["parent"],
            number(float(asked.get(row["model"], float("nan")))),
            *(
                number(float(row[name]))
                for name in ("share", "projection", "coefficient", "cosine", "residual")
            ),
        ]
        for row in _records(tables.doses)
    ]
    heads = [
        "merge",
        "parent",
        "asked dose",
        "share",
        "projection",
        "coefficient",
        "cosine",
        "residual",
    ]
    return plain("How much of each parent a merge contains, by its weights", heads, body)


def _score_cell(row: Any, standing: Standing | None, meanings: dict[Standing, str]) -> TableCell:
    if row is None:
        return TableCell("–", meaning="no score")
    text = with_interval(float(row["estimate"]), float(row["low"]), float(row["high"]))
    value, _, ends = text.partition(" [")
    note = f"[{ends}" if ends else ""
    if standing is None:
        return TableCell(value, note)
    return TableCell(value, note, str(standing), SIGNS[standing], meanings[standing])


def _records(frame: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = frame.to_dict("records")
    return records
