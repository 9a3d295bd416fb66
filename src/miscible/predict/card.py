"""The card of a predictor: what it was fitted to, and how far it may be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from miscible import __version__
from miscible.predict.fitting import Fit
from miscible.predict.interpret.ablation import Ablation
from miscible.predict.interpret.fingerprints import Likeness, Weight, largest
from miscible.predict.interpret.single import Correlation, strongest
from miscible.predict.validation.result import Comparison, Validation
from miscible.words import number, p_value, percent

SHOWN = 8
"""Coefficients of a method that are shown, the largest first."""
SINGLE = ("outcome with", "r", "null, 95 %", "p", "p of any")
"""Columns of `single_rows`."""


def card_of(fit: Fit) -> str:
    """Return the card as Markdown."""
    held = fit.predictor
    parts = [
        "# A predictor of merges\n",
        f"Fitted by miscible {__version__}: objective `{held.objective}`, {held.target} scores, "
        f"{len(fit.validations)} methods.\n",
        "LOTO holds out one task, whose partners are known; *unseen* holds out both models of "
        "every predicted pair. r is Pearson's, the mean over held-out sets; skill is 1 - SSE / "
        "SSE of the training mean, pooled over these. In brackets: 95 % over resampled tasks. The "
        "null is the mean over tables whose metrics describe the wrong models.\n",
    ]
    for name, validation in fit.validations.items():
        rows = score_rows(validation)
        parts.append(f"## {name}\n\n{validation.pairs} pairs of {validation.tasks} models.\n")
        parts.append(_table(["", "LOTO r", "unseen r", "unseen skill"], rows))
        parts += [f"{sentence}\n" for sentence in sentences(validation)]
        weights = weight_rows(validation, fit.fingerprints.get(name, {}))
        if weights:
            columns = ["outcome per sd of", "weight", "95 %", "chosen", "same sign"]
            parts.append(_table(columns, weights))
        parts.append(_table(list(SINGLE), single_rows(fit.singles.get(name, {}))))
        if name in fit.ablations:
            columns = ["features", "LOTO r", "null", "unseen r", "unseen skill"]
            parts.append(_table(columns, ablation_rows(fit.ablations[name])))
    if fit.likenesses:
        parts.append("## Weights of every two methods\n")
        columns = ["methods", "top 5 shared", "by chance", "same sign"]
        parts.append(_table(columns, likeness_rows(fit.likenesses)))
    parts.append("## What the weights can say\n")
    parts += [f"{sentence}\n" for sentence in fit.collinearity.sentences()]
    if fit.left_out:
        parts.append("## Methods left out\n")
        parts += [f"- {name}: {why}" for name, why in fit.left_out.items()] + [""]
    parts.append("## What was left out of the tables\n")
    counts = [f"- {rule}: {number}" for rule, number in held.exclusions.items()]
    parts.append("\n".join(counts or ["Nothing."]) + "\n")
    settings = ", ".join(f"{name} {value}" for name, value in held.settings.items())
    parts.append(f"Settings: {settings}.\n")
    return "\n".join(parts)


def score_rows(validation: Validation) -> list[list[str]]:
    """Return rows of a table: the predictor, its baselines, its null; r and skill as text."""
    rows = [_row("this predictor", validation.own)]
    rows += [_row(each.title, each) for each in validation.baselines.values()]
    null = validation.null
    if null is None:
        return [*rows, ["null (not asked)", "", "", ""]]
    held = null.as_dict()
    cells = [(held["loto_r_mean"], held["p"]), (held["lkto_r"], held["lkto_p"]),
             (held["lkto_skill"], held["lkto_skill_p"])]  # fmt: skip
    shown = [
        "" if mean is None or p is None else f"{number(mean)} (p {p_value(p)})" for mean, p in cells
    ]
    return [*rows, [f"null ({null.number})", *shown]]


def sentences(validation: Validation) -> list[str]:
    """Return what else is to be said, a sentence each."""
    said = []
    for kind, what in (("loto", "one model is unseen"), ("lkto", "both models are unseen")):
        held = validation.coverage.get(kind)
        if held is not None and math.isfinite(held.observed):
            said.append(
                f"{held.level:.0%} intervals cover {held.observed:.0%} of {held.pairs} held-out "
                f"pairs where {what}; their mean width is {held.width:.3f}."
            )
    said += [f"Not validated by {kind}: {why}" for kind, why in validation.skipped.items()]
    return said


def weight_rows(validation: Validation, held: Mapping[str, Weight]) -> list[list[str]]:
    """Return the largest weights: value, interval, share of resamplings that choose it, sign."""
    rows = []
    for name in largest(validation.coefficients, SHOWN):
        row = [name, f"{validation.coefficients[name]:+.4f}"]
        if name in held:
            w = held[name]
            row += [f"{w.low:+.4f} {w.high:+.4f}", percent(w.selected_bootstrap),
                    percent(w.sign_bootstrap)]  # fmt: skip
        rows.append(row + [""] * (5 - len(row)))
    return rows


def single_rows(held: Mapping[str, Correlation]) -> list[list[str]]:
    """Return the features that correlate most with the outcome, beside their null."""
    rows = []
    for name in strongest(held, SHOWN):
        each = held[name]
        null = "not asked"
        if math.isfinite(each.p):
            null = f"{number(each.null_low, signed=True)} {number(each.null_high, signed=True)}"
        rows.append([name, number(each.r, signed=True), null, p_value(each.p), p_value(each.p_any)])
    return rows


def likeness_rows(held: Sequence[Likeness]) -> list[list[str]]:
    """Return what every two methods share."""
    return [
        [f"{each.a}, {each.b}", percent(each.top), percent(each.chance),
         f"{percent(each.sign)} of {each.shared}"]
        for each in held
    ]  # fmt: skip


def ablation_rows(held: Ablation) -> list[list[str]]:
    """Return ablations: those by steps were chosen on the folds that they are scored on."""
    rows = [held.everything, *held.without, *held.alone]
    steps = [*held.eliminated[-SHOWN:], *held.added[:SHOWN]]
    return [
        [each.what, number(each.loto_r),
         f"{number(each.null_r)} (p {p_value(each.p)})" if math.isfinite(each.p) else "",
         number(each.lkto_r), number(each.lkto_skill)]
        for each in (*rows, *steps)
    ]  # fmt: skip


def _row(title: str, held: Comparison) -> list[str]:
    values = {
        "loto_r": held.loto.r_mean if held.loto else None,
        "lkto_r": held.lkto.r if held.lkto else None,
        "lkto_skill": held.lkto.skill if held.lkto else None,
    }
    cells = []
    for name, value in values.items():
        bounds = held.intervals.get(name)
        inside = f" [{number(bounds[0])} {number(bounds[1])}]" if bounds else ""
        cells.append(f"{number(value)}{inside}" if value is not None else "")
    return [title, *cells]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
