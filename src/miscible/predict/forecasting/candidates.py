"""Pairs that might be merged: measured now, or read from a table, with every cell kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miscible.measure.contract import METRICS
from miscible.predict.metric_table import MetricRows, measured_rows, read_metrics
from miscible.predict.pairs import Pairs
from miscible.predict.tables import read_models

ENDINGS = ("_mean", "_gap")
"""What directed metrics become; see `miscible.predict.metric_table.read_metrics`."""


def candidates(
    measured: Path | Mapping[str, Any], models: Path | None, counts: Counter[str]
) -> Pairs:
    """Return all pairs of a measurement.

    Unlike in training no column is left out, even where few pairs make it constant.

    Args:
        measured: a table of metrics, or a measurement as plain data.
        models: a table of models with their scalars.
        counts: what the rules of reading concerned.

    Raises:
        MiscibleError: for what cannot be read or contradicts itself.
    """
    if isinstance(measured, Path):
        rows = read_metrics(measured, counts)
    else:
        rows = measured_rows(measured, "the measurement", counts)
    names = {name for pair in rows.values for name in pair}
    return _pairs(rows, sorted(names), *read_models(models, names, counts))


def to_measure(features: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the metrics behind features that ``miscible measure`` knows, and those it does not.

    Scalars of models, ``mean(s)`` and ``gap(s)``, are not among them.
    """
    known: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for feature in features:
        if feature.startswith(("mean(", "gap(")):
            continue
        stem = next((feature.removesuffix(e) for e in ENDINGS if feature.endswith(e)), feature)
        name = next((n for n in (feature, stem) if n in METRICS), None)
        if name is None:
            unknown[feature] = None
        else:
            known[name] = None
    return list(known), list(unknown)


def _pairs(
    rows: MetricRows,
    models: list[str],
    scalar_names: Sequence[str],
    scalars: Mapping[str, Sequence[float]],
) -> Pairs:
    place = {name: number for number, name in enumerate(models)}
    ordered = sorted(rows.values)
    metrics = np.array([rows.values[pair] for pair in ordered], dtype=np.float64)
    missing = [math.nan] * len(scalar_names)
    held = np.array([scalars.get(name, missing) for name in models], dtype=np.float64)
    return Pairs(
        tuple(models),
        np.array([place[a] for a, _ in ordered], dtype=np.int64),
        np.array([place[b] for _, b in ordered], dtype=np.int64),
        tuple(rows.names),
        metrics.reshape(len(ordered), len(rows.names)),
        tuple(scalar_names),
        held.reshape(len(models), len(scalar_names)),
    )
