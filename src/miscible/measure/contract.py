"""What a metric is: a function of a `Pair`, and the data declared beside it.

A metric opens no file and knows no model: it reads the numbers that were computed once for all
models, and returns a number (or a `Value`, where it has more to say). A third-party package lists
its module in the entry-point group ``miscible``::

    @metric("task_vector_cosine_similarity", category="task_vector", low=-1, high=1)
    def task_vector_cosine_similarity(pair: Pair) -> float | Value:
        \"\"\"Cosine of the two task vectors.\"\"\"
        return pair.gram.cosine
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from miscible.errors import MiscibleError, UnknownNameError, did_you_mean
from miscible.measure.gram import Gram
from miscible.measure.pair import (
    ActivationPair,
    GradientPair,
    MidpointPair,
    Overlap,
    Pair,
    Signs,
    Spectra,
    TensorPair,
)
from miscible.registry import Registry

__all__ = [
    "METRICS", "ActivationPair", "By", "Category", "GradientPair", "Gram", "Metric", "MidpointPair",
    "Needs", "Overlap", "Pair", "Signs", "Spectra", "Status", "TensorPair", "Value", "metric",
    "select", "undefined",
]  # fmt: skip

Status: TypeAlias = Literal["ok", "undefined", "failed", "excluded"]
"""``undefined``: the definition gives no number (the cosine of a zero vector). ``failed``: a model
or a metric is broken. ``excluded``: not measured, on purpose, or for want of data."""
Needs: TypeAlias = Literal["weights", "activations", "gradients", "midpoints"]
By: TypeAlias = Literal["layer", "role"]
Category: TypeAlias = str
"""``task_vector``, ``effective_rank``, ``subspace``, ``activation`` and ``gradient`` are the
paper's (2601.22285); ``conflict``, ``norm`` and ``loss`` are ours; plug-ins may have their own."""

ALL = "all"
"""Stands for every metric."""
_PARTS_OF: dict[Needs, tuple[By, ...]] = {
    "weights": ("layer", "role"), "activations": ("layer",), "gradients": ("layer", "role"),
    "midpoints": (),
}  # fmt: skip
_NOT_ASKED: dict[Needs, str] = {
    "weights": "no weights were compared.",
    "activations": "no model was run: give calibration data, or ask for the metric by name.",
    "gradients": "no gradient was taken: give calibration data, or ask for the metric by name.",
    "midpoints": "no midpoint was run, one for each pair: ask for the metric by name.",
}

TOLERANCE = 1e-6
"""By how much rounding may carry a value over the end of its range, relative to the end."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a metric says of a pair.

    Attributes:
        value: a finite number if `status` is ``ok``, else NaN.
        status: see `Status`.
        reason: why there is no number, as a sentence.
        coverage: share of the base's parameters that entered (of weight metrics).
        noise: part of the value that the rounding of the stored weights may have made, None where
            that is not told.
    """

    value: float
    status: Status = "ok"
    reason: str = ""
    coverage: float = 1.0
    noise: float | None = None


def undefined(reason: str, coverage: float = 0.0) -> Value:
    """Return the value of a metric whose definition gives no number for a pair."""
    return Value(math.nan, "undefined", reason, coverage)


Function: TypeAlias = Callable[[Pair], "float | Value"]


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A registered metric.

    Attributes:
        function: the mathematics.
        category: see `Category`.
        needs: the part of a pair that it reads.
        low, high: ends of its range, infinite if it has none.
        symmetric: whether (a, b) and (b, a) give the same.
        paper: arXiv id, empty if it is ours.
        parts: what it reads of a tensor beyond its Gram: ``signs``, ``spectra``.
        by: the parts of a model of which it has values too.
        version: of its definition, raised where the same models get other values.
    """

    name: str
    function: Function
    summary: str
    category: Category
    needs: Needs
    low: float
    high: float
    symmetric: bool
    paper: str
    parts: frozenset[str]
    by: frozenset[By]
    version: int = 1

    def __call__(self, pair: Pair) -> Value:
        """Return the value of a pair: a finite number within the range, or why there is none."""
        coverage = pair.coverage() if self.needs == "weights" else 1.0
        if self.needs != "weights" and getattr(pair, self.needs) is None:
            if pair.broken:
                return Value(math.nan, "failed", pair.broken, 0.0)
            return Value(math.nan, "excluded", _NOT_ASKED[self.needs], 0.0)
        if self.needs == "weights" and not pair.tensors:
            return undefined("the two models share no tensor with the base.")
        found = self.function(pair)
        value = found if isinstance(found, Value) else Value(float(found), coverage=coverage)
        return self._checked(value)

    def _checked(self, value: Value) -> Value:
        if value.status != "ok":
            return replace(value, value=math.nan)
        if not math.isfinite(value.value):
            return undefined("its definition divides by zero here.", value.coverage)
        for end, beyond in (
            (self.low, value.value < self.low),
            (self.high, value.value > self.high),
        ):
            if beyond:
                if abs(value.value - end) > TOLERANCE * max(1.0, abs(end)):
                    why = f"its value {value.value:g} lies outside [{self.low:g}, {self.high:g}]."
                    return Value(math.nan, "failed", why, value.coverage)
                return replace(value, value=end)
        return value


METRICS: Registry[Metric] = Registry("metric", ("miscible.measure.metrics",))


def metric(
    name: str,
    *,
    category: Category,
    needs: Needs = "weights",
    low: float = -math.inf,
    high: float = math.inf,
    symmetric: bool = True,
    paper: str = "",
    parts: Sequence[str] = (),
    by: Sequence[By] | None = None,
    version: int = 1,
) -> Callable[[Function], Function]:
    """Register a metric; see `Metric` for the arguments.

    Where *by* is None it has the parts that what it needs has: layers and roles of weights and
    gradients, layers of activations.

    Raises:
        MiscibleError: if another metric has that name, or an argument is not what it should be.
    """
    if needs not in _PARTS_OF:
        raise MiscibleError(f"the metric {name!r} needs {needs!r}, which no pair has.")
    if not low < high:
        raise MiscibleError(f"the range of the metric {name!r} is empty: [{low:g}, {high:g}].")

    def register(function: Function) -> Function:
        summary = (function.__doc__ or "").strip().partition("\n")[0]
        METRICS.register(
            name,
            Metric(
                name, function, summary, category, needs, low, high, symmetric, paper,
                frozenset(parts), frozenset(_PARTS_OF[needs] if by is None else by), version,
            ),
        )  # fmt: skip
        return function

    return register


def select(
    names: Sequence[str] | str | None = None, needs: Sequence[Needs] = ("weights",)
) -> list[Metric]:
    """Return the metrics that are meant: by name, by category, or all that can be had.

    Args:
        names: metrics and categories, in a sequence or separated by commas; ``all`` for all, None
            for all whose `needs` is among *needs*.

    Raises:
        UnknownNameError: if one is neither a metric nor a category, with a suggestion.
    """
    if names is None:
        return [held for held in METRICS if held.needs in needs]
    wanted = names.split(",") if isinstance(names, str) else list(names)
    categories = {held.category for held in METRICS}
    found: dict[str, Metric] = {}
    for name in (name.strip() for name in wanted):
        if name == ALL:
            found |= {held.name: held for held in METRICS}
        elif name in METRICS:
            found[name] = METRICS.get(name)
        elif name in categories:
            found |= {held.name: held for held in METRICS if held.category == name}
        else:
            raise UnknownNameError(
                f"there is no metric or category of metrics named {name!r}.",
                fix=did_you_mean(name, [*METRICS.names(), *categories, ALL]),
            )
    return list(found.values())
