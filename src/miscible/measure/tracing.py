"""Running every model over every piece of calibration data, with one model in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from miscible.errors import IncompatibleModelsError, MiscibleError, StoreError
from miscible.measure.gradient_store import GradientStore, free_bytes
from miscible.measure.passes import Data, Runner, observe
from miscible.measure.trace import KINDS, Kind, Piece, Trace
from miscible.models.checkpoint import Checkpoint
from miscible.progress import task

Array: TypeAlias = npt.NDArray[np.float64]
DISK_SHARE = 0.5
"""Share of the free disk that gradients take at most, unless told otherwise."""
D = TypeVar("D", bound=Data)


def trace(
    models: Mapping[str, Checkpoint],
    runner: Runner[D],
    pieces: Sequence[D],
    *,
    owners: Sequence[str] | None = None,
    layers: Sequence[int] = (-1,),
    gradients: Sequence[Kind] = KINDS,
    by_tensor: bool = False,
    disk_bytes: int | None = None,
    folder: Path | None = None,
) -> Trace:
    """Run every model over every piece: one forward and one backward pass a model and piece.

    Gradients go to disk, parameter by parameter, and only inner products come back, in float64.
    Where the disk is too small for all, they are taken in several sweeps over the models, of as
    many parameters as fit; the result is the same.

    Args:
        models: checkpoints by name.
        runner: a model in memory of their architecture.
        pieces: disjoint pieces of data.
        owners: of each piece, the model whose data it is, or an empty string.
        layers: whose states are kept, see `StateTaps`; none if empty.
        gradients: kinds that are wanted; none if empty.
        by_tensor: whether `Trace.tensor_grams` is wanted.
        disk_bytes: most bytes that gradients take on disk; half of what is free if None.
        folder: where they lie for the time of the call; the cache folder if None.

    Raises:
        MiscibleError: if there is nothing to run.
        StoreError: if the disk is too small for the gradients of one parameter of all models.
            What is wrong with a single model is in `Trace.failures`.
    """
    described = _described(models, pieces, owners)
    run = _Run(models, runner, pieces, layers, gradients, by_tensor, folder)
    room = int(DISK_SHARE * free_bytes(folder)) if disk_bytes is None else disk_bytes
    sweeps = run.sweeps(room)
    with task("calibrate", len(sweeps) * len(models)) as advance:
        for number, sweep in enumerate(sweeps):
            run.sweep(sweep, first=number == 0, advance=advance)
    whole = sum(each.numel() for each in runner.module.parameters())
    return Trace(
        models=tuple(models),
        pieces=described,
        loss=np.array([run.losses.get(name, [np.nan] * len(pieces)) for name in models]),
        states=run.states,
        grams={kind: run.without_failed(run.grams[kind]) for kind in KINDS if kind in gradients},
        tensor_grams={n: run.without_failed(gram) for n, gram in run.tensor_grams.items()},
        coverage=sum(run.sizes.values()) / whole,
        failures=run.failures,
    )


def _described(
    models: Mapping[str, Checkpoint], pieces: Sequence[Data], owners: Sequence[str] | None
) -> tuple[Piece, ...]:
    if not models or not pieces:
        raise MiscibleError("there are no models, or no calibration data, to run.")
    owned = ["" for _ in pieces] if owners is None else list(owners)
    unknown = sorted(set(owned) - {"", *models})
    if len(owned) != len(pieces) or unknown:
        raise MiscibleError(
            f"{len(owned)} owners of {len(pieces)} pieces of calibration data"
            + (f"; {unknown[0]!r} is no model." if unknown else "."),
        )
    return tuple(
        Piece(data.name, owner, len(data), data.tokens, data.predictions, data.key)
        for data, owner in zip(pieces, owned, strict=True)
    )


class _Run(Generic[D]):
    """A run: what is to be measured, and what has been.

    Rows of gradients are (model, piece), pieces fastest.
    """

    def __init__(
        self,
        models: Mapping[str, Checkpoint],
        runner: Runner[D],
        pieces: Sequence[D],
        layers: Sequence[int],
        gradients: Sequence[Kind],
        by_tensor: bool,
        folder: Path | None,
    ) -> None:
        self.models, self.runner, self.pieces, self.layers = models, runner, pieces, layers
        self.by_tensor, self.folder = by_tensor, folder
        self.failures: dict[str, str] = {}
        self.losses: dict[str, list[float]] = {}
        self.states: dict[str, Array] = {}
        chosen = runner.parameters(pieces) if "encoder" in gradients else {}
        self.sizes = {name: parameter.numel() for name, parameter in chosen.items()}
        self.inputs: dict[str, int] = {}
        if "input" in gradients:
            self.inputs = {str(p): runner.input_size(data) for p, data in enumerate(pieces)}
        wide = any(each.element_size() > 4 for each in runner.module.parameters())
        self.dtype = np.dtype(np.float64 if wide else np.float32)
        self.rows = len(models) * len(pieces)
        self.grams: dict[Kind, Array] = {kind: self._no_gram() for kind in KINDS}
        self.tensor_grams: dict[str, Array] = defaultdict(self._no_gram)

    def sweeps(self, room: int) -> list[dict[str, int]]:
        """Divide the parameters into groups that fit into *room* bytes together with the inputs.

        Raises:
            StoreError: if one does not fit on its own.
        """
        room -= len(self.models) * sum(self.inputs.values()) * self.dtype.itemsize
        most = room // (self.rows * self.dtype.itemsize)
        largest = max(self.sizes.values(), default=0)
        if most < largest:
            need = (largest - most) * self.rows * self.dtype.itemsize
            raise StoreError(
                f"gradients need at least {need / 1e9:.2f} GB more of disk.",
                where=None if self.folder is None else str(self.folder),
                fix="Free some, give another 'folder', or measure fewer models or less data.",
            )
        groups: list[dict[str, int]] = [{}]
        for name, size in self.sizes.items():
            if sum(groups[-1].values()) + size > most:
                groups.append({})
            groups[-1][name] = size
        return groups

    def sweep(
        self, sizes: Mapping[str, int], *, first: bool, advance: Callable[[float], None]
    ) -> None:
        """Run every model that has not failed, for the gradients of some parameters."""
        inputs = self.inputs if first else {}
        with (
            GradientStore(self.rows, sizes, dtype=self.dtype, folder=self.folder) as held,
            GradientStore(
                len(self.models), inputs, dtype=self.dtype, folder=self.folder
            ) as at_input,
        ):
            for place, name in enumerate(self.models):
                if name not in self.failures:
                    try:
                        self._run_model(name, place, sizes, held, at_input, first=first)
                    except StoreError:
                        raise
                    except MiscibleError as error:
                        self.failures[name] = str(error)
                        self.losses.pop(name, None)
                        self.states.pop(name, None)
                advance(1)
            alive = [row for row in range(self.rows) if self._alive(row)]
            at = np.ix_(alive, alive)
            for name in sizes:
                gram = held.gram(name, alive)
                self.grams["encoder"][at] += gram
                if self.by_tensor:
                    self.tensor_grams[name][at] = gram
            for name in inputs:  # those of different pieces have no input in common
                own = [row for row in alive if row % len(self.pieces) == int(name)]
                products = at_input.gram(name, [row // len(self.pieces) for row in own])
                self.grams["input"][np.ix_(own, own)] = products

    def without_failed(self, gram: Array) -> Array:
        """Return a Gram as [models, pieces, models, pieces], NaN where a model failed."""
        dead = [row for row in range(self.rows) if not self._alive(row)]
        gram[dead, :] = gram[:, dead] = np.nan
        shape = (len(self.models), len(self.pieces))
        return gram.reshape(*shape, *shape)

    def _run_model(
        self,
        name: str,
        place: int,
        sizes: Mapping[str, int],
        held: GradientStore,
        at_input: GradientStore,
        *,
        first: bool,
    ) -> None:
        self.runner.fill(self.models[name])
        losses: list[float] = []
        states: list[Array] = []
        for number, data in enumerate(self.pieces):
            sink = _Rows(held, at_input, place * len(self.pieces) + number, place, number)
            seen = observe(
                self.runner, data, layers=self.layers if first else (),
                parameters=list(sizes), inputs=first and bool(self.inputs), sink=sink,
            )  # fmt: skip
            losses.append(float(seen.losses.sum()) / data.predictions)
            states.append(seen.states)
        if first:
            self.losses[name] = losses
            if self.layers:
                self.states[name] = np.concatenate(states)

    def _alive(self, row: int) -> bool:
        return list(self.models)[row // len(self.pieces)] not in self.failures

    def _no_gram(self) -> Array:
        return np.zeros((self.rows, self.rows))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where the gradients of one model on one piece go."""

    held: GradientStore
    at_input: GradientStore
    row: int
    model: int
    piece: int

    def parameter(self, name: str, values: npt.NDArray[np.floating]) -> None:
        if values.size != self.held.pieces[name]:
            raise IncompatibleModelsError(f"its parameter {name!r} has another size.")
        self.held.write(self.row, name, values)

    def input(self, values: npt.NDArray[np.floating], start: int) -> None:
        if start + values.size > self.at_input.pieces[str(self.piece)]:
            raise IncompatibleModelsError("its input has another size.")
        self.at_input.write(self.model, str(self.piece), values, start)
