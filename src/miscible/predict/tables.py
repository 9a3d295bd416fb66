"""Tables of metrics, outcomes and models become one `PairTable`, by stated rules.

Each rule that concerned something is counted under its own words; nothing is left out silently.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from miscible.errors import MiscibleError, did_you_mean
from miscible.predict.cells import read_cells
from miscible.predict.metric_table import MetricRows, read_metrics
from miscible.predict.outcome_table import OutcomeRow, read_outcomes
from miscible.predict.pairs import TARGETS, UNMATCHED, Floats, Outcomes, Pairs, PairTable, Target

RATIO = "zero_shot_ratio"
"""Scalar of a model: the base's score on its task over its own score."""


def read_tables(
    metrics: Path,
    outcomes: Path | None = None,
    models: Path | None = None,
    *,
    drop: Sequence[str] = (),
    complete: bool = False,
) -> PairTable:
    """Read tables (CSV or Parquet; metrics also as ``miscible measure --format json`` prints them).

    Args:
        metrics: columns task_a, task_b (or pair, as A__B), and one a metric.
        outcomes: columns task_a, task_b (or pair), method, acc_a, acc_b and/or norm_acc_a,
            norm_acc_b, and error, which is empty where the merge went well.
        models: columns task, zero_shot, finetuned, and any further scalar of a model.
        drop: metrics and scalars not to be used.
        complete: leave out pairs that lack a metric, instead of taking the training mean for it.

    Raises:
        MiscibleError: for what cannot be read, contradicts itself, or fits nothing together.
    """
    counts: Counter[str] = Counter()
    measured = read_metrics(metrics, counts)
    rows = read_outcomes(outcomes, counts) if outcomes is not None else []
    names = {name for pair in measured.values for name in pair}
    scalar_names, scalars = read_models(models, names, counts)
    known = [*measured.names, *scalar_names]
    for name in drop:
        if name not in known:
            raise MiscibleError(
                f"there is no metric or scalar named {name!r} to drop.",
                fix=did_you_mean(name, known),
            )
        counts["metrics and scalars dropped as asked"] += 1
    pairs = _pairs(measured, scalar_names, scalars, drop, counts)
    if complete:
        whole = np.flatnonzero(np.isfinite(pairs.metrics).all(axis=1))
        counts["pairs that lack a metric (left out as asked)"] += len(pairs) - len(whole)
        pairs = pairs.take(whole)
    else:
        counts["missing cells of metrics (taken for the training mean)"] += int(
            np.isnan(pairs.metrics).sum()
        )
    if not len(pairs):
        raise MiscibleError("no pair has all metrics.", where=str(metrics))
    found = outcomes_of(pairs, rows, scalar_names, scalars, counts)
    return PairTable(pairs, found, {rule: number for rule, number in counts.items() if number})


def _pairs(
    measured: MetricRows,
    scalar_names: list[str],
    scalars: dict[str, list[float]],
    drop: Sequence[str],
    counts: Counter[str],
) -> Pairs:
    models = sorted({name for pair in measured.values for name in pair})
    place = {name: number for number, name in enumerate(models)}
    ordered = sorted(measured.values)
    first = np.array([place[a] for a, _ in ordered], dtype=np.int64)
    second = np.array([place[b] for _, b in ordered], dtype=np.int64)
    table = np.array([measured.values[pair] for pair in ordered], dtype=np.float64)
    table = table.reshape(len(ordered), len(measured.names))
    metric_names, table = _useful(measured.names, table, drop, "metrics", counts)
    missing = [math.nan] * len(scalar_names)
    held = np.array([scalars.get(name, missing) for name in models], dtype=np.float64)
    held = held.reshape(len(models), len(scalar_names))
    kept_scalars, held = _useful(scalar_names, held, drop, "scalars", counts)
    counts["missing scalars of models (taken for the training mean)"] += int(np.isnan(held).sum())
    return Pairs(tuple(models), first, second, metric_names, table, kept_scalars, held)


def _useful(
    names: Sequence[str], table: Floats, drop: Sequence[str], what: str, counts: Counter[str]
) -> tuple[tuple[str, ...], Floats]:
    """Leave out columns that say nothing, or nothing that an earlier column does not say."""
    kept: list[int] = []
    for column, name in enumerate(names):
        values = table[:, column]
        there = values[np.isfinite(values)]
        if name in drop:
            continue
        if not len(there):
            counts[f"{what} without any value (not used)"] += 1
        elif len(there) > 1 and (there == there[0]).all():
            counts[f"{what} that are the same everywhere (not used)"] += 1
        elif any(_repeats(values, table[:, other]) for other in kept):
            counts[f"{what} that repeat an earlier one cell by cell (not used)"] += 1
        else:
            kept.append(column)
    return tuple(names[column] for column in kept), table[:, kept]


