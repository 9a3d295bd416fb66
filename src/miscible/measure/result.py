"""What a measurement says: models, and pairs of them, with a value or a reason for every metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from miscible.errors import UnknownNameError, did_you_mean
from miscible.measure.calibrated import CalibrationNote
from miscible.measure.contract import METRICS, Status, Value
from miscible.records import MergeabilityRow

if TYPE_CHECKING:
    import pandas as pd

    from miscible.measure.stability import Spread, Stability

Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model: scalars of its task vector.

    Attributes:
        name: of the model.
        status, reason: ``ok``, or why its pairs have no values.
        norm: |tau|, NaN if it was not measured.
        relative_distance: |tau| / |base| over the matrices.
        coverage: share of the base's elements that it has in common with it.
        layers, roles: |tau| of each layer and of each role.
        missing, extra, reshaped: numbers of floating-point tensors that only the base has, that
            only the model has, and that have another shape there.
        losses: mean loss in nats by set of calibration data, where models were run.
    """

    name: str
    status: Status
    reason: str
    norm: float
    relative_distance: float
    coverage: float
    layers: Mapping[str, float] = field(default_factory=dict)
    roles: Mapping[str, float] = field(default_factory=dict)
    missing: int = 0
    extra: int = 0
    reshaped: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "name": self.name, "status": self.status, "reason": self.reason,
            "norm": _number(self.norm), "relative_distance": _number(self.relative_distance),
            "coverage": self.coverage, "layers": dict(self.layers), "roles": dict(self.roles),
            "tensors": {
                "missing": self.missing, "extra": self.extra, "reshaped": self.reshaped,
            },
            "losses": {name: _number(loss) for name, loss in self.losses.items()},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class PairResult:
    """Two models.

    Attributes:
        a, b: their names.
        metrics: value by metric.
        reverse: value of (b, a), of metrics that are not symmetric.
        scopes: value by layer or role, and metric, if asked for.
    """

    a: str
    b: str
    metrics: Values
    reverse: Values = field(default_factory=dict)
    scopes: Mapping[str, Values] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        held: dict[str, Any] = {"a": self.a, "b": self.b, "metrics": _plain(self.metrics)}
        if self.reverse:
            held["reverse"] = _plain(self.reverse)
        if self.scopes:
            held["by"] = {scope: _plain(values) for scope, values in self.scopes.items()}
        return held


