"""What the study as a whole found, in a few sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from miscible.analyse.overall import Verdict
from miscible.analyse.standing import Standing
from miscible.words import (
    counted,
    listed,
    metric_name,
    number,
    percent,
    spans,
    with_interval,
)

if TYPE_CHECKING:
    from miscible.analyse.summary import Analysis
    from miscible.analyse.tables import StudyTables
    from miscible.analyse.verdicts import MergeVerdict


def findings(
    tables: StudyTables, analysis: Analysis, merges: Sequence[MergeVerdict]
) -> tuple[str, ...]:
    """Return the findings of a study, the most asked-for first."""
    parts = (
        _tally(tables, analysis, merges),
        _standings(tables, analysis),
        _matched(tables, analysis),
        _depths(tables, analysis),
        _collapsed(analysis),
        _correlations(analysis),
        _missing(tables),
    )
    return tuple(sentence for part in parts for sentence in part)


def _tally(
    tables: StudyTables, analysis: Analysis, merges: Sequence[MergeVerdict]
) -> Iterator[str]:
    if not merges or analysis.overall.empty:
        yield "No merge shares a behaviour task with its parents, so there is no verdict."
        return
    by = {
        verdict: [merge.model for merge in merges if merge.verdict is verdict]
        for verdict in Verdict
    }
    better, worse, open_ = by[Verdict.BETTER], by[Verdict.WORSE], by[Verdict.INCONCLUSIVE]
    parts = [
        f"{len(better)} {_are(better)} better than {tables.every_parent()}",
        f"{len(worse)} {_are(worse)} worse than the best parent",
        f"{len(open_)} cannot be told from it",
    ]
    tasks = counted(int(analysis.overall["tasks"].max()), "task")
    yield f"On average over {tasks}, of {counted(len(merges), 'merge')} {listed(parts)}."
    if better:
        yield f"Best: {merges[0].headline}"


def _standings(tables: StudyTables, analysis: Analysis) -> Iterator[str]:
    rows = analysis.standings
    rows = rows[rows["missing_parents"] == ""]
    if rows.empty:
        return
    above = rows[rows["standing"] == Standing.ABOVE]
    cells = f"{len(rows)} comparisons of a merge on a task"
    if above.empty:
        yield f"In none of {cells} does the merge demonstrably surpass {tables.every_parent()}."
        return
    tasks = listed(sorted(set(above["dataset"])))
    yield (
        f"In {len(above)} of {cells} the merge surpasses {tables.every_parent()} (on {tasks}), "
        "after correction for all of them."
    )


def _matched(tables: StudyTables, analysis: Analysis) -> Iterator[str]:
    rows = analysis.matched
    if rows.empty:
        return
    dose = number(float(rows["dose"].iloc[0]))
    methods = sorted({*rows["family"], *rows["other"]})
    shown = rows[rows["p_holm"] <= analysis.options.alpha]
    if shown.empty:
        yield (
            f"At the same measured dose of {dose}, no difference between {listed(methods)} "
            "survives correction."
        )
        return
    # A difference counts by how far apart all models lie on its task, not by its p value alone:
    # two methods that give nearly the same weights differ reliably, and by nothing.
    scores = tables.scores.set_index(["dataset", "metric"])["estimate"]
    spread = scores.groupby(level=[0, 1]).agg(lambda held: held.max() - held.min())
    cells = pd.MultiIndex.from_frame(shown[["dataset", "metric"]])
    between = spread.reindex(cells).fillna(math.inf).clip(lower=1e-12).to_numpy()
    share = shown["difference"].abs().to_numpy() / between
    row = shown.iloc[int(share.argmax())]
    better = (row["difference"] > 0) == row["higher_is_better"]
    first, second = (row["family"], row["other"]) if better else (row["other"], row["family"])
    by = sorted(abs(row[name]) for name in ("low", "high"))
    size_of = with_interval(abs(row["difference"]), by[0], by[1])
    yield (
        f"At the same measured dose of {dose}, {len(shown)} of {len(rows)} differences between "
        f"methods hold after correction; the largest is {percent(float(share.max()))} of what lies "
        f"between all models: {first} is better than {second} on {row['dataset']} by {size_of} "
        f"{metric_name(row['metric'])}."
    )


def _depths(tables: StudyTables, analysis: Analysis) -> Iterator[str]:
    rows = analysis.maps[analysis.maps["reference"].isin(list(tables.parents))]
    rows = rows[~rows["model"].isin(list(analysis.collapsed))]
    if rows.empty:
        return
    better = (rows["difference"] > 0) == rows["higher_is_better"].astype(bool)
    shown = rows[rows["q_value"] <= analysis.options.alpha].assign(better=better)
    against = shown.groupby(["model", "unit", "metric", "better", "layer"])["reference"].nunique()
    layers: dict[tuple[str, str, str, bool], list[int]] = {}
    for *key, layer in against[against == len(tables.parents)].reset_index().to_numpy()[:, :5]:
        layers.setdefault((*key,), []).append(int(layer))
    every = tables.every_parent()
    if not layers:
        yield f"At no layer does a merge demonstrably hold more or less than {every}."
        return
    model, unit, _, more = most = max(layers, key=lambda key: len(layers[key]))
    count = len({key[0] for key in layers})
    merges = f"{count} of {counted(rows['model'].nunique(), 'merge')}"
    where = f"{'layer' if len(layers[most]) == 1 else 'layers'} {spans(layers[most])}"
    yield (
        f"{merges} {'differs' if count == 1 else 'differ'} from {every} in what some layer holds; "
        f"the most, {model}: {'more' if more else 'less'} of {unit} at {where}."
    )


def _collapsed(analysis: Analysis) -> Iterator[str]:
    if analysis.collapsed:
        reasons = [f"{merge} ({reason})" for merge, reason in analysis.collapsed.items()]
        yield f"Collapsed: {listed(reasons)}. Correlations are given with and without."


def _correlations(analysis: Analysis) -> Iterator[str]:
    rows = analysis.ranks
    if rows.empty:
        return
    rows = rows[~rows["collapsed"]] if (~rows["collapsed"]).any() else rows
    held = rows.dropna(subset=["tau"])
    if held.empty:
        yield f"Behaviour and internals could not be correlated: {rows['reason'].iloc[0]}."
        return
    shown = held[held["tau_p_bh"] <= analysis.options.alpha]
    models = f"{held['n_models'].max()} models of {held['n_families'].max()} families"
    without = " without collapsed merges" if analysis.collapsed else ""
    if shown.empty:
        yield (
            f"None of {len(held)} rank correlations of behaviour with internals over "
            f"{models}{without} survives correction."
        )
        return
    best = shown.iloc[int(shown["tau"].abs().argmax())]
    tau = with_interval(best["tau"], best["tau_low"], best["tau_high"], signed=True)
    yield (
        f"{len(shown)} of {len(held)} rank correlations of behaviour with internals over "
        f"{models}{without} survive correction; the strongest: {best['dataset']} "
        f"({metric_name(best['metric'])}) with {best['unit']}, tau {tau}."
    )


def _missing(tables: StudyTables) -> Iterator[str]:
    yield from tables.provenance.get("warnings", ())
    left = int(tables.provenance.get("steps", {}).get("open", 0))
    if left:
        yield f"The study is not finished: {counted(left, 'step')} still to do."
    if len(tables.failures):
        models = listed(sorted(set(tables.failures["model"])))
        yield f"{counted(len(tables.failures), 'cell')} failed (of {models}); see Provenance."


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
