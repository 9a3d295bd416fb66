"""Whether metrics were measured in the way that the predictor's were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miscible.errors import DatasetError
from miscible.files import read_file
from miscible.measure.contract import METRICS

RUN = ("activations", "gradients", "midpoints")
"""What metrics need that depends on calibration data."""


def measured_how(measured: Path | Mapping[str, Any] | None) -> dict[str, str]:
    """Return what values depend on beside the models: ``calibration``, the key of its data.

    Tables do not say; of those nothing is returned.

    Raises:
        DatasetError: if a file of JSON cannot be read.
    """
    if isinstance(measured, Path):
        if measured.suffix.lower() != ".json":
            return {}
        try:
            measured = json.loads(read_file(measured))
        except (ValueError, RecursionError) as error:
            raise DatasetError("it is not JSON.", where=str(measured)) from error
    calibration = measured.get("calibration") if isinstance(measured, Mapping) else None
    if not isinstance(calibration, Mapping) or "key" not in calibration:
        return {}
    return {"calibration": str(calibration["key"])}


def incomparable(
    training: Mapping[str, str], measured: Path | Mapping[str, Any] | None
) -> dict[str, str]:
    """Return by metric why its values are no match for those in training.

    Where one side does not say over what models were run, they are taken to be comparable.
    """
    now, then = measured_how(measured).get("calibration"), training.get("calibration")
    if now is None or then is None or now == then:
        return {}
    why = f"its models were run over other calibration data ({now[:8]}, in training {then[:8]})."
    return {metric.name: why for metric in METRICS if metric.needs in RUN}
