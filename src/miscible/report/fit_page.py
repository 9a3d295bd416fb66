"""The page of ``miscible fit``: how far a predictor may be believed, and what it goes by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from miscible.predict.card import SINGLE, ablation_rows, likeness_rows, single_rows, weight_rows
from miscible.predict.fitting import Fit
from miscible.predict.forecasting.knowledge import validated
from miscible.predict.pairs import PairTable
from miscible.report.charts.fingerprints import fingerprint_charts, fingerprint_map
from miscible.report.charts.validation import forest_charts, truth_charts, validation_table
from miscible.report.document import document, write_document
from miscible.report.figure import ChartGroup, Selector
from miscible.report.table import plain
from miscible.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from miscible.predict.validation.result import Validation

WEIGHTS = ("outcome per sd of", "weight", "95 %", "chosen", "same sign")
LIKENESS = ("methods", "top 5 shared", "by chance", "same sign")
ABLATION = ("features", "LOTO r", "null", "unseen r", "unseen skill")


def write_fit_page(found: Fit, table: PairTable, path: Path) -> None:
    """Write the page of a fit; it is complete or absent.

    Raises:
        StoreError: if the file cannot be written.
    """
    write_document(render_fit(found, table), path)


def render_fit(found: Fit, table: PairTable) -> str:
    """Return the page of a fit as HTML."""
    validations = list(found.validations.values())
    methods = [each.method for each in validations]
    held = found.predictor
    examples = [table.examples(method, held.target) for method in methods]
    choice = [Selector("Method:", methods)]
    groups = {
        "forest": ChartGroup("forest", forest_charts(validations), selectors=choice),
        "truth": ChartGroup("truth", truth_charts(validations, examples), selectors=choice),
        "fingerprint": ChartGroup(
            "fingerprint-charts",
            fingerprint_charts(validations, found.fingerprints),
            selectors=choice,
            wide=True,
        ),
        "fingerprints": ChartGroup("fingerprints-map", fingerprint_map(validations), wide=True),
    }
    facts = [
        f"objective: {held.objective}", f"{held.target} scores",
        counted(len(methods), "method"), counted(len(table.pairs.models), "model"),
        counted(len(table.pairs), "measured pair"),
        counted(len(table.pairs.metric_names), "metric"),
    ]  # fmt: skip
    left_out = [[name, why] for name, why in found.left_out.items()]
    rules = [[rule, str(number)] for rule, number in held.exclusions.items()]
    settings = [[name, str(value)] for name, value in held.settings.items()]
    return document(
        "fit.html.j2",
        groups,
        title="A predictor of merges",
        facts=" · ".join(facts),
        findings=[_finding(each) for each in validations],
        skipped=_skipped(validations),
        validation=validation_table(validations),
        left_out=plain("Methods without a predictor", ["method", "why"], left_out)
        if left_out
        else None,
        rules=plain("Rows, cells and columns by rule", ["rule", "number"], rules)
        if rules
        else None,
        weights=[
            plain(f"{name}: weights, and how they hold when tasks are resampled", WEIGHTS, rows)
            for name, each in found.validations.items()
            if (rows := weight_rows(each, found.fingerprints.get(name, {})))
        ],
        likenesses=plain("Weights of every two methods", LIKENESS, likeness_rows(found.likenesses))
        if found.likenesses
        else None,
        collinear=found.collinearity.sentences(),
        singles=[
            plain(f"{name}: single features with the outcome", list(SINGLE), single_rows(each))
            for name, each in found.singles.items()
        ],
        ablations=[
            plain(f"{name}: ablations", ABLATION, ablation_rows(each))
            for name, each in found.ablations.items()
        ],
        settings=plain("How it was validated", ["setting", "value"], settings),
    )


def _finding(each: Validation) -> str:
    """Say in a sentence whether a predictor may be believed on new models."""
    own, held = each.own, validated(each.as_dict())
    known, new = (number in held and not held[number].doubt for number in (1, 2))
    if own.lkto is None:
        both = "pairs of two new models were not validated"
    else:
        both = (
            f"{'it ranks' if new else 'it cannot be trusted on'} pairs of two new models "
            f"(r {own.lkto.r:.2f}, skill {own.lkto.skill:.2f})"
        )
    if own.loto is None:
        return f"{each.method}: {both}."
    rivals = {
        b.title: b.loto.r_mean for b in each.baselines.values() if b.loto is not None
    }  # fmt: skip
    best = max(rivals, key=lambda name: rivals[name] if rivals[name] == rivals[name] else -2)
    against = "ahead of" if own.loto.r_mean > rivals[best] else "behind"
    ranks = "it ranks" if known else "it cannot be trusted on"
    return (
        f"{each.method}: {both}; {ranks} a new model with known partners "
        f"(r {own.loto.r_mean:.2f}, {against} its best baseline, {best}, {rivals[best]:.2f})."
    )


def _skipped(validations: Sequence[Validation]) -> list[str]:
    return [
        f"{each.method}, {kind}: {why}"
        for each in validations
        for kind, why in each.skipped.items()
    ]
