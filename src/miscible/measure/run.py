"""From a sketch to values: every metric of every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from miscible.measure.contract import Metric, Pair, Value
from miscible.measure.result import Measurement, ModelResult, PairResult
from miscible.measure.scopes import By, scopes_of
from miscible.measure.sketch import Sketch
from miscible.measure.subject import Subject
from miscible.models.layout import DEFAULT, Layout


def evaluate(
    sketch: Sketch, metrics: Sequence[Metric], *, by: By | None = None, layout: Layout = DEFAULT
) -> Measurement:
    """Return the values of all pairs; one broken model or metric does not lose the others'."""
    scopes = {} if by is None else scopes_of(sketch.sizes, by, layout)
    numbers = range(len(sketch.models))
    return Measurement(
        sketch.base,
        tuple(metric.name for metric in metrics),
        tuple(_model(sketch, number, layout) for number in numbers),
        tuple(_pair(sketch, a, b, metrics, scopes) for a, b in combinations(numbers, 2)),
        by,
    )


def _pair(
    sketch: Sketch,
    a: int,
    b: int,
    metrics: Sequence[Metric],
    scopes: Mapping[str, Sequence[str]],
) -> PairResult:
    models = sketch.models[a], sketch.models[b]
    names = models[0].name, models[1].name
    directed = [metric for metric in metrics if not metric.symmetric]
    blocked = next((_blocked(model) for model in models if not model.is_sound), None)
    if blocked is not None:
        return PairResult(
            *names,
            {metric.name: blocked for metric in metrics},
            {metric.name: blocked for metric in directed},
        )
    pair = sketch.pair(a, b)
    weights = [metric for metric in metrics if metric.needs == "weights"]
    return PairResult(
        *names,
        _values(pair, metrics),
        _values(sketch.pair(b, a), directed) if directed else {},
        {scope: _values(_part(pair, sketch, held), weights) for scope, held in scopes.items()},
    )


def _values(pair: Pair, metrics: Sequence[Metric]) -> dict[str, Value]:
    return {metric.name: _value(metric, pair) for metric in metrics}


def _value(metric: Metric, pair: Pair) -> Value:
    try:
        return metric(pair)
    except Exception as error:  # a plug-in's mistake costs its own values, and is told
        why = f"the metric broke: {type(error).__name__}: {error}"
        return Value(math.nan, "failed", why, 0.0)


def _part(pair: Pair, sketch: Sketch, names: Sequence[str]) -> Pair:
    held = frozenset(names)
    return pair.of(
        tuple(tensor for tensor in pair.tensors if tensor.name in held),
        sum(sketch.sizes[name] for name in names),
    )


def _blocked(model: Subject) -> Value:
    return Value(math.nan, model.status, f"{model.name}: {model.reason}", 0.0)


def _model(sketch: Sketch, number: int, layout: Layout) -> ModelResult:
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
    )


def _norms(squares: Mapping[str, float], by: By, layout: Layout) -> dict[str, float]:
    return {
        scope: math.sqrt(math.fsum(squares[name] for name in names))
        for scope, names in scopes_of(squares, by, layout).items()
    }
