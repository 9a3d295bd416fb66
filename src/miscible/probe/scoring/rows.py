"""Result rows of one model on one data set, however they come about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from miscible.probe.dataset import ProbeDataset
from miscible.probe.scoring.intervals import Interval
from miscible.records import FailureRow, ItemRow, ScoreRow

Array = npt.NDArray[np.float64]


@dataclass
class Rows:
    """Collects rows.

    Attributes:
        model: name for the rows.
        dataset: what they are about.
        marks: flags for every score.
    """

    model: str
    dataset: ProbeDataset
    marks: tuple[str, ...] = ()
    scores: list[ScoreRow] = field(default_factory=list)
    items: list[ItemRow] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)

    def add(
        self,
        metric: str,
        layer: int | None,
        estimate: float,
        interval: Interval | None,
        n: int,
        *,
        baseline: float = math.nan,
        selectivity: float = math.nan,
        flags: Sequence[str] = (),
        higher_is_better: bool = True,
    ) -> None:
        """Add a score; without an interval its ends are NaN."""
        low, high = interval or (math.nan, math.nan)
        self.scores.append(
            ScoreRow(
                model=self.model,
                domain="internals",
                dataset=self.dataset.name,
                metric=metric,
                estimate=estimate,
                low=low,
                high=high,
                n=n,
                layer=layer,
                phenomenon=self.dataset.phenomenon,
                competence=self.dataset.competence,
                baseline=baseline,
                selectivity=selectivity,
                higher_is_better=higher_is_better,
                flags=",".join((*flags, *self.marks)),
            )
        )

    def add_items(
        self,
        metric: str,
        layer: int | None,
        items: Sequence[str],
        clusters: Sequence[str],
        values: Array,
    ) -> None:
        """Add what each item contributed to a score."""
        name = self.dataset.name
        self.items.extend(
            ItemRow(self.model, "internals", name, metric, item, cluster, value, 1.0, layer)
            for item, cluster, value in zip(items, clusters, values.tolist(), strict=True)
        )

    def fail(self, what: str, problem: str) -> None:
        """Add a failure."""
        self.failures.append(FailureRow(self.model, f"probe {self.dataset.name}, {what}", problem))


def cluster_names(groups: npt.NDArray[np.int64], items: Sequence[str]) -> list[str]:
    """Return for each item the name of its group: that of the group's first item."""
    first: dict[int, str] = {}
    return [first.setdefault(group, i) for group, i in zip(groups.tolist(), items, strict=True)]
