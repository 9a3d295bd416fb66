"""Tables of internals: aggregate scores of all models, and where along depth they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from miscible.analyse.competences import OVERALL
from miscible.report.table import Column, Table, TableCell
from miscible.words import counted, listed, metric_name, number, with_interval

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables


def aggregates_table(
    analysis: Analysis, ranking: Sequence[str], tables: StudyTables
) -> Table | None:
    """Return winning rate and mean of each model, overall and per competence; None without."""
    rows = analysis.competences.rows
    if rows.empty:
        return None
    names = list(dict.fromkeys(rows["competence"]))
    held = {(row["model"], row["competence"]): row for row in rows.to_dict("records")}
    columns = [Column("model"), Column("mean winning rate"), Column("mean score")]
    columns += [Column(name, "winning rate, mean score") for name in names if name != OVERALL]
    fixed = [name for name in (tables.base, *tables.parents) if name is not None]
    body = []
    for model in [*fixed, *ranking]:
        row = held.get((model, OVERALL))
        if row is None:
            continue
        rate = _split(f"{row['winning_rate']:.0f} [{row['rate_low']:.0f}, {row['rate_high']:.0f}]")
        mean = _split(with_interval(row["score"], row["low"], row["high"]))
        cells = [TableCell(str(model)), rate, mean]
        for name in names:
            if name != OVERALL:
                part = held[(model, name)]
                cells.append(TableCell(f"{part['winning_rate']:.0f}", number(part["score"], 0.01)))
        body.append(cells)
    taus = rows.drop_duplicates("competence").set_index("competence")["tau"]
    overall = TableCell(number(float(taus[OVERALL])))
    parts = [TableCell(number(float(taus[name]))) for name in names if name != OVERALL]
    body.append([TableCell("Kendall's tau", "rate with mean"), overall, TableCell(""), *parts])
    return Table("Two ways to add up data sets", columns, body)


def uncounted(analysis: Analysis) -> Iterator[str]:
    """Yield what the aggregates leave out, a sentence each."""
    found = analysis.competences
    if found.left_out:
        parts = [
            f"{model} ({counted(n, 'data set')} missing)" for model, n in found.left_out.items()
        ]
        yield f"Left out, because a mean must be over the same data sets: {listed(parts)}."
    if found.dropped:
        yield f"Not counted, because half of the models or more lack them: {listed(found.dropped)}."


def profile_table(analysis: Analysis) -> Table | None:
    """Return centre of gravity and best layer of each phenomenon and family; None without."""
    rows = analysis.profile
    if rows.empty:
        return None
    families = list(dict.fromkeys(rows["family"]))
    counts = rows.groupby("family")["models"].max()
    columns = [Column(f"phenomenon (layers 0–{int(rows['last'].max())})")]
    columns += [
        Column(name, f"mean of {counts[name]} merges" if counts[name] > 1 else "")
        for name in families
    ]
    body = []
    for key, held in rows.groupby(["unit", "metric"], sort=False):
        by: dict[str, Any] = {row["family"]: row for row in held.to_dict("records")}
        cells = [TableCell(str(key[0]), metric_name(str(key[1])))]
        cells += [_place(by[name]) if name in by else TableCell("–") for name in families]
        body.append(cells)
    return Table("Centre of gravity and best layer", columns, body)


def distances_table(analysis: Analysis) -> Table | None:
    """Return how far the curves of merges lie from those of parents; None without."""
    rows = analysis.distances
    if rows.empty:
        return None
    families = list(dict.fromkeys(rows["family"]))
    body = []
    for key, held in rows.groupby(["unit", "parent"], sort=False):
        by: dict[str, Any] = {row["family"]: row for row in held.to_dict("records")}
        cells = [TableCell(str(key[0]), f"from {key[1]}")]
        cells += [_distance(by[name]) if name in by else TableCell("–") for name in families]
        body.append(cells)
    columns = [Column("phenomenon", "distance; shift in layers"), *map(Column, families)]
    return Table("How far the curves of merges lie from their parents'", columns, body)


def _distance(row: Any) -> TableCell:
    text = with_interval(row["distance"], row["distance_low"], row["distance_high"])
    if row["shift"] != row["shift"]:
        return TableCell(text)
    shift = with_interval(row["shift"], row["shift_low"], row["shift_high"], signed=True)
    return TableCell(text, f"shift {shift}")


def _place(row: Any) -> TableCell:
    if row["centre"] != row["centre"]:
        return TableCell("flat")
    text = f"{row['centre']:.1f}"
    if row["centre_low"] == row["centre_low"]:
        text += f" [{row['centre_low']:.1f}, {row['centre_high']:.1f}]"
    if row["best"] != row["best"]:
        return TableCell(text)
    ends = f"{row['best_low']:.0f}–{row['best_high']:.0f}"
    return TableCell(text, f"best {row['best']:.0f} ({ends})")


def _split(text: str) -> TableCell:
    value, _, ends = text.partition(" [")
    return TableCell(value, f"[{ends}" if ends else "")
