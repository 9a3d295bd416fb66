"""Forecasting from Python: ``miscible.predict``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miscible.errors import MiscibleError
from miscible.predict.forecasting.candidates import candidates, to_measure
from miscible.predict.forecasting.comparable import incomparable
from miscible.predict.forecasting.domain import MARGIN
from miscible.predict.forecasting.forecast import Prediction, checked, chosen, forecast_pairs
from miscible.predict.forecasting.knowledge import of_file
from miscible.predict.forecasting.together import GroupPrediction, forecast_together
from miscible.predict.predictor_file import PredictorFile, read_predictor

if TYPE_CHECKING:
    from miscible.measure.api import AnyModel

RULES = (
    "a metric or scalar that the predictor reads is missing, or was measured otherwise",
    f"one lies beyond the training values by more than {MARGIN:.0%} of their range",
    "on held-out tasks the predictor did no better than the training mean, or than its null",
    "the interval is no narrower than that of the training outcomes",
)
"""When there is no forecast; see `miscible.predict.forecasting.forecast`."""


@dataclass(frozen=True)
class Forecasts:
    """What a predictor says of pairs of models.

    Attributes:
        objective, target: of the predictor.
        level: of the intervals.
        predictions: ranked pairs x methods, then those abstained from.
        groups: of more than two models, if asked for.
        excluded: models that could not be measured, and why.
        counts: what rules of reading tables concerned.
    """

    objective: str
    target: str
    level: float
    predictions: tuple[Prediction, ...]
    groups: tuple[GroupPrediction, ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data; numbers of what is abstained from are NaN."""
        return {
            "objective": self.objective,
            "target": self.target,
            "level": self.level,
            "predictions": [each.as_dict() for each in self.predictions],
            "together": [group.as_dict() for group in self.groups],
            "excluded": [{"model": name, "reason": why} for name, why in self.excluded],
            "abstention_rules": list(RULES),
            "counts": dict(self.counts),
        }


def forecast(
    predictor: PredictorFile | Path | str,
    base: AnyModel | None = None,
    models: Sequence[AnyModel] | Mapping[str, AnyModel] = (),
    *,
    measured: Path | Mapping[str, Any] | None = None,
    scalars: Path | None = None,
    methods: Sequence[str] | None = None,
    level: float | None = None,
    together: int | None = None,
    calibration: Path | str | None = None,
) -> Forecasts:
    """Say how merges of models would score, best first, or abstain with the reason.

    Only the metrics that the predictor reads are measured.

    Args:
        predictor: a file that ``miscible fit`` wrote.
        base: the model from which all were fine-tuned.
        models: two or more; a mapping names them, otherwise they are called by their references. A
            model of the training tables is known by its name there.
        measured: instead of models: a table of metrics, or what ``miscible measure`` gave.
        scalars: a table of models, where the predictor reads scalars of these.
        methods: some of the predictor's methods; all if None.
        level: of intervals; the predictor's if None.
        together: also rank merges of so many models.
        calibration: data over which models are run; see `miscible.measure.api.measure`.

    Raises:
        UnknownNameError: for a method that the predictor does not know, with a suggestion.
        MiscibleError: for fewer than two models, or what cannot be read.
    """
    held = predictor if isinstance(predictor, PredictorFile) else read_predictor(Path(predictor))
    known = of_file(held)
    asked = chosen(known, methods)
    at = checked(held.level if level is None else level)
    if measured is None:
        read = dict.fromkeys(name for method in asked for name in known[method].domain.metrics)
        measured = _measure(base, models, list(read), calibration)
    elif base is not None or models:
        raise MiscibleError("models are measured now or were measured before, not both.")
    counts: Counter[str] = Counter()
    pairs = candidates(measured, scalars, counts)
    excluded = _excluded(measured)
    broken = {name for name, _ in excluded}
    sound = [row for row, pair in enumerate(pairs.names()) if not broken & set(pair)]
    pairs = pairs.take(np.array(sound, dtype=np.int64))
    found = forecast_pairs(
        known, pairs, methods=asked, level=at,
        incomparable=incomparable(held.measured, measured),
    )  # fmt: skip
    groups = forecast_together(found, together) if together is not None else []
    return Forecasts(
        held.objective, held.target, at, tuple(found), tuple(groups), tuple(excluded),
        {rule: number for rule, number in counts.items() if number},
    )  # fmt: skip


def _measure(
    base: AnyModel | None,
    models: Sequence[AnyModel] | Mapping[str, AnyModel],
    read: Sequence[str],
    calibration: Path | str | None,
) -> dict[str, Any]:
    from miscible.measure.api import measure

    if base is None:
        raise MiscibleError(
            "the models' base is not given.", fix="Give it, or metrics that were measured before."
        )
    metrics, unknown = to_measure(read)
    if not metrics:
        raise MiscibleError(
            "the predictor reads no metric that this version can measure"
            + (f": {', '.join(unknown)}." if unknown else "."),
            fix="Give metrics that were measured before.",
        )
    given: Any = {} if calibration is None else {"calibration": calibration}
    return measure(base, models, metrics=metrics, **given).as_dict()


def _excluded(measured: Path | Mapping[str, Any]) -> list[tuple[str, str]]:
    if isinstance(measured, Path):
        return []
    return [
        (str(model["name"]), str(model["reason"]))
        for model in measured.get("models", [])
        if model["status"] != "ok"
    ]
