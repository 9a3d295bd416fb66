"""The mergeability of a study's parents: one step, which reads and runs each of them once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from miscible.keys import content_key
from miscible.measure.calibrate import Calibration
from miscible.measure.calibration import BUILT_IN, HUB, calibration_text
from miscible.measure.contract import select
from miscible.models.fingerprint import digest_of
from miscible.records import FailureRow, Row
from miscible.study.spec import Metrics, StudySpec

if TYPE_CHECKING:
    from miscible.study.plan import Plan

SUBJECT = "parents"


def mergeability_key(asked: Metrics, folder: Path) -> str:
    """Return a content key of what is asked, of the metrics that are meant and of the text.

    Raises:
        UnknownNameError: for an unknown metric.
        DatasetError: if the text cannot be read.
    """
    meant = [metric.name for metric in select(asked.names)]
    source = _source(asked, folder)
    if source == BUILT_IN:
        text = calibration_text().key
    else:
        text = source if source.startswith(HUB) else digest_of(Path(source))
    return content_key(asked=asked.model_dump(), metrics=meant, text=text)


def measure_mergeability(spec: StudySpec, folder: Path, plan: Plan) -> list[Row]:
    """Return the rows of every two parents, and of what failed."""
    from miscible.measure.api import measure

    asked = spec.metrics
    assert asked is not None
    found = measure(
        plan.base,
        plan.parents,
        metrics=asked.names,
        by=asked.by,
        calibration=Calibration(
            _source(asked, folder), samples=asked.samples, length=asked.length, seed=spec.seed,
            dtype=spec.dtype, device=spec.device,
        ),
    )  # fmt: skip
    failed = {model.name: model.reason for model in found.models if model.status != "ok"}
    failed |= found.run_failures
    rows: list[Row] = [*found.rows()]
    rows += [FailureRow(name, "mergeability", reason) for name, reason in failed.items()]
    return rows


def _source(asked: Metrics, folder: Path) -> str:
    if asked.calibration == BUILT_IN or asked.calibration.startswith(HUB):
        return asked.calibration
    return str(folder / Path(asked.calibration).expanduser())
