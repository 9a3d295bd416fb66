"""What the numbers say, in sentences, each with the number that it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from miscible.analyse.overall import Verdict
from miscible.analyse.standing import Standing
from miscible.words import counted, listed, metric_name, number, percent, with_interval

if TYPE_CHECKING:
    import pandas as pd

    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables

SIGMA = "standard deviations of an item"


class ClaimKind(StrEnum):
    """What a sentence about a merge is about."""

    COLLAPSED = "collapsed"
    SURPASSES = "surpasses"
    FALLS_BELOW = "falls below"
    BEATS_BASE = "beats base"
    BEHIND_BASE = "behind base"
    OFF_THE_LINE = "off the line"
    UNRESOLVED = "unresolved"


@dataclass(frozen=True)
class Claim:
    """A sentence about a merge on some tasks.

    Attributes:
        kind: what it is about.
        text: the sentence.
        datasets: the tasks it concerns.
    """

    kind: ClaimKind
    text: str
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class MergeVerdict:
    """What is known about one merge.

    Attributes:
        model: the merge.
        verdict: against the best of its parents; it has the exit code.
        headline: the verdict as a sentence.
        claims: what else the tasks show, the strongest kinds first.
        difference: merge minus best parent in standard deviations of an item, NaN if unknown.
    """

    model: str
    verdict: Verdict
    headline: str
    claims: tuple[Claim, ...]
    difference: float


def verdicts(tables: StudyTables, analysis: Analysis) -> tuple[MergeVerdict, ...]:
    """Return a verdict for each merge, the best first; merges without a common task come last."""
    rows = {str(row["model"]): row for row in analysis.overall.to_dict("records")}
    found = []
    for merge in tables.merges:
        row = rows.get(merge)
        found.append(
            MergeVerdict(
                model=merge,
                verdict=Verdict(row["verdict"]) if row else Verdict.INCONCLUSIVE,
                headline=_headline(merge, row, tables),
                claims=tuple(_claims(merge, tables, analysis)),
                difference=float(row["difference"]) if row else float("nan"),
            )
        )
    order = [Verdict.BETTER, Verdict.INCONCLUSIVE, Verdict.WORSE]
    return tuple(
        sorted(
            found,
            key=lambda v: (
                order.index(v.verdict),
                -v.difference if v.difference == v.difference else float("inf"),
            ),
        )
    )


def _headline(merge: str, row: Any, tables: StudyTables) -> str:
    if row is None:
        return f"{merge} shares no behaviour task with {tables.every_parent()}: nothing to compare."
    by = with_interval(row["difference"], row["low"], row["high"], signed=True)
    tasks = f"on average over {counted(int(row['tasks']), 'task')}"
    best = f"{row['best_parent']}, " if len(tables.parents) > 1 else f"{row['best_parent']} "
    which = "the best parent, " if len(tables.parents) > 1 else ""
    if row["verdict"] == Verdict.BETTER:
        return (
            f"{merge} is better than {tables.every_parent()} {tasks}: {by} {SIGMA} "
            f"against {row['best_parent']}{', the best one' if which else ''}."
        )
    if row["verdict"] == Verdict.WORSE:
        return f"{merge} is worse than {best}{which}{tasks}: {by} {SIGMA}."
    return (
        f"{merge} cannot be told from {best}{which}{tasks}: {by} {SIGMA}; a true difference "
        f"below {number(row['detectable'])} would usually be missed."
    )


def _claims(merge: str, tables: StudyTables, analysis: Analysis) -> Iterator[Claim]:
    standings = analysis.standings[analysis.standings["model"] == merge]
    of = {standing: standings[standings["standing"] == standing] for standing in Standing}
    if merge in analysis.collapsed:
        yield Claim(ClaimKind.COLLAPSED, f"It has collapsed: {analysis.collapsed[merge]}.")
        yield from _among_parents(of[Standing.BELOW], Standing.BELOW, tables)
        return
    for standing in (Standing.ABOVE, Standing.BELOW):
        yield from _among_parents(of[standing], standing, tables)
    yield from _against_base(merge, tables, analysis)
    yield from _off_the_line(merge, tables, analysis)
    yield from _unresolved(of[Standing.UNRESOLVED], tables)


def _among_parents(rows: pd.DataFrame, standing: Standing, tables: StudyTables) -> Iterator[Claim]:
    if rows.empty:
        return
    above = standing is Standing.ABOVE
    parts = [
        f"{row['dataset']} ({metric_name(row['metric'])} "
        f"{with_interval(row['difference'], row['low'], row['high'], signed=True)}"
        f"{' against ' + row['better_parent'] if len(tables.parents) > 1 else ''})"
        for row in rows.to_dict("records")
    ]
    verb = "surpasses" if above else "is worse than"
    yield Claim(
        ClaimKind.SURPASSES if above else ClaimKind.FALLS_BELOW,
        f"It {verb} {tables.every_parent()} on {listed(parts)}.",
        tuple(rows["dataset"]),
    )


def _against_base(merge: str, tables: StudyTables, analysis: Analysis) -> Iterator[Claim]:
    rows = analysis.behaviour
    rows = rows[(rows["model"] == merge) & (rows["reference_role"] == "base")]
    shown = rows[rows["p_holm"] <= analysis.options.alpha]
    for row in shown.sort_values("p_holm", kind="stable").to_dict("records"):
        better = (row["difference"] > 0) == row["higher_is_better"]
        by = with_interval(row["difference"], row["low"], row["high"], signed=True)
        width = row["high"] - row["low"]
        old, new = (number(row[name], width) for name in ("reference_score", "model_score"))
        kept = _kept(row, analysis.gains) if better else ""
        text = (
            f"It {'beats' if better else 'falls behind'} {tables.base} on {row['dataset']} "
            f"({old} -> {new} {metric_name(row['metric'])}, paired difference {by}){kept}."
        )
        kind = ClaimKind.BEATS_BASE if better else ClaimKind.BEHIND_BASE
        yield Claim(kind, text, (row["dataset"],))


def _kept(row: Any, gains: pd.DataFrame) -> str:
    same = (gains["model"] == row["model"]) & (gains["dataset"] == row["dataset"])
    held = gains[same & (gains["metric"] == row["metric"])].dropna(subset=["retained"])
    if held.empty:
        return ""
    most = held.iloc[int(held["gain"].argmax())]
    kept = percent(most["retained"], most["low"], most["high"])
    return f" and keeps {kept} of {most['parent']}'s gain"


def _off_the_line(merge: str, tables: StudyTables, analysis: Analysis) -> Iterator[Claim]:
    ends = "its parents" if len(tables.parents) > 1 else "base and parent"
    rows = analysis.doses
    rows = rows[(rows["model"] == merge) & (rows["p_holm"] <= analysis.options.alpha)]
    better = (rows["deviation"] > 0) == rows["higher_is_better"].astype(bool)
    for word, held in (("better", rows[better]), ("worse", rows[~better])):
        if held.empty:
            continue
        parts = [
            f"{row['dataset']} ({metric_name(row['metric'])} "
            + with_interval(
                row["deviation"], row["deviation_low"], row["deviation_high"], signed=True
            )
            + ")"
            for row in held.to_dict("records")
        ]
        yield Claim(
            ClaimKind.OFF_THE_LINE,
            f"At its dose of {number(float(held['dose'].iloc[0]))} it does {word} than the "
            f"straight line between {ends} on {listed(parts)}.",
            tuple(held["dataset"]),
        )


def _unresolved(rows: pd.DataFrame, tables: StudyTables) -> Iterator[Claim]:
    for row in rows[rows["missing_parents"] != ""].to_dict("records"):
        yield Claim(
            ClaimKind.UNRESOLVED,
            f"It is not placed among its parents on {row['dataset']} "
            f"({metric_name(row['metric'])}): no items to compare with {row['missing_parents']}.",
            (row["dataset"],),
        )
    rows = rows[rows["missing_parents"] == ""]
    if rows.empty:
        return
    what = "at least one parent" if len(tables.parents) > 1 else "its parent"
    parts = [
        f"{row['dataset']} ({counted(int(row['n_items']), 'item')} would usually miss a "
        f"difference in {metric_name(row['metric'])} below {number(row['detectable'])})"
        for row in rows.to_dict("records")
    ]
    yield Claim(
        ClaimKind.UNRESOLVED,
        f"It cannot be told from {what} on {listed(parts)}.",
        tuple(rows["dataset"]),
    )
