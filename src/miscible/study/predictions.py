"""What a predictor expects of a study's merges, before any of them is made: one step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from miscible.keys import content_key
from miscible.models.fingerprint import digest_of
from miscible.records import FailureRow, PredictionRow, Row
from miscible.study.spec import Predict, StudySpec

if TYPE_CHECKING:
    from miscible.study.plan import Plan

SUBJECT = "expected"


def prediction_key(asked: Predict, folder: Path) -> str:
    """Return a content key of the predictor and of what else is asked.

    Raises:
        DatasetError: if it is no predictor, or the table of models cannot be read.
    """
    from miscible.predict.predictor_file import read_predictor

    file = located(asked.predictor, folder)
    read_predictor(file)  # what is wrong with it is told before hours are spent
    models = digest_of(located(asked.models, folder)) if asked.models else None
    return content_key(predictor=digest_of(file), models=models, level=asked.level)


def predict_merges(spec: StudySpec, folder: Path, plan: Plan) -> list[Row]:
    """Return what is expected of every two parents by every method that the predictor knows."""
    from miscible.predict.forecasting.api import forecast

    asked = spec.predict
    assert asked is not None
    found = forecast(
        located(asked.predictor, folder),
        plan.base,
        plan.parents,
        scalars=located(asked.models, folder) if asked.models else None,
        level=asked.level,
    )
    rows: list[Row] = [
        PredictionRow(
            p.a, p.b, p.method, p.mean, p.low, p.high, p.level, p.status, p.reason,
            math.nan if p.rank is None else float(p.rank), found.target,
        )
        for p in found.predictions
    ]  # fmt: skip
    rows += [FailureRow(name, "prediction", reason) for name, reason in found.excluded]
    return rows


def located(path: str, folder: Path) -> Path:
    """Return a path of a study file, relative to its folder."""
    return folder / Path(path).expanduser()