@dataclass(frozen=True)
class Measurement:
    """All pairs of N models.

    Attributes:
        base: name of the common base.
        metrics: names of what was measured.
        models: in the order in which they were given.
        pairs: every two of them, in that order.
        by: ``layer`` or ``role`` if values of these were asked for, else None.
        calibration: over what models were run, None if they were not.
        run_failures: by model that could not be run, why; its values of weights are there.
        stability: how values depend on the draw of the data, where these were cut into folds.
        compat: whether matrices that no model changes count, as in the code of 2601.22285.
        parameters: number of the base's parameters.
    """

    base: str
    metrics: tuple[str, ...]
    models: tuple[ModelResult, ...]
    pairs: tuple[PairResult, ...]
    by: str | None = None
    calibration: CalibrationNote | None = None
    run_failures: Mapping[str, str] = field(default_factory=dict)
    stability: tuple[Spread, ...] = ()
    compat: bool = False
    parameters: int = 0

    def values(self, metric: str) -> list[Value]:
        """Return the values of one metric, in the order of `pairs`.

        Raises:
            UnknownNameError: if it was not measured.
        """
        self._known(metric)
        return [pair.metrics[metric] for pair in self.pairs]

    def matrix(self, metric: str) -> npt.NDArray[np.float64]:
        """Return one metric as [N, N], NaN where there is no value and on the diagonal.

        Raises:
            UnknownNameError: if it was not measured.
        """
        self._known(metric)
        number = {model.name: index for index, model in enumerate(self.models)}
        found = np.full((len(number), len(number)), math.nan)
        for pair in self.pairs:
            a, b = number[pair.a], number[pair.b]
            found[a, b] = pair.metrics[metric].value
            found[b, a] = pair.reverse.get(metric, pair.metrics[metric]).value
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return one row a pair, scope and metric: a, b, scope, metric, and the `Value`'s fields.

        The scope of a pair as a whole is the empty string. What is not symmetric has a row of
        (b, a) too.
        """
        import pandas as pd

        columns = ["a", "b", "scope", "metric", "value", "status", "reason", "coverage", "noise"]
        rows = [
            (a, b, scope, name, v.value, v.status, v.reason, v.coverage, v.noise)
            for pair in self.pairs
            for a, b, scope, values in (
                (pair.a, pair.b, "", pair.metrics),
                (pair.b, pair.a, "", pair.reverse),
                *((pair.a, pair.b, scope, values) for scope, values in pair.scopes.items()),
            )
            for name, v in values.items()
        ]
        return pd.DataFrame.from_records(rows, columns=columns)

    def rows(self) -> list[MergeabilityRow]:
        """Return everything as rows: scalars of models, then pairs, then their parts.

        What is not symmetric has a row of (b, a) too.
        """
        rows: list[MergeabilityRow] = []
        for model in self.models:
            scalars: list[tuple[str, str, str, float]] = [
                ("task_vector_norm", "norm", "", model.norm),
                ("relative_distance", "norm", "", model.relative_distance),
                *(("task_vector_norm", "norm", *each) for each in model.layers.items()),
                *((f"loss on {name}", "loss", "", loss) for name, loss in model.losses.items()),
            ]
            rows += [
                MergeabilityRow(
                    model.name, "", metric, category, scope, value,
                    "ok" if math.isfinite(value) else model.status, model.reason, model.coverage,
                    list(model.layers).index(scope) + 1 if scope else 0,
                )
                for metric, category, scope, value in scalars
            ]  # fmt: skip
        for pair in self.pairs:
            rows += _rows(pair.a, pair.b, "", pair.metrics)
            rows += _rows(pair.b, pair.a, "", pair.reverse)
            for number, (scope, values) in enumerate(pair.scopes.items(), 1):
                rows += _rows(pair.a, pair.b, scope, values, number)
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON: a value that is not there is None."""
        return {
            "base": self.base,
            "parameters": self.parameters,
            "metrics": list(self.metrics),
            "definitions": {name: METRICS.get(name).version for name in self.metrics},
            "compat": self.compat,
            "models": [model.as_dict() for model in self.models],
            "pairs": [pair.as_dict() for pair in self.pairs],
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
            "run_failures": dict(self.run_failures),
            "stability": [summary.as_dict() for summary in self.stability_by_metric()],
        }

    def stability_by_metric(self) -> list[Stability]:
        """Return how much each metric depends on which calibration data were drawn."""
        from miscible.measure.stability import summarise

        return summarise(self.stability)

    def not_run(self) -> list[str]:
        """Return which models could not be run, and why: a sentence a reason."""
        found: dict[str, list[str]] = {}
        for name, reason in self.run_failures.items():
            found.setdefault(reason, []).append(name)
        sound = sum(model.status == "ok" for model in self.models)
        return [
            f"{'no model was' if len(names) == sound > 1 else _listed(names)} run: {reason}"
            for reason, names in found.items()
        ]

    def _known(self, metric: str) -> None:
        if metric not in self.metrics:
            raise UnknownNameError(
                f"the metric {metric!r} was not measured.", fix=did_you_mean(metric, self.metrics)
            )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} not"


def _rows(a: str, b: str, scope: str, values: Values, sequence: int = 0) -> list[MergeabilityRow]:
    return [
        MergeabilityRow(
            a, b, name, METRICS.get(name).category, scope, v.value, v.status, v.reason, v.coverage,
            sequence,
        )
        for name, v in values.items()
    ]  # fmt: skip


def _plain(values: Values) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Value) -> dict[str, Any]:
    held: dict[str, Any] = {
        "value": _number(value.value), "status": value.status, "coverage": value.coverage,
    }  # fmt: skip
    if value.reason:
        held["reason"] = value.reason
    if value.noise is not None:
        held["noise"] = value.noise
    return held


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
