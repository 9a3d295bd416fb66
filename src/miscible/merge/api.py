"""Merging from Python: ``miscible.merge``."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar, overload

from miscible.errors import RecipeError, did_you_mean
from miscible.merge.nested import MergedModel
from miscible.merge.opening import open_recipe
from miscible.merge.recipe import Recipe, parse_recipe, read_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.fingerprint import quick_key
from miscible.models.state_dict import StateDictCheckpoint
from miscible.spec import Document

if TYPE_CHECKING:
    import torch

    from miscible.merge.engine.write import Written

    M = TypeVar("M", bound=torch.nn.Module)

AnyRecipe: TypeAlias = "Recipe | Mapping[str, Any] | str | Path"
"""A recipe, a mapping of its keys, its YAML, or the path of its file."""
AnyModel: TypeAlias = "Checkpoint | torch.nn.Module | Mapping[str, torch.Tensor]"


class Merge(VirtualCheckpoint):
    """A merge that is computed, tensor by tensor, when it is read."""

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
        """Compute all tensors, on the CPU, in *dtype* or else in the recipe's.

        Tied weights stand there once, as in a model folder.

        Raises:
            MiscibleError: if an input holds NaN or infinity.
        """
        return {name: self.read(name, dtype) for name in self.tensors}


@overload
def merge(
    recipe: AnyRecipe,
    *,
    models: Mapping[str, AnyModel] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    relative_to: Path | None = None,
) -> Merge: ...
@overload
def merge(
    recipe: AnyRecipe,
    *,
    out: Path | str,
    models: Mapping[str, AnyModel] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    relative_to: Path | None = None,
) -> Written: ...
@overload
def merge(
    recipe: AnyRecipe,
    *,
    into: M,
    models: Mapping[str, AnyModel] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    relative_to: Path | None = None,
) -> M: ...
def merge(
    recipe: AnyRecipe,
    *,
    out: Path | str | None = None,
    into: torch.nn.Module | None = None,
    models: Mapping[str, AnyModel] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    relative_to: Path | None = None,
) -> Merge | Written | torch.nn.Module:
    """Merge models by a recipe: as it is read, into a folder, or into a module.

    Without *out* and *into* nothing is computed yet: the result has the interface of a checkpoint,
    and a `state_dict`. What makes a merge less than its recipe looks like is in its ``warnings``;
    with *out* or *into* Python warns of it.

    Args:
        recipe: a `Recipe`, a mapping of its keys, its YAML text, or the path of its file.
        out: folder to write, which must not exist; returns records of its files, and doses.
        into: module to fill in place, by the names of its state dict; it is returned. It keeps its
            dtypes and devices, and is left as it was if a name or shape does not fit.
        models: models in memory, by the reference that the recipe has for them: state dicts,
            modules, or checkpoints.
        seed: of the methods that draw random numbers.
        device: where tensors are computed.
        threads: with *out*, that compute; as many as there are processors if None.
        relative_to: folder against which the recipe's paths are resolved; the working folder if
            None.

    Raises:
        MiscibleError: if the recipe, a model or the destination will not do; see its subclasses.
    """
    if out is not None and into is not None:
        raise TypeError("merge() takes 'out' or 'into', not both")
    folder = None if out is None else Path(out)
    if folder is not None:
        from miscible.models.writer import refuse_existing

        refuse_existing(folder)
    parsed = _parsed(recipe)
    place = _checked_device(str(device))
    given = _given(models or {}, parsed)
    opened = open_recipe(parsed, relative_to, given=given)
    virtual = Merge(
        parsed,
        opened.models,
        name="merge" if folder is None else folder.name,
        seed=seed,
        device=place,
        opened=opened,
    )
    if folder is not None:
        from miscible.merge.export import write_merge

        _warn(virtual)
        return write_merge(virtual, folder, threads=threads)
    if into is not None:
        from miscible.models.fill import fill_module

        _warn(virtual)
        _refuse_overwritten(virtual, given, into)
        fill_module(into, virtual)
        return into
    return virtual


def _parsed(recipe: AnyRecipe) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Path):
        return read_recipe(recipe)
    if isinstance(recipe, Mapping):
        return Document(dict(recipe), "<recipe>").validate(Recipe, RecipeError)
    if not isinstance(recipe, str):
        raise TypeError(f"a recipe is no {type(recipe).__name__}")
    if "\n" not in recipe and recipe.endswith((".yml", ".yaml")):
        raise RecipeError(
            f"{recipe!r} is read as a recipe's text, and is the name of a file.",
            fix=f"Give Path({recipe!r}).",
        )
    return parse_recipe(recipe)


def _checked_device(device: str) -> str:
    if device != "cpu":
        from miscible.models.live import parse_device

        parse_device(device)
    return device


def _given(models: Mapping[str, AnyModel], recipe: Recipe) -> dict[str, Checkpoint]:
    known = recipe.references()
    for name in models:
        if name not in known:
            raise RecipeError(
                f"a model was given for {name!r}, which the recipe does not name.",
                fix=did_you_mean(name, known),
            )
    given: dict[str, Checkpoint] = {}
    for name, model in models.items():
        if isinstance(model, VirtualCheckpoint):
            given[name] = MergedModel(model, name)
        elif _is_checkpoint(model):
            given[name] = model
        else:
            given[name] = StateDictCheckpoint.of(model, name)
    return given


def _is_checkpoint(model: object) -> TypeGuard[Checkpoint]:
    return all(hasattr(model, name) for name in ("tensors", "files", "extent", "read"))


def _warn(merge: VirtualCheckpoint) -> None:
    for sentence in merge.warnings:
        warnings.warn(sentence, stacklevel=3)


def _refuse_overwritten(
    merge: VirtualCheckpoint, given: Mapping[str, Checkpoint], module: torch.nn.Module
) -> None:
    # A model may be filled with a merge of itself if every tensor is read before it is written.
    places = module.state_dict(keep_vars=True)
    storages = {_storage(tensor) for tensor in places.values()} - {None}
    for reference, model in given.items():
        inside = [held for held in _in_memory(model) if _shares(held, storages)]
        if not inside:
            continue
        if merge.plan.method.random:
            quick_key(model)  # of the weights as they are now: random numbers depend on it
        if inside == [merge.models[reference]] and all(
            _storage(inside[0].held(i.tensor)) in {_storage(places[output.name]), None}
            for output in merge.plan.outputs.values()
            for i in output.named
            if i.model == reference and output.name in places
        ):
            continue
        raise RecipeError(
            f"{reference!r} is the module that is filled, and the recipe moves its tensors: "
            "some would be overwritten before they are read.",
            fix="Give a copy of it (copy.deepcopy) as the model.",
        )


def _in_memory(model: Checkpoint) -> list[StateDictCheckpoint]:
    if isinstance(model, StateDictCheckpoint):
        return [model]
    if not isinstance(model, MergedModel):
        return []
    return [held for part in model.merge.models.values() for held in _in_memory(part)]


def _shares(model: StateDictCheckpoint, storages: Collection[int | None]) -> bool:
    return any(_storage(model.held(name)) in storages for name in model.tensors)


def _storage(tensor: object) -> int | None:
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.is_meta:
        return None
    return tensor.untyped_storage().data_ptr() or None
