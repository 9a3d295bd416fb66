"""What a predictor is asked about: models that are measured now, or were measured before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miscible.errors import MiscibleError
from miscible.predict.forecasting.candidates import candidates, to_measure
from miscible.predict.forecasting.comparable import Comparability, compare
from miscible.predict.forecasting.forecast import checked, chosen
from miscible.predict.forecasting.knowledge import MethodKnowledge, of_file
from miscible.predict.pairs import Pairs
from miscible.predict.predictor_file import PredictorFile, read_predictor

if TYPE_CHECKING:
    from miscible.measure.api import AnyModel
    from miscible.measure.calibrate import Calibration, Source


@dataclass(frozen=True)
class Asked:
    """A predictor, and all pairs that it is asked about.

    Attributes:
        predictor: as it was written.
        known: by method.
        methods: that are asked about.
        level: of intervals.
        pairs: of models that could be measured.
        comparability: with the measurement of the training pairs.
        excluded: models that could not be measured, and why.
        counts: what rules of reading tables concerned.
    """

    predictor: PredictorFile
    known: Mapping[str, MethodKnowledge]
    methods: Sequence[str]
    level: float
    pairs: Pairs
    comparability: Comparability
    excluded: tuple[tuple[str, str], ...]
    counts: Counter[str]

    def told(self) -> dict[str, int]:
        """Return the rules that concerned something."""
        return {rule: number for rule, number in self.counts.items() if number}


def ask(
    predictor: PredictorFile | Path | str,
    base: AnyModel | None = None,
    models: Sequence[AnyModel] | Mapping[str, AnyModel] = (),
    *,
    measured: Path | Mapping[str, Any] | None = None,
    scalars: Path | None = None,
    methods: Sequence[str] | None = None,
    level: float | None = None,
    calibration: Calibration | Source | None = None,
) -> Asked:
    """Measure models, or read what was measured; see `miscible.predict.forecasting.api.forecast`.

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
        raise MiscibleError(
            "models are measured now or were measured before, not both.",
            fix="Give the base and models, or the file of their metrics.",
        )
    counts: Counter[str] = Counter()
    pairs = candidates(measured, scalars, counts)
    excluded = _excluded(measured)
    unread = set(pairs.metric_names) - set(held.ranges)
    counts["metrics that the predictor does not read (not used)"] += len(unread)
    broken = {name for name, _ in excluded}
    sound = [row for row, pair in enumerate(pairs.names()) if not broken & set(pair)]
    return Asked(
        held, known, asked, at, pairs.take(np.array(sound, dtype=np.int64)),
        compare(held.measured, measured), tuple(excluded), counts,
    )  # fmt: skip


def _measure(
    base: AnyModel | None,
    models: Sequence[AnyModel] | Mapping[str, AnyModel],
    read: Sequence[str],
    calibration: Calibration | Source | None,
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
    return measure(base, models, metrics=metrics, calibration=calibration).as_dict()


def _excluded(measured: Path | Mapping[str, Any]) -> list[tuple[str, str]]:
    if isinstance(measured, Path):
        return []
    return [
        (str(model["name"]), str(model["reason"]))
        for model in measured.get("models", [])
        if model["status"] != "ok"
    ]
