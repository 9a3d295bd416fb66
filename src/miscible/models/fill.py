"""Filling a live module with the weights of a checkpoint, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from miscible.errors import IncompatibleModelsError, MiscibleError, did_you_mean
from miscible.models.checkpoint import Checkpoint
from miscible.models.finite import all_finite
from miscible.models.formats.safetensors import FLOATING, SAFETENSORS_NAMES, TensorInfo
from miscible.models.state_dict import tied_to
from miscible.progress import task

if TYPE_CHECKING:
    import torch

COMPUTED_BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
"""Ends of the names of buffers that old checkpoints store and newer architectures compute."""


def fill_module(module: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Copy all tensors of a checkpoint into a module, one at a time, by the state dict's names.

    The module keeps its dtypes and devices. Of tied weights the checkpoint may hold one or, if they
    are equal, several. Names, shapes and kinds are checked before anything is changed; a tensor
    that cannot be computed, because an input holds NaN, is only found on the way, and leaves the
    module with tensors of both.

    Raises:
        IncompatibleModelsError: if tensors are missing, unknown or of another shape, or if those
            that the module ties differ.
        MiscibleError: if a tensor cannot be computed, or is not finite in the module's dtype.
    """
    import torch

    held = module.state_dict(keep_vars=True)
    places = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    empty = next((name for name, place in places.items() if place.is_meta), None)
    if empty is not None:
        raise MiscibleError(
            f"tensor {empty!r} of the module is on the meta device: it has no memory.",
            fix="Call 'module.to_empty(device=...)' first.",
        )
    names = [n for n in checkpoint.tensors if n in places or not n.endswith(COMPUTED_BUFFERS)]
    _check_names(checkpoint, names, places)
    for name in names:
        _check_fits(checkpoint, name, checkpoint.tensors[name], places[name])
    groups = _groups(names, places)
    for group in groups:
        _check_tied(checkpoint, group, places)
    total = sum(checkpoint.tensors[group[0]].nbytes for group in groups)
    with torch.no_grad(), task(f"load {checkpoint.name}", total) as advance:
        for name, *_ in groups:
            place = places[name]
            tensor = checkpoint.read(name, place.dtype)
            _check_finite(checkpoint, name, tensor)
            place.detach().copy_(tensor)
            advance(checkpoint.tensors[name].nbytes)


def _check_names(
    checkpoint: Checkpoint, names: Sequence[str], places: Mapping[str, torch.Tensor]
) -> None:
    unknown = [name for name in names if name not in places]
    if unknown:
        raise IncompatibleModelsError(
            f"{len(unknown)} tensors have no place in the module, {unknown[0]!r} among them.",
            where=checkpoint.name,
            fix=did_you_mean(unknown[0], list(places)[:2000]),
        )
    filled = {_place_key(name, places) for name in names}
    missing = [name for name in places if _place_key(name, places) not in filled]
    if missing:
        raise IncompatibleModelsError(
            f"{len(missing)} tensors of the module are missing, {missing[0]!r} among them.",
            where=checkpoint.name,
        )


def _check_fits(checkpoint: Checkpoint, name: str, info: TensorInfo, place: torch.Tensor) -> None:
    if tuple(place.shape) != info.shape:
        found = f"has shape {tuple(place.shape)}"
    elif (SAFETENSORS_NAMES.get(_kind(place)) in FLOATING) != info.floating:
        found = f"is {_kind(place)}"
    else:
        return
    raise IncompatibleModelsError(
        f"tensor {name!r} has shape {info.shape} and dtype {info.dtype}; in the module it {found}.",
        where=checkpoint.name,
    )


def _groups(names: Sequence[str], places: Mapping[str, torch.Tensor]) -> list[list[str]]:
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(_place_key(name, places), []).append(name)
    return list(groups.values())


def _check_tied(
    checkpoint: Checkpoint, group: Sequence[str], places: Mapping[str, torch.Tensor]
) -> None:
    first, *others = group
    if not others:
        return
    dtype = places[first].dtype
    tensor = checkpoint.read(first, dtype)
    for other in others:
        if not tensor.equal(checkpoint.read(other, dtype)):
            raise IncompatibleModelsError(
                f"tensors {first!r} and {other!r} differ, and the module ties them.",
                where=checkpoint.name,
                fix="Give a module whose weights are not tied.",
            )


def _check_finite(checkpoint: Checkpoint, name: str, tensor: torch.Tensor) -> None:
    if not all_finite(tensor):
        raise MiscibleError(
            f"tensor {name!r} is not finite in {_kind(tensor)}.",
            where=checkpoint.name,
            fix="Its numbers are too large for the module's dtype; use a wider one.",
        )


def _place_key(name: str, places: Mapping[str, torch.Tensor]) -> object:
    return tied_to(places[name]) or name


def _kind(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
