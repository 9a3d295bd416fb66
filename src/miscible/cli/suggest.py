"""``miscible suggest``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from miscible.cli.calibration import COLUMN, DATA, DEVICE, DTYPE, LAYER, LENGTH, SAMPLES, run_as
from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, say, write_json
from miscible.cli.predict import named_models
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from miscible.predict.forecasting.suggestion import Suggestions


class Aim(StrEnum):
    """What a merge is tried for."""

    GAIN = "gain"
    INFORMATION = "information"


class Scale(StrEnum):
    """Scale of outcomes."""

    NORMALISED = "normalised"
    RAW = "raw"


def suggest(
    predictor: Path | None = typer.Argument(
        None, help="Predictor, a file that 'miscible fit' wrote; without it one is fitted now."
    ),
    models: list[str] | None = typer.Argument(
        None, help="With a predictor: two models or more, or NAME=MODEL, as in 'predict'."
    ),
    base: str | None = typer.Option(None, help="The model from which all of them were fine-tuned."),
    metrics: Path | None = typer.Option(
        None,
        "--metrics",
        "--measured",
        help="Metrics of all pairs that might be merged: CSV, Parquet, or JSON of 'measure'.",
    ),
    outcomes: Path | None = typer.Option(
        None,
        help="Outcomes of the merges made so far; append those of each new one and ask again.",
    ),
    scalars: Path | None = typer.Option(
        None, "--models", help="Table of models: task, zero_shot, finetuned."
    ),
    budget: int = typer.Option(5, min=1, help="How many merges to propose."),
    objective: Aim = typer.Option(
        Aim.GAIN, help="gain: may be the best yet; information: teaches most."
    ),
    learner: str | None = typer.Option(
        None, "--predictor", help="Without a file: what learns from the outcomes; lasso."
    ),
    method: list[str] = typer.Option([], help="Only this merging method; repeat it."),
    above: float | None = typer.Option(None, help="Count gains from here, not from the best."),
    level: float | None = typer.Option(None, help="Level of intervals; the predictor's, 0.8."),
    target: Scale | None = typer.Option(
        None, help="Without a file: the scale of outcomes; normalised."
    ),
    drop: list[str] = typer.Option(
        [], help="Without a file: a metric or scalar not to use; repeat it."
    ),
    calibration: list[str] = DATA,
    samples: int | None = SAMPLES,
    length: int | None = LENGTH,
    column: str = COLUMN,
    layer: int = LAYER,
    dtype: str = DTYPE,
    device: str = DEVICE,
    seed: int = typer.Option(0, min=0, help="Seed of whatever is drawn."),
    format: Format = FORMAT,
    output: Path | None = typer.Option(None, help="Also write the result to this JSON file."),
) -> None:
    """Propose the next merges to try: pairs that have no outcome yet.

    With a predictor file by its forecasts, by the rules of 'predict', corrected by the outcomes;
    without one by a predictor that is fitted to the outcomes now.

    Exit code 0: it was done, also where it abstains; 1: a model could not be measured; 2: bad
    input, or nothing left to suggest.
    """
    with progress(format):
        if predictor is not None:
            idle = {"--predictor": learner, "--target": target, "--drop": drop}
            _refuse(idle, "the predictor file says it already")
            if metrics is None and base is None:
                raise MiscibleError(
                    "the models' base is not given.",
                    fix="Add '--base MODEL', or '--metrics FILE' for metrics measured before.",
                )
            from miscible.predict.forecasting.advice import suggest_by

            given = named_models(models or [])
            run = run_as(
                calibration, list(given), metrics, samples=samples, length=length, column=column,
                layer=layer, seed=seed, dtype=dtype, device=device,
            )  # fmt: skip
            found = suggest_by(
                predictor, base, given, budget=budget, aim=objective.value,
                outcomes=outcomes, above=above, measured=metrics, scalars=scalars,
                methods=method or None, level=level, calibration=run,
            )  # fmt: skip
            by = str(predictor)
        else:
            _refuse(
                {
                    "--base": base,
                    "--calibration": calibration,
                    "--samples": samples,
                    "--length": length,
                },
                "without a predictor file no model is measured",
            )
            by = learner or "lasso"
            found = _by_tables(
                metrics, outcomes, scalars, by, budget=budget, aim=objective.value,
                target="normalised" if target is None else target.value, methods=method or None,
                above=above, level=level, drop=drop, seed=seed,
            )  # fmt: skip
    held = {**found.as_dict(), "predictor": by}
    if output is not None:
        write_json(output, held)
    if format is Format.JSON:
        print_json(held)
    elif format is Format.HUMAN:
        _print(found)
    if found.excluded:
        raise typer.Exit(1)


def _by_tables(
    metrics: Path | None,
    outcomes: Path | None,
    scalars: Path | None,
    learner: str,
    *,
    drop: Sequence[str],
    **asked: Any,
) -> Suggestions:
    from miscible.predict.contract import make
    from miscible.predict.forecasting.suggest import suggest as suggest_merges
    from miscible.predict.tables import read_tables

    predictor = make(learner)
    if metrics is None or outcomes is None:
        raise MiscibleError(
            "there is neither a predictor nor what one could be fitted to.",
            fix="Give a predictor file, or both '--metrics FILE' and '--outcomes FILE'.",
        )
    table = read_tables(metrics, outcomes, scalars, drop=drop)
    if not table.outcomes:
        raise MiscibleError("no merge has an outcome.", where=str(outcomes))
    return suggest_merges(table, predictor, **asked)


def _refuse(given: Mapping[str, object], why: str) -> None:
    for option, value in given.items():
        if value:
            raise MiscibleError(f"{option!r} has no use here: {why}.", fix="Leave it out.")


def _print(found: Suggestions) -> None:
    if found.aim == "gain":
        say(f"Best so far: {found.threshold:.3f} ({found.best}).")
    value = "gain" if found.aim == "gain" else "sd"
    if found.merges:
        rows = [
            [
                f"{number}. {merge.a} + {merge.b}", merge.method, f"{merge.mean:.3f}",
                f"{merge.low:.3f} to {merge.high:.3f}", f"{merge.value:.3g}",
            ]
            for number, merge in enumerate(found.merges, 1)
        ]  # fmt: skip
        print_table(
            f"Merges to try next, of {found.open} without an outcome",
            ["pair", "method", "expected", f"{found.level:.0%} interval", value],
            rows,
            text=2,
        )
    else:
        say(f"None of the {found.open} merges without an outcome can be suggested.")
    say(f"Ranked {found.rule}")
    for why, number in found.left_out.items():
        say(f"{number} not considered, {why}")
    for name, why in found.excluded:
        say(f"{name}: {why}", failed=True)
    for note in found.notes:
        say(f"Note: {note}")
    for rule, number in found.counts.items():
        say(f"{rule}: {number}")
