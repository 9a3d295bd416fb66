"""One of the models that are measured: what it shares with the base, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from miscible.errors import IncompatibleModelsError
from miscible.measure.contract import Status
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.checkpoint import Checkpoint

LEAST_SHARED = 0.5
"""A model with less of the base's elements, by name and shape, is of another architecture."""
QUANTISED = frozenset({"U8", "I8", "F8_E4M3", "F8_E5M2", "I32", "U32"})
"""Dtypes in which quantised matrices are stored."""


@dataclass(eq=False)
class Subject:
    """A model.

    Attributes:
        name: of the model.
        checkpoint: its weights.
        shared: tensors that it has in common with the base, by name and shape.
        missing, extra, reshaped: floating-point tensors that only the base has, that only the model
            has, and that have another shape there.
        adapts_base: whether it is an adapter on the base's own weights.
        status, reason: ``ok``, or why it takes no part.
    """

    name: str
    checkpoint: Checkpoint
    shared: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    adapts_base: bool = False
    status: Status = "ok"
    reason: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether it takes part."""
        return self.status == "ok"

    def fail(self, reason: str) -> None:
        """Take it out of everything that follows."""
        self.status, self.reason = "failed", reason

    def exclude(self, reason: str) -> None:
        """Leave it out of all pairs."""
        self.status, self.reason = "excluded", reason


def floating(model: Checkpoint) -> dict[str, int]:
    """Return the number of elements of the floating-point tensors, by name.

    Raises:
        IncompatibleModelsError: if matrices are stored in a quantised format.
    """
    quantised = _quantised(model)
    if quantised is not None:
        raise IncompatibleModelsError(
            f"the model is quantised: {quantised}.", where=model.name,
            fix="Give the model that it was made from, or dequantise it.",
        )  # fmt: skip
    return {name: info.size for name, info in model.tensors.items() if info.floating}


def subjects_of(base: Checkpoint, models: Mapping[str, Checkpoint]) -> list[Subject]:
    """Look at the headers of all models."""
    return [_subject(base, name, checkpoint) for name, checkpoint in models.items()]


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Return whether two checkpoints hold the same weights; digests are a last resort."""
    if one is other or (one.files and one.files == other.files):
        return True
    return one.tensors == other.tensors and one.fingerprint == other.fingerprint


def _subject(base: Checkpoint, name: str, checkpoint: Checkpoint) -> Subject:
    theirs = checkpoint.tensors
    ours = {tensor: info for tensor, info in base.tensors.items() if info.floating}
    held = {tensor for tensor in ours if tensor in theirs and theirs[tensor].floating}
    shared = {tensor for tensor in held if theirs[tensor].shape == ours[tensor].shape}
    subject = Subject(
        name,
        checkpoint,
        frozenset(shared),
        tuple(tensor for tensor in ours if tensor not in theirs),
        tuple(tensor for tensor, info in theirs.items() if info.floating and tensor not in ours),
        tuple(tensor for tensor in ours if tensor in held - shared),
    )
    quantised = _quantised(checkpoint)
    common = sum(ours[tensor].size for tensor in shared)
    total = sum(info.size for info in ours.values())
    if quantised is not None:
        subject.fail(f"it is quantised: {quantised}. Dequantise it first.")
    elif not shared and subject.extra:
        subject.fail(
            "it shares no tensor with the base: its are called like "
            f"{subject.extra[0]!r}, the base's like {next(iter(ours))!r}."
        )
    elif common < LEAST_SHARED * total:
        subject.fail(
            f"only {common / total:.0%} of the base's weights are in it by name and shape"
            f"{_example(base, checkpoint, subject.reshaped or subject.missing)}: it is of another "
            "architecture."
        )
    elif isinstance(checkpoint, AdaptedCheckpoint):
        subject.adapts_base = same_weights(checkpoint.base, base)
    return subject


def _example(base: Checkpoint, model: Checkpoint, names: Iterable[str]) -> str:
    name = next(iter(names))
    shape = base.tensors[name].shape
    if name not in model.tensors:
        return f" ({name!r} is missing)"
    return f" ({name!r} is {list(model.tensors[name].shape)}, in the base {list(shape)})"


def _quantised(model: Checkpoint) -> str | None:
    for name, info in model.tensors.items():
        if len(info.shape) >= 2 and info.dtype in QUANTISED:
            return f"{name!r} is stored as {info.dtype}"
    return None
