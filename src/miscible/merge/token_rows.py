"""How rows of models' embeddings become rows of the output, and how ranges of them are read.

An `Alignment` says, in whole numbers alone, from which stored rows each model's rows of the output
come: its own where it has the token, another's or a mean of others' where it has not. Any range of
rows can then be read with memory for that range only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from miscible.keys import content_key

DONATED = -1
"""In a `RowMap`: the row comes from the alignment's donors."""
PADDING = -2
"""In a `RowMap`: no token has the row; it is the mean of the model's other rows."""

_NEAR = 3  # rows so near to each other are read at once
_CHUNK = 4096

ReadRows: TypeAlias = Callable[[str, int, int], Any]
"""Of a reference, a first row and an end: these rows, a float32 or float64 array on the CPU."""


@dataclass(frozen=True, slots=True, eq=False)
class RowMap:
    """Where one model's rows of an output embedding or head come from.

    Attributes:
        model: reference of the model.
        rows: int64 [output rows]: the number of the model's own row, `DONATED` or `PADDING`.
    """

    model: str
    rows: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Donors:
    """What stands in for a row that a model does not have: the mean of some models' rows.

    Output row i is the mean of the rows ``rows[offsets[i]:offsets[i + 1]]`` of the models with
    these numbers in ``models``; of none, it is zero.

    Attributes:
        offsets: int64 [output rows + 1].
        models: int64, index into the alignment's references.
        rows: int64, row of the model.
    """

    offsets: np.ndarray
    models: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the rows of all models' embeddings and heads become rows of the output.

    Attributes:
        vocabulary: id of every token of the output; its row.
        rows: number of output rows, with padding.
        references: of the models, in the order that `Donors.models` counts.
        maps: of each reference.
        donors: shared by all models.
        tensors: of each reference, the names of the tensors that have a row for each token.
        unheld: tokens that no model has a row for; their rows are zero.
        assumed: references of models without a tokenizer, taken to have the source's vocabulary.
    """

    vocabulary: Mapping[str, int]
    rows: int
    references: tuple[str, ...]
    maps: Mapping[str, RowMap]
    donors: Donors
    tensors: Mapping[str, frozenset[str]]
    unheld: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def concerns(self, reference: str, tensor: str) -> bool:
        """Return whether *tensor* of the model is read through its map."""
        return tensor in self.tensors[reference]

    def shape(self, reference: str, tensor: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of *tensor* after alignment, given its own."""
        return (self.rows, *shape[1:]) if self.concerns(reference, tensor) else shape

    @cached_property
    def padded(self) -> bool:
        """Whether some output rows belong to no token."""
        return self.rows > len(self.vocabulary)

    @cached_property
    def key(self) -> str:
        """A content key of the matching, which changes when any row comes from elsewhere.

        Models are told apart by their order, not by their references.
        """
        digest = hashlib.sha256()
        arrays = [m.rows for m in self.maps.values()]
        for array in (*arrays, self.donors.offsets, self.donors.models, self.donors.rows):
            digest.update(len(array).to_bytes(8, "little") + array.astype("<i8").tobytes())
        return content_key(rows=digest.hexdigest())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what the matching had to assume."""
        found = [
            f"{model} has no tokenizer; its rows are taken to be those of the output's source."
            for model in self.assumed
        ]
        if self.unheld:
            named = ", ".join(map(repr, self.unheld[:3])) + (
                ", ..." if len(self.unheld) > 3 else ""
            )
            found.append(f"No model has a row for {len(self.unheld)} tokens ({named}): zeros.")
        return tuple(found)


def aligned_rows(
    alignment: Alignment,
    reference: str,
    read_rows: ReadRows,
    start: int,
    stop: int,
    *,
    mean: np.ndarray | None = None,
) -> np.ndarray:
    """Return rows [start, stop) of one model's aligned tensor.

    Args:
        alignment: of the models.
        reference: of the model.
        read_rows: reads rows of the tensor; it is asked for at most about three times as many rows
            as are returned, and for other models' rows too.
        start, stop: of the output rows.
        mean: of `mean_row`; computed if it is needed and not given.

    Returns:
        A new array in the dtype that *read_rows* gives: rows that are copied are copied exactly,
        means are computed in float64 and rounded once.
    """
    wanted = alignment.maps[reference].rows[start:stop]
    like = np.asarray(read_rows(reference, 0, 1))
    result = np.zeros((len(wanted), *like.shape[1:]), dtype=like.dtype)
    own = np.flatnonzero(wanted >= 0)
    if len(own):
        result[own] = _gathered(read_rows, reference, wanted[own])
    donated = np.flatnonzero(wanted == DONATED)
    if len(donated):
        result[donated] = _means(alignment, read_rows, start + donated, like)
    padding = np.flatnonzero(wanted == PADDING)
    if len(padding):
        result[padding] = mean_row(alignment, reference, read_rows) if mean is None else mean
    return result


def mean_row(alignment: Alignment, reference: str, read_rows: ReadRows) -> np.ndarray:
    """Return the mean of one model's aligned rows that belong to tokens, summed in float64."""
    like = np.asarray(read_rows(reference, 0, 1))[0]
    total, nothing = np.zeros(like.shape), np.zeros_like(like)
    for start in range(0, alignment.rows, _CHUNK):
        stop = min(start + _CHUNK, alignment.rows)
        rows = aligned_rows(alignment, reference, read_rows, start, stop, mean=nothing)
        total += rows.sum(axis=0, dtype=np.float64)
    count = np.count_nonzero(alignment.maps[reference].rows != PADDING)
    mean: np.ndarray = (total / max(count, 1)).astype(like.dtype)
    return mean


def _means(
    alignment: Alignment, read_rows: ReadRows, rows: np.ndarray, like: np.ndarray
) -> np.ndarray:
    donors = alignment.donors
    counts = donors.offsets[rows + 1] - donors.offsets[rows]
    places = np.repeat(np.arange(len(rows)), counts)
    entries = np.concatenate(
        [np.arange(donors.offsets[row], donors.offsets[row + 1]) for row in rows]
    )
    total = np.zeros((len(rows), *like.shape[1:]))
    for number in np.unique(donors.models[entries]):
        chosen = donors.models[entries] == number
        reference = alignment.references[int(number)]
        total[places[chosen]] += _gathered(read_rows, reference, donors.rows[entries[chosen]])
    divisors = np.maximum(counts, 1).reshape(-1, *[1] * (total.ndim - 1))
    mean: np.ndarray = (total / divisors).astype(like.dtype)
    return mean


def _gathered(read_rows: ReadRows, reference: str, rows: np.ndarray) -> np.ndarray:
    unique, places = np.unique(rows, return_inverse=True)
    runs = np.split(unique, np.flatnonzero(np.diff(unique) > _NEAR) + 1)
    held = [
        np.asarray(read_rows(reference, int(run[0]), int(run[-1]) + 1))[run - run[0]]
        for run in runs
    ]
    gathered: np.ndarray = np.concatenate(held)[places]
    return gathered
