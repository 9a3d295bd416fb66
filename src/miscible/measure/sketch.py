"""One pass over the tensors of N models: everything that metrics of weights read.

For each tensor the base and all models are read once, then it is forgotten: what remains are N x N
tables. Memory is bounded by one tensor times N (stored), or by a few chunks where it is larger than
`HELD_BYTES`; such a tensor is read a second time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.measure.changes import Change, Stored, not_finite, read_base, read_change
from miscible.measure.contract import Pair
from miscible.measure.spectrum import Spectrum, chunks, decompose
from miscible.measure.spectrum_cache import SpectrumCache
from miscible.measure.subject import Subject, floating, subjects_of
from miscible.measure.tables import SpectralTables, TensorTables, compare, inner_products
from miscible.models.checkpoint import Checkpoint, unchanged
from miscible.progress import task

HELD_BYTES = 1 << 28
"""Of one tensor of all models, as it is stored; a larger one is read again where it is needed."""
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
    origin = read_base(base, name)
    changes: list[Change] = []
    spectra: list[Spectrum] = []
    read: list[Subject] = []
    origin_digest = origin.digest() if cache is not None else ""
    is_matrix = len(info.shape) == 2
    large = info.nbytes * (len(subjects) + 1) > HELD_BYTES
    for subject in subjects:
        try:
            change = read_change(
                subject.checkpoint, base, name, origin, of_base=subject.adapts_base
            )
            if is_matrix and "spectra" in parts:
                spectra.append(_spectrum(change, cache, origin_digest))
        except FloatingPointError:
            _refuse_not_finite(base, name, origin)
            subject.fail(not_finite(name))
            continue
        except (MiscibleError, MemoryError) as error:
            subject.fail(_sentence(error))
            continue
        if large:
            change.let_go()
        changes.append(change)
        read.append(subject)
    if not changes:
        return None
    gram, base_square, signs = inner_products(changes, signs="signs" in parts)
    if not math.isfinite(base_square) or not np.isfinite(np.diagonal(gram)).all():
        _refuse_not_finite(base, name, origin)
        for subject, square in zip(read, np.diagonal(gram), strict=True):
            if not math.isfinite(square):
                subject.fail(not_finite(name))
    number = {id(subject): row for row, subject in enumerate(read)}
    return TensorTables(
        name,
        info.shape,
        tuple(number.get(id(subject)) for subject in everyone),
        gram,
        base_square,
        signs,
        _compared(spectra, changes, origin, base_square) if spectra else None,
    )


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


def _spectrum(change: Change, cache: SpectrumCache | None, origin_digest: str) -> Spectrum:
    if cache is None or change.is_zero or change.low_rank is not None:
        return decompose(change)
    key = cache.key(origin_digest, change.digest())
    held = cache.load(key, (change.base.rows, change.base.width))
    if held is None:
        held = decompose(change)
        cache.keep(key, held)
    return held


def _sentence(error: Exception) -> str:
    if isinstance(error, MiscibleError):
        return error.what
    return "there is not enough memory to read it."
