"""Minimum description length of labels given features: the online (prequential) code.

Voita & Titov (arXiv 2003.12298, section 3.2): the rows are sent in blocks of growing size, and the
labels of each block are coded with the probe trained on all blocks before it, the first one with
the uniform code. An accessible representation is one that makes the code short. All lengths are in
bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import DatasetError
from miscible.probe.fit.coordinates import coordinates, directions, layer_chunks
from miscible.probe.fit.linear import PENALTIES
from miscible.probe.fit.penalty_path import PenaltyPath
from miscible.probe.fit.standardise import check_finite

FRACTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Where blocks end, as fractions of all rows."""

_WORKSPACES = 40


@dataclass(frozen=True, slots=True)
class DescriptionLength:
    """Lengths of the online code.

    Attributes:
        ends: number of rows up to the end of each block.
        blocks: bits of each block, float64 [columns, layers, blocks]; the first is uniform.
        penalties: of the probe that codes each block but the first,
            [columns, layers, blocks - 1].
        uniform: bits of the uniform code of all labels.
    """

    ends: tuple[int, ...]
    blocks: npt.NDArray[np.float64]
    penalties: npt.NDArray[np.float64]
    uniform: float

    @property
    def online(self) -> npt.NDArray[np.float64]:
        """Bits of the online code, [columns, layers]."""
        total: npt.NDArray[np.float64] = self.blocks.sum(axis=-1)
        return total

    @property
    def compression(self) -> npt.NDArray[np.float64]:
        """Uniform over online code length, [columns, layers]; 1 is no information."""
        return self.uniform / self.online


def block_ends(rows: int, classes: int) -> tuple[int, ...]:
    """Return where blocks end: at `FRACTIONS` of the rows, rounded up.

    Ends before as many rows as there are classes are left out, because nothing can be learnt from
    fewer; so the first block of a small data set is a larger share of it.
    """
    ends = {math.ceil(round(fraction * rows, 6)) for fraction in FRACTIONS}
    return tuple(sorted(end for end in ends if end >= min(classes, rows)))


def description_length(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    classes: int,
    ends: Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> DescriptionLength:
    """Code the labels of every column with the features of every layer.

    The probe of a block is that of `miscible.probe.fit.held_out.fit_classes`, trained on the rows
    of all earlier blocks. Its penalty is the one that would have coded the block before best, so it
    is chosen on earlier rows only; for the second block it is the strongest. While u classes of K
    have not occurred in n rows, they share the probability that the estimator of Krichevsky and
    Trofimov gives them, u / (2 n + K) in all, and the probe divides the rest.

    Args:
        features: finite, [rows, layers, width], in the order of coding: shuffle them before.
        labels: class of each row, [columns, rows].
        classes: number of classes, at least 2.
        ends: where blocks end, ascending, the last one at the last row; from `block_ends` if None.
        penalties: grid to choose from, strongest first.

    Raises:
        DatasetError: features that are not finite, fewer than 2 classes, or *ends* out of order.
    """
    rows, layers, width = features.shape
    columns = len(labels)
    stops = block_ends(rows, classes) if ends is None else tuple(ends)
    if classes < 2 or not stops or stops[-1] != rows or list(stops) != sorted({*stops} - {0}):
        raise DatasetError(
            "an online code needs 2 classes or more, and blocks in order that end with the last "
            f"row. Got {classes} classes and blocks that end at {list(stops)} of {rows} rows."
        )
    check_finite(features)
    bits = np.empty((columns, layers, len(stops)))
    bits[..., 0] = stops[0] * math.log2(classes)
    chosen = np.empty((columns, layers, len(stops) - 1))
    marks = torch.tensor(labels)
    features = np.ascontiguousarray(features)
    size = directions(rows, 0, width, classes, columns) + 1
    bytes_of_a_layer = 24 * rows * size + 4 * columns * classes * (_WORKSPACES * size + 8 * rows)
    for part in layer_chunks(layers, bytes_of_a_layer):
        shape = (min(part.stop, layers) - part.start, columns)
        best = torch.zeros(math.prod(shape), dtype=torch.int64)
        for block, (start, stop) in enumerate(pairwise(stops)):
            seen, next_rows = np.arange(start), np.arange(start, stop)
            places = coordinates(features, part, seen, next_rows, classes, columns)
            path = PenaltyPath(places, marks[:, :stop], start, stop - start, classes, penalties)
            walked = path.walk(best)
            nats = path.losses_at(best, walked) + _escape(path, start, stop - start, classes)
            bits[:, part, block + 1] = (nats / math.log(2)).view(shape).T.numpy()
            chosen[:, part, block] = np.asarray(penalties)[best.view(shape).T.numpy()]
            best = path.least(walked)
    return DescriptionLength(stops, bits, chosen, rows * math.log2(classes))


def _escape(path: PenaltyPath, seen: int, coded: int, classes: int) -> torch.Tensor:
    """Return the nats that say of each row whether its class has occurred, and if not, which."""
    each = 1 / (2 * seen + classes)
    known = (coded - path.unknown) * torch.log1p(-path.unseen * each)
    return -(known + path.unknown * math.log(each))
