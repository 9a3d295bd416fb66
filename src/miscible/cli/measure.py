"""``miscible measure``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.calibration import (
    COLUMN,
    DATA,
    DEVICE,
    DTYPE,
    LAYER,
    LENGTH,
    SAMPLES,
    asked_otherwise,
    calibration_of,
)
from miscible.cli.measure_tables import print_measurement
from miscible.cli.output import FORMAT, Format, print_json, progress, say, write_json
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from miscible.measure.calibrate import Calibration


class By(StrEnum):
    """Parts of a model."""

    LAYER = "layer"
    ROLE = "role"


def measure(
    models: list[str] = typer.Argument(
        ..., help="Two models or more: a folder, org/name, base+adapter, demo:NAME."
    ),
    base: str = typer.Option(..., help="The model from which all of them were fine-tuned."),
    metrics: str | None = typer.Option(
        None,
        help="Metrics or categories, separated by commas, or 'all'; what they need is measured. If "
        "left out, those of weights, and with --calibration of activations and gradients too.",
    ),
    by: By | None = typer.Option(None, help="Also measure each layer or role of the models."),
    calibration: list[str] = DATA,
    samples: int | None = SAMPLES,
    length: int | None = LENGTH,
    column: str = COLUMN,
    layer: int = LAYER,
    folds: int = typer.Option(
        1, min=1, help="Cut the data into so many parts, and tell how values depend on the draw."
    ),
    seed: int = typer.Option(0, help="Seed of the draw of calibration data."),
    dtype: str = DTYPE,
    device: str = DEVICE,
    compat: bool = typer.Option(
        False, help="Count matrices that no model changes as the code of 2601.22285 does."
    ),
    cache: bool = typer.Option(True, help="Keep decompositions for the next time."),
    format: Format = FORMAT,
    output: Path | None = typer.Option(None, help="Also write the result to this JSON file."),
    report: Path | None = typer.Option(None, help="Also write a page (HTML) with maps and charts."),
) -> None:
    """Compare every two of N fine-tunes of one base by their weights, before any merge.

    Exit code 0: all was measured; 1: a model could not be measured or run; 2: bad input.
    """
    from miscible.measure.api import measure as measure_models

    asked: dict[str, object] = {
        "samples": samples, "length": length, "column": column, "layer": layer, "folds": folds,
        "seed": seed, "dtype": dtype, "device": device,
    }  # fmt: skip
    run: Calibration | None = None
    if calibration or metrics is not None:
        run = calibration_of(calibration, models, asked)
    elif asked_otherwise(asked):
        raise MiscibleError(
            "no model is run, so that options of runs say nothing.",
            fix="Add '--calibration built-in', or name metrics that need runs.",
        )
    with progress(format):
        found = measure_models(
            base, models, metrics=metrics, by=None if by is None else by.value, calibration=run,
            compat=compat, cache=cache,
        )  # fmt: skip
    if output is not None:
        write_json(output, found.as_dict())
    if report is not None:
        from miscible.report.measure_page import write_measure_page

        write_measure_page(found, report)
    if format is Format.JSON:
        print_json(found.as_dict())
    elif format is Format.HUMAN:
        print_measurement(found)
        if report is not None:
            say(f"Report: {report}")
    if found.run_failures or any(model.status != "ok" for model in found.models):
        raise typer.Exit(1)
