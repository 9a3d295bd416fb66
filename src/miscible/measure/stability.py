"""How much an activation or gradient metric depends on which calibration data were drawn."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, combinations

import numpy as np

from miscible.errors import MiscibleError
from miscible.measure.contract import METRICS, Metric, Pair
from miscible.measure.trace import Trace


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric of a pair on all calibration data, and on parts of them.

    Attributes:
        metric, a, b: which.
        value: on all data.
        fold_sd: standard deviation between single folds.
        half_sd: standard deviation between halves of the folds; halves overlap, but a half and the
            other do not.
        drift: mean over the folds minus *value*: what the metric owes to the amount of data. The
            gradient of little data is longer, and what it has in common with another model's on
            the same inputs is partly the noise of those inputs. The gradient with respect to the
            input is of a mean over all inputs: its norm falls as their number grows.
        folds: their number.
    """

    metric: str
    a: str
    b: str
    value: float
    fold_sd: float
    half_sd: float
    drift: float
    folds: int


def stability(
    trace: Trace, metrics: Iterable[Metric | str] | None = None, *, layer: int = 0
) -> list[Spread]:
    """Compute metrics of all pairs anew on every fold and on every half of the folds.

    No model is run: a trace over folds holds the gradients of all their unions.

    Args:
        trace: over data that were each cut into the same number of folds, at least two.
        metrics: those of activations and gradients, or their names; all that have a value if None.
        layer: place in the list of layers that were traced.

    Raises:
        MiscibleError: if the data were not cut into folds, or a metric needs no calibration data.
        UnknownNameError: if there is no such metric.
    """
    folds = _folds(trace)
    halves = [list(chain(*chosen)) for chosen in combinations(folds, len(folds) // 2)]
    found: list[Spread] = []
    for a, b in combinations(trace.models, 2):
        if trace.missing(a, b):
            continue
        whole = _pair(trace, a, b, None, layer)
        single = [_pair(trace, a, b, fold, layer) for fold in folds]
        half = [_pair(trace, a, b, chosen, layer) for chosen in halves]
        for metric in _chosen(metrics):
            value = metric(whole)
            if value.status != "ok":
                continue
            of_folds = [metric(pair).value for pair in single]
            of_halves = [metric(pair).value for pair in half]
            found.append(
                Spread(
                    metric.name, a, b, value.value, _sd(of_folds), _sd(of_halves),
                    float(np.mean(of_folds)) - value.value, len(folds),
                )
            )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class Stability:
    """A metric over all pairs: what differs between pairs, and what the draw of the data makes.

    Attributes:
        metric: which.
        pairs: number of pairs with a value.
        between: standard deviation of the value between pairs; NaN for one pair.
        fold_sd, half_sd: root mean square of the pairs' `Spread.fold_sd` and `Spread.half_sd`.
        drift: mean of the pairs' `Spread.drift`.
        folds: into how many parts the data were cut.
    """

    metric: str
    pairs: int
    between: float
    fold_sd: float
    half_sd: float
    drift: float
    folds: int

    def as_dict(self) -> dict[str, float | str | None]:
        """Return it as plain data: a number that is not there is None."""
        held = asdict(self)
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in held.items()
        }


def summarise(spreads: Sequence[Spread]) -> list[Stability]:
    """Return one line a metric, in the order of *spreads*."""
    found: dict[str, list[Spread]] = {}
    for spread in spreads:
        found.setdefault(spread.metric, []).append(spread)
    return [
        Stability(
            name, len(held), _sd([each.value for each in held]),
            float(np.sqrt(np.mean([each.fold_sd**2 for each in held]))),
            float(np.sqrt(np.mean([each.half_sd**2 for each in held]))),
            float(np.mean([each.drift for each in held])),
            held[0].folds,
        )
        for name, held in found.items()
    ]  # fmt: skip


def _chosen(metrics: Iterable[Metric | str] | None) -> list[Metric]:
    if metrics is None:
        return [held for held in METRICS if held.needs in ("activations", "gradients")]
    chosen = [METRICS.get(each) if isinstance(each, str) else each for each in metrics]
    for metric in chosen:
        if metric.needs not in ("activations", "gradients"):
            raise MiscibleError(f"{metric.name} depends on no calibration data that can be cut.")
    return chosen


def _pair(trace: Trace, a: str, b: str, pieces: Sequence[int] | None, layer: int) -> Pair:
    activations = trace.activations(a, b, pieces, layer=layer)
    return Pair(a, b, activations=activations, gradients=trace.gradients(a, b, pieces))


def _folds(trace: Trace) -> list[list[int]]:
    """Return the pieces of each fold: the k-th piece of every data set."""
    sets: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, piece in enumerate(trace.pieces):
        sets[piece.data, piece.owner].append(number)
    counts = {len(held) for held in sets.values()}
    if len(counts) != 1 or counts == {1}:
        raise MiscibleError(
            "the calibration data are not cut into folds.",
            fix="Trace with 'folds' of 4, or cut every data set with 'split'.",
        )
    return [list(fold) for fold in zip(*sets.values(), strict=True)]


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