def _repeats(one: Floats, other: Floats) -> bool:
    return bool(np.allclose(one, other, rtol=1e-12, atol=0.0, equal_nan=True))


def read_models(
    path: Path | None, names: set[str], counts: Counter[str]
) -> tuple[list[str], dict[str, list[float]]]:
    """Return the scalars of a table of models, and by model their values.

    Args:
        path: see `read_tables`; None for no scalars.
        names: models that are of interest.
        counts: what rules concerned.

    Raises:
        MiscibleError: if it cannot be read, or two rows of a model contradict each other.
    """
    if path is None:
        return [], {}
    cells = read_cells(path)
    chosen = cells.one_of(("task",), ("model",), ("name",))
    if chosen is None:
        raise MiscibleError(
            "a table of models needs the column 'task'.",
            where=cells.source,
            fix=f"It has: {', '.join(cells.columns)}.",
        )
    key = chosen[0]
    columns = [name for name in cells.columns if name != key and not cells.is_text(name)]
    counts["text columns of the models (not used)"] += len(cells.columns) - 1 - len(columns)
    found: dict[str, list[float]] = {}
    place: dict[str, int] = {}
    for row, name in enumerate(cells.columns[key]):
        values = [cells.number(column, row) for column in columns]
        if name in found:
            if repr(found[name]) != repr(values):
                raise MiscibleError(
                    f"the model {name!r} stands twice, with other values in "
                    f"{cells.places[place[name]]}.",
                    where=cells.where(row),
                    fix="Keep one of the rows.",
                )
            counts["repeated rows of models (dropped)"] += 1
            continue
        if name not in names:
            counts["models without a measured pair (not used)"] += 1
            continue
        found[name], place[name] = values, row
    counts["models that the table of models lacks"] += len(names - set(found))
    if {"zero_shot", "finetuned"} <= set(columns) and RATIO not in columns:
        base, own = columns.index("zero_shot"), columns.index("finetuned")
        for values in found.values():
            values.insert(0, values[base] / values[own] if values[own] > 0 else math.nan)
        columns.insert(0, RATIO)
    return columns, found


def outcomes_of(
    pairs: Pairs,
    rows: Sequence[OutcomeRow],
    scalar_names: Sequence[str],
    scalars: Mapping[str, Sequence[float]],
    counts: Counter[str],
) -> dict[str, Outcomes]:
    """Return the outcomes of pairs by method.

    Args:
        scalar_names, scalars: of the models; raw scores are normalised by ``finetuned``.
        counts: what the rules of reading concerned.
    """
    place = {pair: row for row, pair in enumerate(pairs.names())}
    own: dict[str, float] = {}
    if "finetuned" in scalar_names:
        column = scalar_names.index("finetuned")
        own = {name: values[column] for name, values in scalars.items()}
    n = len(pairs)
    found: dict[str, Outcomes] = {}
    for row in rows:
        held = found.setdefault(
            row.method,
            Outcomes(
                {target: np.full((n, 2), np.nan) for target in TARGETS},
                {target: np.full(n, np.nan) for target in TARGETS},
            ),
        )
        if row.failed:
            continue
        if (row.a, row.b) not in place:
            counts[UNMATCHED] += 1
            continue
        at = place[row.a, row.b]
        raw, normalised = row.raw, row.normalised
        if any(map(math.isnan, normalised)) and not any(map(math.isnan, raw)):
            scores = [own.get(row.a, math.nan), own.get(row.b, math.nan)]
            if all(score > 0 for score in scores):
                normalised = (raw[0] / scores[0], raw[1] / scores[1])
                counts["outcomes normalised by the column finetuned"] += 1
        both: dict[Target, tuple[tuple[float, float], float]] = {
            "raw": (raw, row.raw_mean), "normalised": (normalised, row.normalised_mean),
        }  # fmt: skip
        for target, (directed, mean) in both.items():
            held.directed[target][at] = directed
            there = not any(map(math.isnan, directed))
            held.mean[target][at] = sum(directed) / 2 if there else mean
    return found
