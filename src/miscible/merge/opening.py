"""Opening what a recipe names: models, aligned ones, statistics, coefficients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from miscible.errors import RecipeError, did_you_mean
from miscible.keys import content_key
from miscible.merge.coefficients import CoefficientMap, read_coefficients
from miscible.merge.contract import METHODS
from miscible.merge.plan import Output
from miscible.merge.recipe import Recipe
from miscible.models.checkpoint import Checkpoint
from miscible.models.ref import open_checkpoint

if TYPE_CHECKING:
    import torch

    from miscible.merge.statistics.files import StatisticsFile


@dataclass(frozen=True)
class Opened:
    """What a recipe names, opened.

    Attributes:
        models: by reference.
        statistics: by reference of the model.
        coefficients: factors on the models' weights.
    """

    models: Mapping[str, Checkpoint]
    statistics: Mapping[str, StatisticsFile] = field(default_factory=dict)
    coefficients: CoefficientMap | None = None

    @property
    def key(self) -> str | None:
        """A content key of statistics and coefficients, None if there are none."""
        if not self.statistics and self.coefficients is None:
            return None
        held = {} if self.coefficients is None else self.coefficients.models
        order = list(self.models)
        return content_key(
            statistics=[(order.index(r), f.fingerprint) for r, f in self.statistics.items()],
            coefficients=[(order.index(r), held[r]) for r in order if r in held],
        )

    def warnings(self, tensors: Iterable[str]) -> Iterator[str]:
        """Yield sentences on statistics of other models, and coefficients that change nothing."""
        for reference, file in self.statistics.items():
            if file.model and file.model != self.models[reference].fingerprint:
                yield f"the statistics given for {reference} were made with another model."
        unused = [] if self.coefficients is None else self.coefficients.unused(tensors)
        if unused:
            yield (
                f"{len(unused)} keys of the coefficients concern no tensor, such as {unused[0]!r}."
            )

    def statistics_of(self, output: Output) -> tuple[torch.Tensor | None, ...]:
        """Return each input's statistics of its tensor, None where there are none."""
        held = [self.statistics.get(i.model) for i in output.inputs]
        return tuple(
            None if file is None else file.read(i.tensor)
            for file, i in zip(held, output.inputs, strict=True)
        )


def open_recipe(
    recipe: Recipe,
    relative_to: Path | None = None,
    *,
    given: Mapping[str, Checkpoint] | None = None,
) -> Opened:
    """Open everything that a recipe names and that is not *given*, by reference.

    Raises:
        MiscibleError: if a model or file cannot be opened, or is of another kind than the method
            needs.
    """
    held = given or {}
    models = {
        reference: held[reference]
        if reference in held
        else open_checkpoint(reference, relative_to=relative_to)
        for reference in recipe.references()
    }
    _align(recipe, models)
    opened = Opened(models, _statistics(recipe, relative_to))
    if recipe.coefficients is None:
        return opened
    place = _place(recipe.coefficients, relative_to)
    return with_coefficients(opened, read_coefficients(place), recipe.coefficients)


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


def _align(recipe: Recipe, models: dict[str, Checkpoint]) -> None:
    target = recipe.base_model or recipe.sources()[0].model
    for source in recipe.sources():
        if source.align is not None and source.model != target:
            if source.statistics is not None:
                raise RecipeError(
                    "the statistics are of the model before its neurons were permuted.",
                    where=source.model,
                    fix="Leave out 'align' or 'statistics'.",
                )
            from miscible.merge.align import aligned_to

            models[source.model] = aligned_to(models[source.model], models[target])


def _statistics(recipe: Recipe, relative_to: Path | None) -> dict[str, StatisticsFile]:
    needs = METHODS.get(recipe.merge_method).needs
    named = {s.model: s.statistics for s in recipe.sources() if s.statistics is not None}
    if needs is None:
        if named:
            raise RecipeError(f"{recipe.merge_method} uses no statistics.", where=next(iter(named)))
        return {}
    missing = [source.model for source in recipe.sources() if source.model not in named]
    if missing:
        raise RecipeError(
            f"{recipe.merge_method} needs {needs} statistics of every model, {missing[0]} has "
            "none.",
            fix="Make them with 'miscible statistics' and give the file as 'statistics'.",
        )
    from miscible.merge.statistics.files import StatisticsFile

    found: dict[str, StatisticsFile] = {}
    for reference, path in named.items():
        file = StatisticsFile(_place(path, relative_to))
        if file.kind != needs:
            raise RecipeError(
                f"{recipe.merge_method} needs {needs} statistics, the file holds {file.kind}.",
                where=path,
            )
        found[reference] = file
    return found


def _place(path: str, relative_to: Path | None) -> Path:
    return (relative_to or Path()) / Path(path).expanduser()
