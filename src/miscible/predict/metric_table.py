"""Tables of metrics: a row a pair; or what ``miscible measure`` prints as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miscible.errors import DatasetError, MiscibleError
from miscible.files import read_file
from miscible.predict.cells import Cells, read_cells, same

NOT_METRICS = frozenset({"pair", "task_a", "task_b", "model_a", "model_b", "a", "b"})
NAMES = (("task_a", "task_b"), ("model_a", "model_b"), ("a", "b"))
"""Columns that may name the two models of a pair."""
REMEASURE = "Write it with 'miscible measure ... --output FILE'."


@dataclass(frozen=True)
class MetricRows:
    """Metrics of pairs.

    Attributes:
        names: of the metrics.
        values: by pair, the names in alphabetical order; NaN where missing.
    """

    names: list[str]
    values: dict[tuple[str, str], list[float]]


def pair_of(cells: Cells, row: int) -> tuple[str, str]:
    """Return the two models of a row, as they stand there.

    Raises:
        DatasetError: if the table does not name them, or names one model twice.
    """
    chosen = cells.one_of(*NAMES)
    if chosen is not None:
        a, b = (cells.columns[name][row] for name in chosen)
    elif "pair" in cells.columns:
        a, _, b = cells.columns["pair"][row].partition("__")
    else:
        raise DatasetError(
            "the table needs the columns task_a and task_b, or pair.",
            where=cells.source,
            fix=f"It has: {', '.join(cells.columns)}.",
        )
    if not a or not b:
        raise DatasetError(
            "the row does not name two models.",
            where=cells.where(row),
            fix="Give task_a and task_b, or pair as A__B.",
        )
    if a == b:
        raise DatasetError(
            f"{a!r} is paired with itself.", where=cells.where(row), fix="Leave the row out."
        )
    return a, b


def read_metrics(path: Path, counts: Counter[str]) -> MetricRows:
    """Read a table of metrics.

    Two columns X_a and X_b are a metric in both directions: they become X_mean and X_gap, which
    do not depend on the order of the pair. Columns of text are not used, and counted.

    Raises:
        MiscibleError: if it cannot be read, or two rows of a pair contradict each other.
    """
    if path.suffix.lower() == ".json":
        return _read_measurement(path, counts)
    cells = read_cells(path)
    columns = [c for c in cells.columns if c not in NOT_METRICS and not cells.is_text(c)]
    text = [c for c in cells.columns if c not in NOT_METRICS and c not in columns]
    counts["text columns of the metrics (not used)"] += len(text)
    directed = [c[:-2] for c in columns if c.endswith("_a") and f"{c[:-2]}_b" in columns]
    plain = [c for c in columns if not (c.endswith(("_a", "_b")) and c[:-2] in directed)]
    names = [*plain, *(f"{stem}{kind}" for stem in directed for kind in ("_mean", "_gap"))]
    if not names:
        raise MiscibleError(
            "the table has no column of numbers.",
            where=cells.source,
            fix=f"Give one a metric. It has: {', '.join(cells.columns)}.",
        )
    found: dict[tuple[str, str], list[float]] = {}
    place: dict[tuple[str, str], int] = {}
    for row in range(len(cells)):
        a, b = pair_of(cells, row)
        values = [cells.number(column, row) for column in plain]
        for stem in directed:
            values += _both(cells.number(f"{stem}_a", row), cells.number(f"{stem}_b", row))
        pair = (a, b) if a < b else (b, a)
        if pair not in found:
            found[pair], place[pair] = values, row
        elif same(found[pair], values):
            counts["repeated rows of metrics (dropped)"] += 1
        else:
            raise MiscibleError(
                f"the pair {a} and {b} stands twice, with other metrics in "
                f"{cells.places[place[pair]]}.",
                where=cells.where(row),
                fix="Is it a table of outcomes? It has a column 'method'."
                if "method" in cells.columns
                else "Keep one of the rows.",
            )
    return MetricRows(names, found)


def _read_measurement(path: Path, counts: Counter[str]) -> MetricRows:
    try:
        held = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError("it is not JSON.", where=str(path), fix=REMEASURE) from error
    return measured_rows(held, str(path), counts)


def measured_rows(held: Mapping[str, Any], source: str, counts: Counter[str]) -> MetricRows:
    """Return the metrics of a measurement, as ``Measurement.as_dict`` gives them.

    Args:
        held: the measurement.
        source: where it comes from, for messages.
        counts: what the rules of `read_metrics` concerned.

    Raises:
        DatasetError: if it is no measurement, or has no pairs.
    """
    try:
        names = [str(name) for name in held["metrics"]]
        pairs = [
            (str(p["a"]), str(p["b"]), p["metrics"], p.get("reverse", {})) for p in held["pairs"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            "it is not what 'miscible measure --format json' prints.", where=source, fix=REMEASURE
        ) from error
    directed = {name for _, _, _, reverse in pairs for name in reverse}
    plain = [name for name in names if name not in directed]
    both = [name for name in names if name in directed]
    found: dict[tuple[str, str], list[float]] = {}
    for a, b, metrics, reverse in pairs:
        values = [_measured(metrics, name, source) for name in plain]
        for name in both:
            values += _both(_measured(metrics, name, source), _measured(reverse, name, source))
        found[(a, b) if a < b else (b, a)] = values
    if not found:
        raise DatasetError("it has no pairs.", where=source, fix="Measure two models or more.")
    failed = sum(model.get("status") == "failed" for model in held.get("models", []))
    counts["models that could not be measured"] += failed
    return MetricRows([*plain, *(f"{n}{kind}" for n in both for kind in ("_mean", "_gap"))], found)


def _measured(values: Mapping[str, Any], name: str, source: str) -> float:
    try:
        value = values.get(name, {}).get("value")
        return math.nan if value is None else float(value)
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(
            f"the metric {name!r} has no value.", where=source, fix=REMEASURE
        ) from error


def _both(one: float, other: float) -> list[float]:
    return [(one + other) / 2, abs(one - other)]
