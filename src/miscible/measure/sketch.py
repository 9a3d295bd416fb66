"""One pass over the tensors of N models: everything that metrics of weights read.

For each tensor the base and all models are read once, then it is forgotten: what remains are N x N
tables. Memory is bounded by `HELD_BYTES` of one tensor of all models as it is stored (a larger one
is read twice, in pieces), `SQUARES_BYTES` of their squares, a piece of `CHUNK_BYTES` a model, and
one matrix in float64 where it is wide or too large for the turns of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.measure.changes import (
    Change,
    Stored,
    chunks,
    not_finite,
    read_base,
    read_change,
)
from miscible.measure.contract import Pair
from miscible.measure.decompositions import Decompositions
from miscible.measure.spectrum import Spectrum
from miscible.measure.spectrum_cache import SpectrumCache
from miscible.measure.subject import Subject, floating, subjects_of
from miscible.measure.tables import SpectralTables, TensorTables, compare
from miscible.measure.tensor_pass import TensorPass
from miscible.models.checkpoint import Checkpoint, unchanged
from miscible.models.formats.safetensors import TensorInfo
from miscible.progress import task

HELD_BYTES = 1 << 28
"""Of one tensor of all models, as it is stored; a larger one is never held, but read in pieces."""
MOST_DISTANT = 1.0
"""Norm of a task vector relative to the base: where it is more, zeros are nearer to the base than
the model is. Fine-tunes stay below 0.1 as a rule, models of unrelated training lie above 1."""


@dataclass(frozen=True)
class Sketch:
    """What one pass over N models gave.

    Attributes:
        base: the base's name.
        sizes: number of elements of the base's floating-point tensors, by name.
        models: in the order in which they were given; what is wrong with one stands there.
        tables: by tensor, in the base's order.
        compat: see `miscible.measure.contract.Pair`.
    """

    base: str
    sizes: Mapping[str, int]
    models: tuple[Subject, ...]
    tables: tuple[TensorTables, ...]
    compat: bool = False

    @property
    def parameters(self) -> int:
        """Number of floating-point elements of the base."""
        return sum(self.sizes.values())

    def relative_distance(self, model: int) -> float:
        """Return |tau| / |base| over the matrices of a model; over all tensors if it has none."""
        held = [t for t in self.tables if t.rows[model] is not None]
        matrices = [table for table in held if len(table.shape) == 2] or held
        base = math.fsum(table.base_square for table in matrices)
        return math.sqrt(math.fsum(t.square(model) for t in matrices) / base) if base else 0.0

    def pair(self, a: int, b: int) -> Pair:
        """Return what is known of the weights of two models, by their numbers."""
        found = (table.pair(a, b) for table in self.tables)
        return Pair(
            self.models[a].name,
            self.models[b].name,
            tuple(tensor for tensor in found if tensor is not None),
            self.parameters,
            compat=self.compat,
        )


def take_sketch(
    base: Checkpoint,
    models: Mapping[str, Checkpoint],
    *,
    parts: frozenset[str] = frozenset({"signs", "spectra"}),
    cache: SpectrumCache | None = None,
    compat: bool = False,
    most_distant: float = MOST_DISTANT,
) -> Sketch:
    """Read the base and all models, tensor by tensor.

    Args:
        models: by name.
        parts: what is wanted of each tensor beyond its Gram: ``signs``, ``spectra``.
        cache: of decompositions, None to keep none.
        compat: see `miscible.measure.contract.Pair`.
        most_distant: models farther from the base, relative to its norm, are excluded.

    Raises:
        IncompatibleModelsError: if the base is quantised or has no floating-point tensor.
        CheckpointError: if the base is damaged.
    """
    sizes = floating(base)
    if not sizes:
        raise IncompatibleModelsError(
            "the base has no floating-point tensor.",
            where=base.name,
            fix="A quantised model cannot be the base; give the one it was made from.",
        )
    subjects = subjects_of(base, models)
    tables = []
    with task("measure weights", total=sum(sizes.values())) as advance:
        for name, size in sizes.items():
            held = [s for s in subjects if s.is_sound and name in s.shared]
            with np.errstate(invalid="ignore", over="ignore"):  # NaN is looked for in the results
                found = _of_tensor(base, held, name, subjects, parts, cache)
            if found is not None:
                tables.append(found)
            advance(size)
    unchanged(base)
    sketch = Sketch(base.name, sizes, tuple(subjects), tuple(tables), compat)
    for number, subject in enumerate(subjects):
        _check(sketch, number, subject, most_distant)
    return sketch


def _check(sketch: Sketch, number: int, subject: Subject, most_distant: float) -> None:
    if not subject.is_sound:
        return
    try:
        unchanged(subject.checkpoint)
    except MiscibleError as error:
        subject.fail(str(error))
        return
    distance = sketch.relative_distance(number)
    if distance > most_distant:
        subject.exclude(
            f"its weights are {distance:.2g} times the base's norm away from the base: it seems to "
            "be of another base."
        )


def _of_tensor(
    base: Checkpoint,
    subjects: Sequence[Subject],
    name: str,
    everyone: Sequence[Subject],
    parts: frozenset[str],
    cache: SpectrumCache | None,
) -> TensorTables | None:
    info = base.tensors[name]
    if not subjects or not info.size:
        return None
    is_large = info.nbytes * (len(subjects) + 1) > HELD_BYTES
    origin = read_base(base, name, held=not is_large)
    spectral = Decompositions(origin, len(subjects), cache) if _is_wanted(info, parts) else None
    changes: list[Change] = []
    read: list[Subject] = []
    for subject in subjects:
        try:
            change = read_change(
                subject.checkpoint, base, name, origin, of_base=subject.adapts_base,
                held=not is_large,
            )  # fmt: skip
            if spectral is not None:
                spectral.begin(change)
        except FloatingPointError:
            _refuse_not_finite(base, name, origin)
            subject.fail(not_finite(name))
            continue
        except (MiscibleError, MemoryError) as error:
            subject.fail(_sentence(error))
            continue
        changes.append(change)
        read.append(subject)
    if not changes:
        return None
    turns = TensorPass(changes)
    turns.first_turn(signs="signs" in parts, tall=spectral.tall if spectral else ())
    found = None if spectral is None else spectral.end(turns)
    if not math.isfinite(turns.base_square) or not np.isfinite(np.diagonal(turns.gram)).all():
        _refuse_not_finite(base, name, origin)
        for subject, square in zip(read, np.diagonal(turns.gram), strict=True):
            if not math.isfinite(square):
                subject.fail(not_finite(name))
    for row, why in turns.broken.items():
        read[row].fail(_sentence(why))
    number = {id(subject): row for row, subject in enumerate(read)}
    return TensorTables(
        name,
        info.shape,
        tuple(number.get(id(subject)) for subject in everyone),
        turns.gram,
        turns.base_square,
        turns.signs,
        None if found is None else _compared(found, changes, origin, turns.base_square),
    )


def _is_wanted(info: TensorInfo, parts: frozenset[str]) -> bool:
    return len(info.shape) == 2 and "spectra" in parts


def _refuse_not_finite(base: Checkpoint, name: str, origin: Stored) -> None:
    """Tell whether it is the base that makes a difference NaN: then nothing can be measured."""
    pieces = (origin.read(*rows) for rows in chunks(origin.rows, origin.width))
    if not all(np.isfinite(piece).all() for piece in pieces):
        raise CheckpointError(not_finite(name), where=base.name)


def _compared(
    spectra: Sequence[Spectrum], changes: Sequence[Change], origin: Stored, base_square: float
) -> SpectralTables:
    return compare(
        spectra,
        (origin.rows, origin.width),
        math.sqrt(base_square / (origin.rows * origin.width)),
        [change.rounding for change in changes],
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, MiscibleError):
        return error.what
    return "there is not enough memory to read it."
