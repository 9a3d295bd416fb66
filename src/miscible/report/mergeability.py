"""Mergeability as the page shows it: which models and metrics there are, and values by pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from miscible.report.figure import Style, color
from miscible.words import number

Array = npt.NDArray[np.float64]
MAIN = {
    "task_vector_cosine_similarity": "cosine",
    "task_vector_magnitude_ratio": "ratio of norms",
    "layerwise_effective_rank_mergeability_score": "rank score",
    "right_subspace_overlap_top_k": "subspaces",
    "sign_conflict_rate": "sign conflict",
    "activation_cka": "CKA",
    "encoder_gradient_cosine_similarity": "gradient cosine",
    "loss_barrier": "loss barrier",
}
"""Shown first, and in the table of pairs under these words."""
_SERIES = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "cross")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


@dataclass(frozen=True, slots=True)
class Shown:
    """A value and what it reads as: a number, or its status."""

    value: float
    text: str
    reason: str


@dataclass(frozen=True, eq=False)
class Mergeability:
    """Rows of `records.MergeabilityRow` with the names of models in their order.

    Attributes:
        rows: of pairs, of their parts, and of single models.
        base: name of the common base.
    """

    rows: pd.DataFrame
    base: str = "base"
    _cells: dict[tuple[str, str, str], Shown] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        whole = self.rows[(self.rows["scope"] == "") & (self.rows["second"] != "")]
        columns = whole[["first", "second", "metric", "value", "status", "reason"]]
        for a, b, metric, value, status, reason in columns.itertuples(index=False, name=None):
            text = figure(float(value)) if status == "ok" else str(status)
            self._cells[a, b, metric] = Shown(float(value), text, str(reason))

    @cached_property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(dict.fromkeys(self.rows["first"]))

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Every two models of which there are rows, in order."""
        place = {name: i for i, name in enumerate(self.models)}
        return list(dict.fromkeys((a, b) for a, b, _ in self._cells if place[a] < place.get(b, -1)))

    @cached_property
    def metrics(self) -> list[str]:
        """Metrics with a value of any pair: the main ones, then the others by category."""
        whole = self.rows[(self.rows["scope"] == "") & (self.rows["second"] != "")]
        held = list(dict.fromkeys(whole.loc[whole["status"] == "ok", "metric"]))
        first = [metric for metric in MAIN if metric in held]
        return first + [metric for metric in held if metric not in first]

    @cached_property
    def measured(self) -> list[str]:
        """All metrics that were asked for, also those without any value."""
        asked = dict.fromkeys(metric for _, _, metric in self._cells)
        return self.metrics + [metric for metric in asked if metric not in self.metrics]

    def cell(self, a: str, b: str, metric: str) -> Shown:
        """Return what is known of a pair, whichever way round it was measured."""
        held = self._cells.get((a, b, metric)) or self._cells.get((b, a, metric))
        return held or Shown(math.nan, "", "it was not measured.")

    def matrix(self, metric: str) -> Array:
        """Return a metric as [models, models], NaN where there is no value."""
        return np.array([[self.cell(a, b, metric).value for b in self.models] for a in self.models])

    @cached_property
    def scalars(self) -> list[str]:
        """Names of the numbers of single models."""
        return list(dict.fromkeys(metric for _, metric in self._scalars))

    def scalar(self, model: str, metric: str) -> float:
        """Return a number of one model, NaN if there is none."""
        rows = self._scalars.get((model, metric))
        return math.nan if rows is None else rows

    @cached_property
    def _scalars(self) -> dict[tuple[str, str], float]:
        held = self.rows[(self.rows["second"] == "") & (self.rows["scope"] == "")]
        columns = held[["first", "metric", "value"]].itertuples(index=False, name=None)
        return {(str(a), str(metric)): float(value) for a, metric, value in columns}

    @cached_property
    def styles(self) -> Mapping[str, Style]:
        """How each model looks: colour, then marker and dash."""
        return {
            name: Style(
                color(_SERIES[i % len(_SERIES)]), _DASHES[i // len(_SERIES) % len(_DASHES)],
                _SYMBOLS[(i + i // len(_SERIES)) % len(_SYMBOLS)],
            )
            for i, name in enumerate(self.models)
        }  # fmt: skip


def figure(value: float) -> str:
    """Return a number as tables show it: three decimals, or two digits where it is tiny or huge."""
    if not math.isfinite(value):
        return number(value)
    plain = value == 0 or 0.001 <= abs(value) < 1000
    return f"{value:.3f}" if plain else f"{value:.2g}"
