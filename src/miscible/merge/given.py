"""Opening a recipe some of whose models are there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from miscible.errors import RecipeError, did_you_mean
from miscible.merge.coefficients import CoefficientMap, read_coefficients
from miscible.merge.opening import Opened, _align, _statistics
from miscible.merge.recipe import Recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint, FileState
from miscible.models.delta import LowRank
from miscible.models.formats.safetensors import Extent
from miscible.models.ref import open_checkpoint

if TYPE_CHECKING:
    import torch


class MergedModel:
    """A merge as a model of another one: known by its recipe, for its parents' files tell nothing.

    Args:
        merge: the merge.
        name: how messages call it.
    """

    def __init__(self, merge: VirtualCheckpoint, name: str) -> None:
        self._merge, self.name = merge, name
        self.folder, self.config, self.tensors = merge.folder, merge.config, merge.tensors
        self.files: Mapping[Path, FileState] = {}

    @property
    def fingerprint(self) -> str:
        return self._merge.quick_key

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Compute one tensor; see `VirtualCheckpoint.read`."""
        return self._merge.read(name, dtype)

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return None: a merge keeps no factors."""
        return None

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return None: a merge lies in no file."""
        return None


def open_given(
    recipe: Recipe, given: Mapping[str, Checkpoint], relative_to: Path | None = None
) -> Opened:
    """Open everything that a recipe names and that is not *given*, by reference.

    Raises:
        MiscibleError: see `miscible.merge.opening.open_recipe`.
    """
    models = {
        reference: given[reference]
        if reference in given
        else open_checkpoint(reference, relative_to=relative_to)
        for reference in recipe.references()
    }
    _align(recipe, models)
    opened = Opened(models, _statistics(recipe, relative_to))
    if recipe.coefficients is None:
        return opened
    path = (relative_to or Path()) / Path(recipe.coefficients).expanduser()
    return with_coefficients(opened, read_coefficients(path), str(path))


def with_coefficients(opened: Opened, coefficients: CoefficientMap, where: str) -> Opened:
    """Return *opened* with factors on its models' weights.

    Raises:
        RecipeError: if they are for a model that is not among these.
    """
    for name in coefficients.models:
        if name not in opened.models:
            raise RecipeError(
                f"the coefficients are for {name!r}, which is no model of the recipe.",
                where=where,
                fix=did_you_mean(name, opened.models),
            )
    return replace(opened, coefficients=coefficients)
