"""From a sketch to values: every metric of every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from miscible.measure.calibrated import Calibrated, RunPairs
from miscible.measure.contract import By, Metric, Pair, Value
from miscible.measure.result import Measurement, ModelResult, PairResult, Values
from miscible.measure.scopes import scopes_of
from miscible.measure.sketch import Sketch
from miscible.measure.subject import Subject
from miscible.models.layout import DEFAULT, Layout


def evaluate(
    sketch: Sketch,
    metrics: Sequence[Metric],
    *,
    calibrated: Calibrated | None = None,
    by: By | None = None,
    layout: Layout = DEFAULT,
) -> Measurement:
    """Return the values of all pairs; one broken model or metric does not lose the others'."""
    ran = calibrated or Calibrated()
    scopes = {} if by is None else scopes_of(sketch.sizes, by, layout)
    scopes |= {scope: [] for scope in ran.scopes if scope not in scopes}
    held = _Evaluation(sketch, metrics, ran, by, scopes)
    numbers = range(len(sketch.models))
    return Measurement(
        sketch.base,
        tuple(metric.name for metric in metrics),
        tuple(_model(sketch, number, ran, layout) for number in numbers),
        tuple(held.pair(a, b) for a, b in combinations(numbers, 2)),
        by,
        ran.note,
        dict(ran.failures),
        tuple(ran.stability),
        sketch.compat,
        sketch.parameters,
    )


@dataclass
class _Evaluation:
    sketch: Sketch
    metrics: Sequence[Metric]
    ran: Calibrated
    by: By | None
    scopes: Mapping[str, Sequence[str]]
    directed: Sequence[Metric] = field(init=False)

    def __post_init__(self) -> None:
        self.directed = [metric for metric in self.metrics if not metric.symmetric]

    def pair(self, a: int, b: int) -> PairResult:
        """Return the values of two models, by their numbers."""
        models = self.sketch.models[a], self.sketch.models[b]
        names = models[0].name, models[1].name
        blocked = next((_blocked(model) for model in models if not model.is_sound), None)
        if blocked is not None:
            return PairResult(
                *names,
                {metric.name: blocked for metric in self.metrics},
                {metric.name: blocked for metric in self.directed},
            )
        forth = self._ran(self.sketch.pair(a, b))
        back = self._ran(self.sketch.pair(b, a)) if self.directed else None
        return PairResult(
            *names,
            _values(forth, self.metrics),
            {} if back is None else _values(back, self.directed),
            {scope: self._part(forth, scope) for scope in self.scopes},
        )

    def _ran(self, pair: Pair) -> Pair:
        key, whole = (pair.a, pair.b), self.ran.whole
        failures = self.ran.failures
        return replace(
            pair,
            activations=whole.activations.get(key),
            gradients=whole.gradients.get(key),
            midpoints=whole.midpoints.get(key),
            broken=_why({name: failures[name] for name in key if name in failures}),
        )

    def _part(self, pair: Pair, scope: str) -> Values:
        key, ran = (pair.a, pair.b), self.ran.scopes.get(scope, RunPairs())
        names = frozenset(self.scopes[scope])
        part = pair.of(
            tuple(tensor for tensor in pair.tensors if tensor.name in names),
            sum(self.sketch.sizes[name] for name in names),
            ran.activations.get(key),
            ran.gradients.get(key),
        )
        # What the part does not have (the states of a role) is no gap in what was asked for.
        had = {
            "weights": bool(names), "activations": part.activations is not None,
            "gradients": part.gradients is not None, "midpoints": False,
        }  # fmt: skip
        return _values(part, [m for m in self.metrics if self.by in m.by and had[m.needs]])


def _why(failures: Mapping[str, str]) -> str:
    reasons = set(failures.values())
    if len(failures) == 2 and len(reasons) == 1:  # one reason, and nobody's own
        return reasons.pop()
    return " ".join(f"{name}: {reason}" for name, reason in failures.items())


def _values(pair: Pair, metrics: Sequence[Metric]) -> dict[str, Value]:
    return {metric.name: _value(metric, pair) for metric in metrics}


def _value(metric: Metric, pair: Pair) -> Value:
    try:
        return metric(pair)
    except Exception as error:  # a plug-in's mistake costs its own values, and is told
        why = f"the metric broke: {type(error).__name__}: {error}"
        return Value(math.nan, "failed", why, 0.0)


def _blocked(model: Subject) -> Value:
    return Value(math.nan, model.status, f"{model.name}: {model.reason}", 0.0)


def _model(sketch: Sketch, number: int, ran: Calibrated, layout: Layout) -> ModelResult:
    subject = sketch.models[number]
    shared = sum(sketch.sizes[name] for name in subject.shared)
    measured = subject.status in ("ok", "excluded")
    squares = {table.name: table.square(number) for table in sketch.tables}
    return ModelResult(
        subject.name,
        subject.status,
        subject.reason,
        math.sqrt(math.fsum(squares.values())) if measured else math.nan,
        sketch.relative_distance(number) if measured else math.nan,
        shared / sketch.parameters,
        _norms(squares, "layer", layout) if measured else {},
        _norms(squares, "role", layout) if measured else {},
        len(subject.missing),
        len(subject.extra),
        len(subject.reshaped),
        ran.losses.get(subject.name, {}),
    )


def _norms(squares: Mapping[str, float], by: By, layout: Layout) -> dict[str, float]:
    return {
        scope: math.sqrt(math.fsum(squares[name] for name in names))
        for scope, names in scopes_of(squares, by, layout).items()
    }
