"""``miscible predict``."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.calibration import COLUMN, DATA, DEVICE, DTYPE, LAYER, LENGTH, SAMPLES, run_as
from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, say, write_json
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from miscible.predict.forecasting.api import Forecasts

MOST_ROWS = 30


def predict(
    predictor: Path = typer.Argument(..., help="Predictor, a file that 'miscible fit' wrote."),
    models: list[str] | None = typer.Argument(
        None, help="Two models or more, or NAME=MODEL; see 'miscible measure'."
    ),
    base: str | None = typer.Option(None, help="The model from which all of them were fine-tuned."),
    measured: Path | None = typer.Option(
        None, help="Instead of models: their metrics (CSV, Parquet, or JSON of 'measure')."
    ),
    scalars: Path | None = typer.Option(
        None, "--models", help="Table of models: task, zero_shot, finetuned, where it reads these."
    ),
    method: list[str] = typer.Option([], help="Only this merging method; repeat it."),
    level: float | None = typer.Option(None, help="Level of intervals; the predictor's, 0.8."),
    together: int | None = typer.Option(None, help="Also rank merges of so many models."),
    calibration: list[str] = DATA,
    samples: int | None = SAMPLES,
    length: int | None = LENGTH,
    column: str = COLUMN,
    layer: int = LAYER,
    seed: int = typer.Option(0, help="Seed of the draw of calibration data."),
    dtype: str = DTYPE,
    device: str = DEVICE,
    format: Format = FORMAT,
    output: Path | None = typer.Option(None, help="Also write the result to this JSON file."),
) -> None:
    """Say how merges would score, best first, with intervals; or abstain, and say why.

    Exit code 0: it was done, also where it abstains; 1: a model could not be measured; 2: bad
    input.
    """
    from miscible.predict.forecasting.api import forecast

    if measured is None and base is None:
        raise MiscibleError(
            "the models' base is not given.",
            fix="Add '--base MODEL', or '--measured FILE' for metrics measured before.",
        )
    given = named_models(models or [])
    run = run_as(
        calibration, list(given), measured, samples=samples, length=length, column=column,
        layer=layer, seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    with progress(format):
        found = forecast(
            predictor, base, given, measured=measured, scalars=scalars,
            methods=method or None, level=level, together=together, calibration=run,
        )  # fmt: skip
    if output is not None:
        write_json(output, found.as_dict())
    if format is Format.JSON:
        print_json(found.as_dict())
    elif format is Format.HUMAN:
        print_forecasts(found)
    if found.excluded:
        raise typer.Exit(1)


def print_forecasts(found: Forecasts) -> None:
    """Print what was forecast, groups, reasons to abstain, and what was left out."""
    sound = [p for p in found.predictions if p.status == "ok"]
    if sound:
        rows = [
            [
                f"{p.rank}. {p.a} + {p.b}", p.method, f"{p.mean:.3f}",
                f"{p.low:.3f} to {p.high:.3f}",
                *(f"{score:.3f}" for score in (p.directed or {}).values()),
            ]
            for p in sound[:MOST_ROWS]
        ]  # fmt: skip
        columns = ["pair", "method", "expected", f"{found.level:.0%} interval"]
        if any(len(row) > len(columns) for row in rows):
            columns += ["on first", "on second"]
            rows = [row + [""] * (len(columns) - len(row)) for row in rows]
        print_table(f"Expected {found.target} score of merges", columns, rows, text=2)
        if len(sound) > MOST_ROWS:
            say(f"{len(sound) - MOST_ROWS} more are in '--format json'.")
    else:
        say("No merge can be forecast.")
    _print_groups(found)
    reasons = Counter(p.reason for p in found.predictions if p.status != "ok")
    if reasons:
        say(f"Abstained from {sum(reasons.values())} of {len(found.predictions)} merges:")
    for reason, number in reasons.most_common():
        examples = [p for p in found.predictions if p.reason == reason]
        whose = f"{examples[0].a} + {examples[0].b} by {examples[0].method}"
        more = f" and {number - 1} more" if number > 1 else ""
        say(f"  {whose}{more}: {reason}")
    for name, why in found.excluded:
        say(f"{name}: {why}", failed=True)
    for note in found.notes:
        say(f"Note: {note}")
    for rule, number in found.counts.items():
        say(f"{rule}: {number}")


def _print_groups(found: Forecasts) -> None:
    groups = [group for group in found.groups if group.status == "ok"]
    if groups:
        rows = [
            [f"{group.rank}. {' + '.join(group.models)}", group.method, f"{group.mean:.3f}"]
            for group in groups[:MOST_ROWS]
        ]
        print_table(
            "Merged together: ranked by the mean of their pairs, which is no estimate of the score",
            ["models", "method", "mean of pairs"],
            rows,
            text=2,
        )
    elif found.groups:
        say("No group can be ranked: each has a pair that was abstained from.")


def named_models(models: Sequence[str]) -> list[str] | dict[str, str]:
    """Return models by name where one is given as NAME=MODEL."""
    parts = [re.fullmatch(r"([\w.-]+)=(.+)", model) for model in models]
    if not any(parts):
        return list(models)
    found: dict[str, str] = {}
    for model, part in zip(models, parts, strict=True):
        name = part[1] if part else model
        if name in found:
            raise MiscibleError(f"the model {name!r} was given twice.", fix="Give it once.")
        found[name] = part[2] if part else model
    return found
