"""Tables of outcomes: a row a pair and method."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from miscible.errors import DatasetError, MiscibleError
from miscible.predict.cells import Cells, read_cells, required, same
from miscible.predict.metric_table import pair_of
from miscible.predict.pairs import FAILED

MEASURED = ("acc_a", "acc_b", "norm_acc_a", "norm_acc_b", "acc_mean", "norm_acc_mean")


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """A merge of two models, named in alphabetical order.

    Attributes:
        raw, normalised: score on the task of a and of b, NaN where missing.
        raw_mean, normalised_mean: their mean as the table gives it, NaN if it does not.
        failed: whether the merge failed.
    """

    a: str
    b: str
    method: str
    raw: tuple[float, float]
    normalised: tuple[float, float]
    raw_mean: float
    normalised_mean: float
    failed: bool

    @property
    def values(self) -> tuple[float, ...]:
        """All numbers of the row."""
        return (*self.raw, *self.normalised, self.raw_mean, self.normalised_mean)


def read_outcomes(path: Path, counts: Counter[str]) -> list[OutcomeRow]:
    """Read a table of outcomes.

    A merge that failed (column error, or no score at all) has no outcome and is counted; where a
    pair was merged again by the same method, the row with an outcome counts.

    Raises:
        MiscibleError: if it cannot be read, or two rows of a merge contradict each other.
    """
    cells = read_cells(path)
    required(cells, ["method"], "a table of outcomes")
    if cells.one_of(MEASURED[:2], MEASURED[2:4], ("acc_mean",), ("norm_acc_mean",)) is None:
        raise DatasetError(
            "a table of outcomes needs acc_a and acc_b, or norm_acc_a and norm_acc_b.",
            where=cells.source,
            fix=f"It has: {', '.join(cells.columns)}.",
        )
    found: dict[tuple[str, str, str], OutcomeRow] = {}
    place: dict[tuple[str, str, str], int] = {}
    for number in range(len(cells)):
        row = _row(cells, number)
        counts[FAILED] += row.failed
        key = (row.a, row.b, row.method)
        held = found.get(key)
        if held is None or (held.failed and not row.failed):
            found[key], place[key] = row, number
        elif row.failed or same(held.values, row.values):
            counts["repeated rows of outcomes (dropped)"] += 1
        else:
            raise MiscibleError(
                f"{row.a} and {row.b} merged by {row.method!r} stand twice, with other scores in "
                f"{cells.places[place[key]]}.",
                where=cells.where(number),
                fix="Keep one of the rows.",
            )
    return list(found.values())


def _row(cells: Cells, row: int) -> OutcomeRow:
    a, b = pair_of(cells, row)
    method = cells.columns["method"][row]
    if not method:
        raise DatasetError(
            "the row names no method.", where=cells.where(row), fix="Give it, or drop the row."
        )
    acc_a, acc_b, norm_a, norm_b, raw_mean, normalised_mean = (
        cells.number(name, row) if name in cells.columns else math.nan for name in MEASURED
    )
    error = cells.columns["error"][row] if "error" in cells.columns else ""
    values = (acc_a, acc_b, norm_a, norm_b, raw_mean, normalised_mean)
    failed = error.lower() not in ("", "nan", "none") or all(map(math.isnan, values))
    raw, normalised = (acc_a, acc_b), (norm_a, norm_b)
    if a > b:
        a, b, raw, normalised = b, a, raw[::-1], normalised[::-1]
    return OutcomeRow(a, b, method, raw, normalised, raw_mean, normalised_mean, failed)
