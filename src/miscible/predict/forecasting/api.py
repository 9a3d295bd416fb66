"""Forecasting from Python: ``miscible.predict``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.predict.forecasting.asked import ask
from miscible.predict.forecasting.forecast import Prediction, Rule, forecast_pairs
from miscible.predict.forecasting.together import GroupPrediction, forecast_together
from miscible.predict.predictor_file import PredictorFile

if TYPE_CHECKING:
    from miscible.measure.api import AnyModel
    from miscible.measure.calibrate import Calibration, Source


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
        notes: how metrics compare with those in training, see `Comparability`.
    """

    objective: str
    target: str
    level: float
    predictions: tuple[Prediction, ...]
    groups: tuple[GroupPrediction, ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data; numbers of what is abstained from are NaN."""
        return {
            "objective": self.objective,
            "target": self.target,
            "level": self.level,
            "predictions": [each.as_dict() for each in self.predictions],
            "together": [group.as_dict() for group in self.groups],
            "excluded": [{"model": name, "reason": why} for name, why in self.excluded],
            "abstained": {
                str(rule): sum(each.rule is rule for each in self.predictions) for rule in Rule
            },
            "counts": dict(self.counts),
            "notes": list(self.notes),
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
    calibration: Calibration | Source | None = None,
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
        calibration: data over which models are run, or how in full; see
            `miscible.measure.api.measure`.

    Raises:
        UnknownNameError: for a method that the predictor does not know, with a suggestion.
        MiscibleError: for fewer than two models, or what cannot be read.
    """
    asked = ask(
        predictor, base, models, measured=measured, scalars=scalars, methods=methods, level=level,
        calibration=calibration,
    )  # fmt: skip
    found = forecast_pairs(
        asked.known, asked.pairs, methods=asked.methods, level=asked.level,
        comparability=asked.comparability,
    )  # fmt: skip
    groups = forecast_together(found, together) if together is not None else []
    return Forecasts(
        asked.predictor.objective, asked.predictor.target, asked.level, tuple(found),
        tuple(groups), asked.excluded, asked.told(), asked.comparability.notes,
    )  # fmt: skip
