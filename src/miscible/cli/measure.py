"""``miscible measure``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.measure_tables import print_measurement
from miscible.cli.output import Format, print_json, progress, say, write_json
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from miscible.measure.trace import Trace
    from miscible.models.checkpoint import Checkpoint

LENGTH = 128
"""Tokens of a calibration sequence, where the models can read as many."""


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
        None, help="Metrics or categories, separated by commas; all of weights if left out."
    ),
    by: By | None = typer.Option(None, help="Also measure each layer or role of the models."),
    calibrate: int = typer.Option(
        0,
        min=0,
        help="Also run language models over this many sequences of built-in text, for metrics of "
        "activations and gradients.",
    ),
    compat: bool = typer.Option(
        False, help="Count matrices that no model changes as the code of 2601.22285 does."
    ),
    cache: bool = typer.Option(True, help="Keep decompositions for the next time."),
    format: Format = typer.Option(Format.HUMAN, help="What to print."),
    output: Path | None = typer.Option(None, help="Also write the result to this JSON file."),
) -> None:
    """Compare every two of N fine-tunes of one base by their weights, before any merge."""
    from miscible.measure.api import measure as measure_models
    from miscible.measure.api import open_model, open_models
    from miscible.measure.contract import select

    needed = {metric.needs for metric in select(metrics, ("weights", "activations", "gradients"))}
    if metrics is not None and needed != {"weights"} and not calibrate:
        raise MiscibleError(
            f"metrics of {' and '.join(sorted(needed - {'weights'}))} are not in the weights.",
            fix="Add '--calibrate 64': the models are run over 64 sequences of text.",
        )
    with progress(format):
        opened, origin = open_models(models), open_model(base)
        traced = _trace(origin, opened, calibrate, "gradients" in needed) if calibrate else None
        found = measure_models(
            origin, opened, metrics=metrics, by=None if by is None else by.value, compat=compat,
            cache=cache,
            activations=traced.activation_pairs() if traced else None,
            gradients=traced.gradient_pairs() if traced else None,
            failures=traced.failures if traced else None,
        )  # fmt: skip
    if output is not None:
        write_json(output, found.as_dict())
    if format is Format.JSON:
        print_json(found.as_dict())
    elif format is Format.HUMAN:
        print_measurement(found)
    unread = dict(traced.failures) if traced else {}
    if format is Format.HUMAN:
        for name, reason in unread.items():
            say(f"{name}: {reason}", failed=True)
    if unread or any(model.status != "ok" for model in found.models):
        raise typer.Exit(1)


def _trace(
    base: Checkpoint, models: Mapping[str, Checkpoint], sequences: int, gradients: bool
) -> Trace:
    from miscible.measure.language_model import trace_language_models
    from miscible.measure.trace import KINDS

    context = base.config.get("max_position_embeddings")
    length = min(LENGTH, context) if isinstance(context, int) and context > 0 else LENGTH
    return trace_language_models(
        base, models, length=length, sequences=sequences, gradients=KINDS if gradients else ()
    )
