"""Rows of the online code: how many bits the labels of a data set take, given a layer."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from miscible.probe.fit.description_length import description_length
from miscible.probe.fit.linear import threads_for
from miscible.probe.scoring.rows import Rows


def add_code_lengths(
    rows: Rows,
    features: npt.NDArray[np.float32],
    layers: tuple[int, ...],
    columns: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    classes: int,
    seed: int,
) -> None:
    """Add ``mdl_bits`` and ``mdl_compression`` (uniform over online code length) of every layer.

    Whole groups are sent in random order. The baseline of the compression is that of control
    labels: a probe learns how frequent classes are even from labels that mean nothing.

    Args:
        rows: where to.
        features: [rows, layers, width]; layers that are not finite are left out.
        layers: what the layers are called.
        columns: labels, and control labels if there are any, [columns, rows].
        groups: of each row.
        classes: number of classes.
        seed: of the order.
    """
    numbers = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    order = np.argsort(numbers[groups], kind="stable")
    sound = np.flatnonzero(np.isfinite(features).all(axis=(0, 2)))
    if not len(sound):
        return
    with threads_for(len(order)):
        found = description_length(features[order][:, sound], columns[:, order], classes)
    online, compression = found.online, found.compression
    for place, layer in enumerate(sound.tolist()):
        controlled = len(columns) > 1
        for metric, values, better in (
            ("mdl_bits", online, False), ("mdl_compression", compression, True),
        ):  # fmt: skip
            value = float(values[0, place])
            control = float(values[1, place]) if controlled else math.nan
            rows.add(
                metric, layers[layer], value, None, len(order),
                baseline=control if controlled else (found.uniform if not better else 1.0),
                selectivity=value - control if better else control - value,
                higher_is_better=better,
            )  # fmt: skip
