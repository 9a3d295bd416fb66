"""``miscible fit``: learn from merged pairs how others will merge, and how far to believe it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, say

if TYPE_CHECKING:
    from miscible.predict.fitting import Fit


class Scale(StrEnum):
    """Scale of outcomes."""

    NORMALISED = "normalised"
    RAW = "raw"


class Ablate(StrEnum):
    """What to take away."""

    NOTHING = "nothing"
    CATEGORIES = "categories"
    STEPWISE = "stepwise"


def fit(
    metrics: Path = typer.Option(
        ..., help="Pairs x metrics: CSV, Parquet, or the JSON of 'miscible measure'."
    ),
    outcomes: Path = typer.Option(..., help="Pairs x methods with scores: CSV or Parquet."),
    models: Path | None = typer.Option(
        None, help="Models with zero_shot, finetuned and other scalars: CSV or Parquet."
    ),
    target: Scale = typer.Option(
        Scale.NORMALISED, help="normalised: score over the parent's own; raw: score."
    ),
    objective: str = typer.Option(
        "lasso", help="Predictor: lasso, elastic_net, ridge, ols, pearson or effects."
    ),
    validate: str = typer.Option("loto,lkto:5", help="Ways to validate: loto, lkto:K, or both."),
    null: int = typer.Option(199, min=0, help="Relabelled tables to compare with."),
    method: list[str] = typer.Option([], "--method", help="Method; repeat it. All if left out."),
    drop: str = typer.Option("", help="Metrics or scalars not to be used, separated by commas."),
    complete: bool = typer.Option(
        False, "--complete", help="Leave out pairs that lack a metric; else the mean is taken."
    ),
    draws: int = typer.Option(40, min=1, help="Sets of K tasks that lkto holds out."),
    bootstrap: int = typer.Option(1000, min=0, help="Samples of tasks for intervals of scores."),
    seeds: int = typer.Option(3, min=1, help="Fits with different seeds."),
    seed: int = typer.Option(0, min=0, help="Seed of everything drawn."),
    level: float = typer.Option(0.8, help="Coverage that predictive intervals are made for."),
    ablate: Ablate = typer.Option(
        Ablate.NOTHING,
        help="Also score without each category of metrics and with it alone; stepwise: also "
        "metric by metric.",
    ),
    out: Path = typer.Option(
        Path("predictor.json"), help="Predictor to write; its card stands beside it as .md."
    ),
    report: Path | None = typer.Option(
        None, help="Also write a page (HTML) with scores, forecasts and fingerprints."
    ),
    format: Format = FORMAT,
) -> None:
    """Fit and validate a predictor of merges on measured pairs and their outcomes."""
    from miscible.documents import write_text
    from miscible.keys import file_digest
    from miscible.predict.card import card_of
    from miscible.predict.contract import make
    from miscible.predict.fitting import fit as fit_table
    from miscible.predict.forecasting.comparable import measured_how
    from miscible.predict.predictor_file import write_predictor
    from miscible.predict.tables import read_tables
    from miscible.predict.validation.settings import Settings, parse_validation

    loto, k = parse_validation(validate)
    settings = Settings(loto, k, draws, null, bootstrap, seeds, seed, level)
    make(objective)
    dropped = [name.strip() for name in drop.split(",") if name.strip()]
    table = read_tables(metrics, outcomes, models, drop=dropped, complete=complete)
    tables = {"metrics": metrics, "outcomes": outcomes, "models": models}
    digests = {name: file_digest(path) for name, path in tables.items() if path is not None}
    with progress(format):
        found = fit_table(
            table, objective=objective, target=target.value, methods=method or None,
            settings=settings, digests=digests, measured=measured_how(metrics),
            ablate=ablate.value,
        )  # fmt: skip
    card = out.with_suffix(".md")
    write_predictor(out, found.predictor)
    write_text(card, card_of(found))
    if report is not None:
        from miscible.report.fit_page import write_fit_page

        write_fit_page(found, table, report)
    if format is Format.JSON:
        print_json({**found.as_dict(), "predictor": str(out), "card": str(card)})
    elif format is Format.HUMAN:
        _print_fit(found)
        say(f"Wrote {out} and its card {card}.")


def _print_fit(found: Fit) -> None:
    from miscible.predict.card import (
        SINGLE,
        ablation_rows,
        likeness_rows,
        score_rows,
        sentences,
        single_rows,
        weight_rows,
    )

    for name, validation in found.validations.items():
        title = f"{name}: {validation.pairs} pairs of {validation.tasks} models"
        columns = ["forecast by", "LOTO r", "unseen r", "unseen skill"]
        print_table(title, columns, score_rows(validation))
        for sentence in sentences(validation):
            say(sentence)
        rows = weight_rows(validation, found.fingerprints.get(name, {}))
        if rows:
            columns = ["outcome per sd of", "weight", "95 %", "chosen", "same sign"]
            print_table("Weights, and how they hold when tasks are resampled", columns, rows)
        rows = single_rows(found.singles.get(name, {}))
        if rows:
            print_table(f"{name}: single features, and those of the wrong models", SINGLE, rows)
        if name in found.ablations:
            columns = ["features", "LOTO r", "null", "unseen r", "unseen skill"]
            print_table(f"{name}: ablations", columns, ablation_rows(found.ablations[name]))
    if found.likenesses:
        columns = ["methods", "top 5 shared", "by chance", "same sign"]
        print_table("Weights of every two methods", columns, likeness_rows(found.likenesses))
    for sentence in found.collinearity.sentences():
        say(sentence)
    for name, why in found.left_out.items():
        say(f"{name} is left out: {why}")
    for rule, number in found.predictor.exclusions.items():
        say(f"{rule}: {number}")
    say(
        "LOTO holds out one task of every pair, 'unseen' both. Brackets: 95 % over tasks. The null "
        "is fitted to metrics of the wrong models."
    )
