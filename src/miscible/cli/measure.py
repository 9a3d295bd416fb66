"""``miscible measure``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.measure_tables import print_measurement, short_names
from miscible.cli.output import FORMAT, Format, print_json, progress, say, write_json
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    calibration: list[str] = typer.Option(
        [],
        help="Run the models over this: built-in (text), a .txt or .jsonl file, hub:NAME; of image "
        "classifiers a folder of classes, a .safetensors or .npz file. MODEL=DATA: that model's "
        "own. Repeat it.",
    ),
    samples: int | None = typer.Option(
        None, min=1, help="Sequences or images of each set; 64 if it has as many."
    ),
    length: int | None = typer.Option(None, min=2, help="Tokens of a sequence; 128."),
    column: str = typer.Option("text", help="Key or column that holds the text."),
    layer: int = typer.Option(-1, help="Whose hidden states are compared; -1 is the last."),
    folds: int = typer.Option(
        1, min=1, help="Cut the data into so many parts, and tell how values depend on the draw."
    ),
    seed: int = typer.Option(0, help="Seed of the draw of calibration data."),
    dtype: str = typer.Option("float32", help="In which models are run: float32, bfloat16, ..."),
    device: str = typer.Option("cpu", help="On which models are run: cpu, cuda or mps."),
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
    from miscible.measure.calibrate import Calibration

    asked: dict[str, object] = {
        "samples": samples, "length": length, "column": column, "layer": layer, "folds": folds,
        "seed": seed, "dtype": dtype, "device": device,
    }  # fmt: skip
    run: Calibration | None = None
    if calibration:
        run = _calibration(calibration, models, asked)
    elif metrics is not None:
        run = Calibration(**asked)  # type: ignore[arg-type]
    elif any(getattr(Calibration(), name) != value for name, value in asked.items()):
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


def _calibration(
    given: Sequence[str], models: Sequence[str], asked: dict[str, object]
) -> Calibration:
    from miscible.measure.calibrate import Calibration

    of_name = {short: name for name, short in short_names(models).items()}
    of_name |= {name: name for name in models}
    own: dict[str, str] = {}
    shared: list[str] = []
    for each in given:
        name, mark, source = each.partition("=")
        if mark and name in of_name:
            if of_name[name] in own:
                raise MiscibleError(f"calibration data of {name!r} were given twice.")
            own[of_name[name]] = source
        else:
            shared.append(each)
    if len(shared) > 1:
        raise MiscibleError(
            f"models share one set of calibration data; {len(shared)} were given.",
            fix="Write MODEL=DATA for data of one model: " + ", ".join(of_name) + ".",
        )
    return Calibration(shared[0] if shared else None, own, **asked)  # type: ignore[arg-type]
