"""Does a merge surpass its parents? Tests of where a merge stands among them.

*Surpasses every parent* is an intersection-union test (Berger 1982): the merge is tested against
each parent, and the largest p value counts, so that no correction is needed for the number of
parents nor for picking the better one. These p values are then corrected by Holm over all merges
and tasks. The same goes for *worse than every parent* and for *between the parents*. Where a parent
has no items there is no test: nothing is claimed of parents that were not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from miscible.analyse.multiplicity import holm, holm_levels
from miscible.words import listed

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


class Standing(StrEnum):
    """Where a merge stands among its parents on one task."""

    ABOVE = "above"
    """Better than every parent."""
    BETWEEN = "between"
    """Better than the worst parent, worse than the best."""
    BELOW = "below"
    """Worse than every parent."""
    UNRESOLVED = "unresolved"
    """The items do not tell it from at least one parent, or a parent has none."""


@dataclass(frozen=True, slots=True)
class StandingRow:
    """A merge among its parents; the columns of `standings`.

    Attributes:
        better_parent, worse_parent: best and worst parent on the items compared.
        difference, low, high: merge minus *better_parent*, with the uncorrected interval.
        corrected_low, corrected_high: interval at the level that Holm grants this test
            (normal, from the bootstrap's standard error: a percentile so far out would need far
            more resamples).
        p_above, p_between, p_below: Holm-corrected p of each claim.
        standing: the claim that holds, a value of `Standing`.
        missing_parents: parents without items here, in words; then the p values are NaN and the
            other fields are those of the parents that there are.
        n_items: items compared with the better parent.
        detectable: true difference to the better parent that would be found with 80 % power.
    """

    model: str
    domain: str
    dataset: str
    metric: str
    higher_is_better: bool
    better_parent: str
    worse_parent: str
    difference: float
    low: float
    high: float
    corrected_low: float
    corrected_high: float
    p_above: float
    p_between: float
    p_below: float
    standing: str
    missing_parents: str
    n_items: int
    detectable: float


COLUMNS = [field.name for field in fields(StandingRow)]
_TASK = ["model", "domain", "dataset", "metric"]


def standings(
    differences: pd.DataFrame, parents: Sequence[str], *, alpha: float = 0.05
) -> pd.DataFrame:
    """Return a `StandingRow` for each merge and task, corrected within each domain.

    ``above`` is claimed only if the corrected p is at most *alpha* **and** both the plain and the
    corrected interval against the better parent exclude 0.

    Args:
        differences: rows of `paired_differences`, one layer (or none) a task.
        parents: every parent of the study, compared or not.
        alpha: error rate for any false claim of one kind in one domain.
    """
    compared = differences[differences["reference_role"] == "parent"]
    compared = compared.dropna(subset=["difference", "p_value"])
    if compared.empty:
        return pd.DataFrame(columns=COLUMNS)
    rows = [_row(key, held, parents) for key, held in compared.groupby(_TASK, sort=False)]
    frame = pd.DataFrame(rows)
    level = pd.Series(np.nan, index=frame.index)
    for _, held in frame.groupby("domain").groups.items():
        level[held] = holm_levels(frame.loc[held, "p_above"], alpha)
        for claim in ("p_above", "p_between", "p_below"):
            frame.loc[held, claim] = holm(frame.loc[held, claim])
    reach = stats.norm.isf(level / 2) * frame["standard_error"]
    frame["corrected_low"] = frame["difference"] - reach
    frame["corrected_high"] = frame["difference"] + reach
    frame["standing"] = [str(_standing(row, alpha)) for row in frame.to_dict("records")]
    return frame[COLUMNS]


def _row(key: Hashable, held: pd.DataFrame, parents: Sequence[str]) -> dict[str, object]:
    assert isinstance(key, tuple)
    up = bool(held["higher_is_better"].iloc[0])
    gain = held["difference"] * (1.0 if up else -1.0)
    better, worse = held.iloc[int(gain.argmin())], held.iloc[int(gain.argmax())]
    missing = [parent for parent in parents if parent not in set(held["reference"])]
    p_values = {
        "p_above": held["p_better"].max(),
        "p_between": max(better["p_worse"], worse["p_better"]) if len(held) > 1 else np.nan,
        "p_below": held["p_worse"].max(),
    }
    return {
        **dict(zip(_TASK, key, strict=True)),
        "higher_is_better": up,
        "better_parent": better["reference"],
        "worse_parent": worse["reference"] if len(held) > 1 else "",
        **{name: better[name] for name in ("difference", "low", "high", "standard_error")},
        **(dict.fromkeys(p_values, np.nan) if missing else p_values),
        "missing_parents": listed(missing),
        "n_items": better["n_items"],
        "detectable": better["detectable"],
    }


def _standing(row: dict[Hashable, object], alpha: float) -> Standing:
    if _significant(row["p_above"], alpha):
        near = ("low", "corrected_low") if row["higher_is_better"] else ("high", "corrected_high")
        sign = 1.0 if row["higher_is_better"] else -1.0
        if all(sign * float(str(row[name])) > 0 for name in near):
            return Standing.ABOVE
    if _significant(row["p_between"], alpha):
        return Standing.BETWEEN
    if _significant(row["p_below"], alpha):
        return Standing.BELOW
    return Standing.UNRESOLVED


def _significant(p_value: object, alpha: float) -> bool:
    return isinstance(p_value, float) and p_value <= alpha
