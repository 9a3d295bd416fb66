"""The options of verbs that run models over calibration data: over which, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from miscible.cli.measure_tables import short_names
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from miscible.measure.calibrate import Calibration

DATA: Any = typer.Option(
    [],
    help="Run the models over this: built-in (text), a .txt or .jsonl file, hub:NAME; of image "
    "classifiers a folder of classes, a .safetensors or .npz file. MODEL=DATA: that model's "
    "own. Repeat it.",
)
SAMPLES: Any = typer.Option(
    None, min=1, help="Sequences or images of each set; 64 if it has as many."
)
LENGTH: Any = typer.Option(None, min=2, help="Tokens of a sequence; 128.")
COLUMN: Any = typer.Option("text", help="Key or column that holds the text.")
LAYER: Any = typer.Option(-1, help="Whose hidden states are compared; -1 is the last.")
DTYPE: Any = typer.Option("float32", help="In which models are run: float32, bfloat16, ...")
DEVICE: Any = typer.Option("cpu", help="On which models are run: cpu, cuda or mps.")


def asked_otherwise(asked: Mapping[str, object]) -> bool:
    """Whether options of runs are other than where they are left out."""
    from miscible.measure.calibrate import Calibration

    return any(getattr(Calibration(), name) != value for name, value in asked.items())


def run_as(
    given: Sequence[str], models: Sequence[str], measured: Path | None, **asked: object
) -> Calibration | None:
    """Return how models are to be run that a predictor is asked about, None for the default.

    Raises:
        MiscibleError: if nothing is run, since they were measured before; see `calibration_of`.
    """
    if not given and not asked_otherwise(asked):
        return None
    if measured is not None:
        raise MiscibleError(
            "no model is run: metrics were measured before.", fix="Leave options of runs out."
        )
    return calibration_of(given, models, asked)


def calibration_of(
    given: Sequence[str], models: Sequence[str], asked: Mapping[str, Any]
) -> Calibration:
    """Return what models are to be run over.

    Args:
        given: sources of data, some of them as ``MODEL=DATA``; built-in text if there are none.
        models: names of models.
        asked: other attributes of a `Calibration`.

    Raises:
        MiscibleError: if there are two sets that models share, or two that are one model's own.
    """
    from miscible.measure.calibrate import Calibration

    if not given:
        return Calibration(**asked)
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
    return Calibration(shared[0] if shared else None, own, **asked)
