"""``miscible suggest``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, say, write_json
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from miscible.predict.forecasting.suggest import Suggestions


class Aim(StrEnum):
    """What a merge is tried for."""

    GAIN = "gain"
    INFORMATION = "information"


class Scale(StrEnum):
    """Scale of outcomes."""

    NORMALISED = "normalised"
    RAW = "raw"


def suggest(
    metrics: Path = typer.Option(
        ..., help="Metrics of all pairs that might be merged: CSV, Parquet, or JSON of 'measure'."
    ),
    outcomes: Path = typer.Option(
        ..., help="Outcomes of the merges made so far; append those of each new one and ask again."
    ),
    models: Path | None = typer.Option(None, help="Table of models: task, zero_shot, finetuned."),
    budget: int = typer.Option(5, min=1, help="How many merges to propose."),
    objective: Aim = typer.Option(
        Aim.GAIN, help="gain: may be the best yet; information: teaches most."
    ),
    predictor: str = typer.Option("lasso", help="What learns from the outcomes."),
    method: list[str] = typer.Option([], help="Only this merging method; repeat it."),
    above: float | None = typer.Option(None, help="Count gains from here, not from the best."),
    target: Scale = typer.Option(Scale.NORMALISED, help="Scale of outcomes."),
    drop: list[str] = typer.Option([], help="A metric or scalar not to use; repeat it."),
    seed: int = typer.Option(0, min=0, help="Seed of whatever is drawn."),
    format: Format = FORMAT,
    output: Path | None = typer.Option(None, help="Also write the result to this JSON file."),
) -> None:
    """Propose the next merges to try: measured pairs that have no outcome yet.

    Exit code 0: there are suggestions; 2: bad input, or nothing to suggest.
    """
    from miscible.predict.contract import make
    from miscible.predict.forecasting.suggest import suggest as suggest_merges
    from miscible.predict.tables import read_tables

    learner = make(predictor)
    with progress(format):
        table = read_tables(metrics, outcomes, models, drop=drop)
        if not table.outcomes:
            raise MiscibleError("no merge has an outcome.", where=str(outcomes))
        found = suggest_merges(
            table, learner, budget, aim=objective.value, target=target.value,
            methods=method or None, above=above, seed=seed,
        )  # fmt: skip
    held = {**found.as_dict(), "predictor": predictor, "counts": dict(table.counts)}
    if output is not None:
        write_json(output, held)
    if format is Format.JSON:
        print_json(held)
    elif format is Format.HUMAN:
        _print(found)
        for rule, number in table.counts.items():
            say(f"{number} {rule}")


def _print(found: Suggestions) -> None:
    if found.aim == "gain":
        say(f"Best so far: {found.threshold:.3f} ({found.best}).")
    value = "gain" if found.aim == "gain" else "sd"
    rows = [
        [
            f"{number}. {merge.a} + {merge.b}", merge.method, merge.why,
            f"{merge.mean:.3f}", f"{merge.low:.3f} to {merge.high:.3f}", f"{merge.value:.4f}",
        ]
        for number, merge in enumerate(found.merges, 1)
    ]  # fmt: skip
    print_table(
        f"Merges to try next, of {found.open} without an outcome",
        ["pair", "method", "why", "expected", "80 % interval", value],
        rows,
        text=3,
    )
    for why, number in found.left_out.items():
        say(f"{number} not considered, {why}")
