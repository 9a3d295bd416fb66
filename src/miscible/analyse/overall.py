"""One verdict a merge: is it better than its best parent, averaged over all tasks?

Tasks have different units, so a difference is first divided by the standard deviation of the
task's item scores (pooled over base and parents); then metrics are averaged within a data set, and
data sets within the study. The interval resamples clusters within each data set; the test flips
signs of clusters over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from miscible.analyse.multiplicity import holm
from miscible.analyse.panel import Floats, Panel, panels
from miscible.analyse.power import detectable_difference
from miscible.analyse.resample import (
    ClusterSums,
    Resampling,
    bootstrap_means,
    cluster_sums,
    interval,
    ratio,
    sign_flip_test,
)

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables


class Verdict(StrEnum):
    """Outcome of a merge against the best of its parents."""

    BETTER = "better"
    """Better than every parent on average over the tasks."""
    WORSE = "worse"
    """Worse than at least one parent."""
    INCONCLUSIVE = "inconclusive"
    """The items show neither."""

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with this verdict (2 is kept for errors)."""
        return {Verdict.BETTER: 0, Verdict.WORSE: 1, Verdict.INCONCLUSIVE: 3}[self]


@dataclass(frozen=True, slots=True)
class OverallRow:
    """A merge against the best of its parents over all tasks; the columns of `overall`.

    Attributes:
        verdict: a value of `Verdict`.
        best_parent: the parent with the highest average on the same items.
        difference, low, high: merge minus *best_parent*, in standard deviations of an item's
            score, positive when the merge is better.
        detectable: true difference that would be found with 80 % power.
        p_better: of being better than every parent (intersection-union), Holm over merges.
        p_worse: of being worse than at least one (Bonferroni over parents), Holm over merges.
        tasks: data sets that were averaged: those on which the merge and all parents have items.
    """

    model: str
    verdict: str
    best_parent: str
    difference: float
    low: float
    high: float
    detectable: float
    p_better: float
    p_worse: float
    tasks: int


COLUMNS = [field.name for field in fields(OverallRow)]


class _Task(NamedTuple):
    """One data set: (K,) means, (resamples, K) draws, (clusters, K) parts of the means."""

    means: Floats
    draws: Floats
    parts: Floats


def overall(tables: StudyTables, *, options: Resampling | None = None) -> pd.DataFrame:
    """Return an `OverallRow` for each merge that shares a behaviour task with every parent.

    A task on which a parent has no items does not count for a merge, not even against the others:
    every parent must be met on the same tasks.
    """
    options = options or Resampling()
    pairs = [(merge, parent) for merge in tables.merges for parent in tables.parents]
    held = list(panels(tables, "behaviour")) if pairs else []
    tasks = [
        task
        for _, metrics in groupby(held, key=lambda panel: panel.cell.dataset)
        if (task := _task(list(metrics), pairs, tables, options)) is not None
    ]
    if not tasks:
        return pd.DataFrame(columns=COLUMNS)
    shape = (len(tables.merges), len(tables.parents))
    measured = np.isfinite(np.stack([task.means for task in tasks])).reshape(-1, *shape)
    present = np.broadcast_to(measured.all(axis=2, keepdims=True), measured.shape)
    present = present.reshape(len(tasks), -1)
    share = ratio(present.astype(float), present.sum(axis=0))
    means = _average(share, [task.means for task in tasks])
    draws = _average(share, [task.draws for task in tasks])
    parts = np.concatenate([w * np.nan_to_num(t.parts) for w, t in zip(share, tasks, strict=True)])
    low, high = interval(draws, options.level)
    test = sign_flip_test(ClusterSums(parts, np.ones_like(parts)), options, "overall")

    frame = _against_best(
        tables,
        *(part.reshape(shape) for part in (means, low, high, draws.std(axis=0))),
        tasks=present.sum(axis=0).reshape(shape)[:, 0],
    )
    lost = np.isnan(means).reshape(shape).any(axis=1)
    p_better = test.greater.reshape(shape).max(axis=1)
    p_worse = np.minimum(1.0, shape[1] * test.less.reshape(shape).min(axis=1))
    frame["p_better"] = holm(np.where(lost, np.nan, p_better))
    frame["p_worse"] = holm(np.where(lost, np.nan, p_worse))
    above = (frame["p_better"] <= options.alpha) & (low.reshape(shape).min(axis=1) > 0)
    below = (frame["p_worse"] <= options.alpha) & (frame["high"] < 0)
    frame["verdict"] = [
        str(Verdict.BETTER if up else Verdict.WORSE if down else Verdict.INCONCLUSIVE)
        for up, down in zip(above, below, strict=True)
    ]
    frame["detectable"] = detectable_difference(1.0, alpha=options.alpha) * frame["spread"]
    frame = frame.drop(index=list(np.flatnonzero(lost))).reset_index(drop=True)
    return frame.reindex(columns=COLUMNS)


def _against_best(
    tables: StudyTables, means: Floats, low: Floats, high: Floats, spread: Floats, *, tasks: Floats
) -> pd.DataFrame:
    best = np.argmin(np.where(np.isnan(means), np.inf, means), axis=1)
    rows = np.arange(len(best))
    return pd.DataFrame(
        {
            "model": tables.merges,
            "best_parent": [tables.parents[i] for i in best],
            "difference": means[rows, best],
            "low": low[rows, best],
            "high": high[rows, best],
            "spread": spread[rows, best],
            "tasks": tasks,
        }
    )


def _task(
    metrics: Sequence[Panel],
    pairs: Sequence[tuple[str, str]],
    tables: StudyTables,
    options: Resampling,
) -> _Task | None:
    found = []
    for panel in (metric.reduced("mean") for metric in metrics):
        scale = _scale(panel, tables)
        if not scale > 0:
            continue
        differences = [panel.row(merge)[0] - panel.row(parent)[0] for merge, parent in pairs]
        unit = panel.sign / scale
        sums = cluster_sums(unit * np.stack(differences), panel.weights, panel.clusters)
        # Metrics of a data set share the random stream, hence the resampled clusters.
        draws = bootstrap_means(sums, options, panel.cell.dataset)
        found.append(_Task(sums.means, draws, ratio(sums.weighted, sums.weight.sum(axis=0))))
    if not found:
        return None
    count = len(found)
    same = len({task.parts.shape for task in found}) == 1
    parts = [task.parts / count for task in found]
    return _Task(
        sum((task.means for task in found), start=np.zeros(len(pairs))) / count,
        sum((task.draws for task in found), start=np.zeros_like(found[0].draws)) / count,
        np.sum(parts, axis=0) if same else np.concatenate(parts),
    )


def _scale(panel: Panel, tables: StudyTables) -> float:
    references = [name for name in (tables.base, *tables.parents) if name in panel.models]
    variances = []
    for name in references:
        values = panel.row(str(name))[0]
        held = np.isfinite(values)
        if held.any():
            mean = np.average(values[held], weights=panel.weights[held])
            variances.append(np.average((values[held] - mean) ** 2, weights=panel.weights[held]))
    return float(np.sqrt(np.mean(variances))) if variances else 0.0


def _average(share: Floats, parts: Sequence[Floats]) -> Floats:
    total: Floats = np.zeros(parts[0].shape)
    for weight, part in zip(share, parts, strict=True):
        total = total + np.where(weight > 0, weight * part, 0.0)
    return np.where(share.sum(axis=0) > 0, total, np.nan)
