"""How much of a parent's gain over the base a merge keeps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from miscible.analyse.panel import Panel, panels
from miscible.analyse.resample import (
    Resampling,
    bootstrap_means,
    cluster_sums,
    interval,
    ratio,
    sign_flip_test,
)

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables


@dataclass(frozen=True, slots=True)
class GainRow:
    """What a merge keeps of a parent's gain; the columns of `retained_gains`.

    Attributes:
        gain: parent minus base, in the unit of the metric, turned so that positive is better.
        retained, low, high: (merge - base) / (parent - base) and its interval; 1 is all of it,
            above 1 more than the parent gained. NaN where the parent has no gain that its
            items can show: a ratio to nothing means nothing.
        reason: why *retained* is NaN, else empty.
        n_items: items that merge, parent and base all have.
    """

    model: str
    parent: str
    domain: str
    dataset: str
    metric: str
    gain: float
    retained: float
    low: float
    high: float
    reason: str
    n_items: int


COLUMNS = [field.name for field in fields(GainRow)]


def retained_gains(
    tables: StudyTables, *, domain: str = "behaviour", options: Resampling | None = None
) -> pd.DataFrame:
    """Return a `GainRow` for each merge, parent and task; empty without a base."""
    options = options or Resampling()
    rows: list[GainRow] = []
    if tables.base is not None:
        for panel in panels(tables, domain):
            reduced = panel.reduced("mean")
            for parent in tables.parents:
                rows.extend(_of_parent(reduced, tables, parent, options))
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_parent(
    panel: Panel, tables: StudyTables, parent: str, options: Resampling
) -> list[GainRow]:
    merges = [merge for merge in tables.merges if merge in panel.models]
    base = panel.row(str(tables.base))[0]
    if not merges:
        return []
    kept = panel.sign * (np.stack([panel.row(merge)[0] for merge in merges]) - base)
    gained = np.broadcast_to(panel.sign * (panel.row(parent)[0] - base), kept.shape)
    held = np.isfinite(kept) & np.isfinite(gained)
    kept, gained = np.where(held, kept, np.nan), np.where(held, gained, np.nan)

    top = cluster_sums(kept, panel.weights, panel.clusters)
    bottom = cluster_sums(gained, panel.weights, panel.clusters)
    # The same stream draws the same clusters, so that the ratio is taken within each resample.
    kept_draws = bootstrap_means(top, options, panel.cell.dataset)
    gain_draws = bootstrap_means(bottom, options, panel.cell.dataset)
    low, high = interval(ratio(kept_draws, gain_draws), options.level)
    gain_low, _ = interval(gain_draws, options.level)
    p_gain = sign_flip_test(bottom, options, panel.cell.dataset).greater
    retained = ratio(top.means, bottom.means)

    rows = []
    for i, merge in enumerate(merges):
        shown = gain_low[i] > 0 and p_gain[i] <= options.alpha / 2
        why_not = f"{parent} shows no gain over {tables.base}"
        if not held[i].any():
            why_not = f"{merge}, {parent} and {tables.base} have no item in common"
        rows.append(
            GainRow(
                merge,
                parent,
                *panel.cell,
                gain=float(bottom.means[i]),
                retained=float(retained[i]) if shown else np.nan,
                low=float(low[i]) if shown else np.nan,
                high=float(high[i]) if shown else np.nan,
                reason="" if shown else why_not,
                n_items=int(held[i].sum()),
            )
        )
    return rows
