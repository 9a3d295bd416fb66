"""Tables of studies for ``miscible fit``: metrics, outcomes and scalars of their parents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miscible.errors import MiscibleError
from miscible.study.outcomes import Outcome, merge_outcomes, write_csv, write_outcomes

if TYPE_CHECKING:
    from miscible.study.study import Study


def export_tables(
    studies: Sequence[Study],
    *,
    outcomes: Path | None = None,
    metrics: Path | None = None,
    tasks: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Write the tables of several studies; return how many rows each has, by name of the table.

    Models go by their names within the study; a name that stands for other weights in an earlier
    study gets the study's name before it.

    Args:
        studies: with results.
        outcomes: a row a merge of two parents; see `miscible.study.outcomes`.
        metrics: a row a pair of parents, of studies with ``metrics``.
        tasks: by parent its own task.

    Raises:
        MiscibleError: if there is nothing to write, or a parent's own task is not known.
    """
    names = _Names()
    merged: list[Outcome] = []
    measured: dict[tuple[str, str], dict[str, float]] = {}
    for study in studies:
        called = names.of(study)
        if outcomes is not None:
            known = {n: t for n, t in (tasks or {}).items() if n in study.spec.parents}
            merged += [_renamed(each, called) for each in merge_outcomes(study, known)]
        if metrics is not None:
            measured |= _metrics(study, called)
    written: dict[str, int] = {}
    if outcomes is not None:
        if not merged:
            raise MiscibleError("no merge of two parents is in these studies.")
        write_outcomes(outcomes, merged)
        written["outcomes"] = len(merged)
    if metrics is not None:
        if not measured:
            raise MiscibleError(
                "these studies measured no metrics of their parents.",
                fix="Add 'metrics: all' to the study and run it again.",
            )
        columns = list(dict.fromkeys(name for values in measured.values() for name in values))
        rows = [
            [*pair, *(values.get(c, math.nan) for c in columns)]
            for pair, values in measured.items()
        ]
        write_csv(metrics, ["task_a", "task_b", *columns], rows)
        written["metrics"] = len(rows)
    return written


class _Names:
    def __init__(self) -> None:
        self.taken: dict[str, str] = {}

    def of(self, study: Study) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, checkpoint in study.plan.parents.items():
            weights = checkpoint.fingerprint
            free = self.taken.setdefault(name, weights) == weights
            found[name] = name if free else f"{study.spec.name}/{name}"
        return found


def _renamed(each: Outcome, called: Mapping[str, str]) -> Outcome:
    return Outcome(
        each.merge, called[each.a], called[each.b], each.method, each.raw, each.normalised,
        each.error,
    )  # fmt: skip


def _metrics(study: Study, called: Mapping[str, str]) -> dict[tuple[str, str], dict[str, float]]:
    """Return metrics by pair; what is not symmetric as X_a and X_b, one a direction."""
    rows = study.rows("mergeability")
    rows = rows[(rows["scope"] == "") & (rows["second"] != "")]
    columns = rows[["first", "second", "metric", "value"]].itertuples(index=False, name=None)
    held = {(str(a), str(b), str(metric)): float(value) for a, b, metric, value in columns}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for (a, b, metric), value in held.items():
        if a > b and (b, a, metric) in held:
            continue
        back = held.get((b, a, metric))
        values = found.setdefault((called[min(a, b)], called[max(a, b)]), {})
        if back is None:
            values[metric] = value
        else:
            values |= {f"{metric}_a": value, f"{metric}_b": back}
    return found
