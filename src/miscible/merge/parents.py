"""Finding the models and files of a published recipe, which names them without their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miscible.errors import MiscibleError
from miscible.merge.coefficients import CoefficientMap
from miscible.merge.publishing import public_name
from miscible.merge.recipe import Recipe
from miscible.models.checkpoint import Checkpoint
from miscible.models.fingerprint import quick_key
from miscible.models.ref import DEMO_PREFIX, FILE_SUFFIX, is_hub_id, open_checkpoint


@dataclass(frozen=True)
class Places:
    """Where to look for what a published recipe names.

    Attributes:
        folder: of the merge; what it names may lie beside it, or in the working folder.
        models: references by published name, or by half of one (``base`` of ``base+lora``).
        files: statistics and coefficients, by their last name, or by the name of their model.
    """

    folder: Path
    models: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def open(self, name: str, key: str) -> Checkpoint:
        """Open the model of that name, the one with the content *key* if there are several.

        Raises:
            MiscibleError: if there is none, or it cannot be opened.
        """
        references = list(dict.fromkeys(self._references(name)))
        if not references:
            raise MiscibleError(
                f"the model {_shown(name)} is not beside the merge, nor in the working folder.",
                where=str(self.folder),
                fix=f"Say where it is: --model {name}=PATH" if name.isprintable() else None,
            )
        opened = [open_checkpoint(reference, name=name) for reference in references]
        if len(opened) == 1:
            return opened[0]
        return next((model for model in opened if quick_key(model) == key), opened[0])

    def file(self, name: str, model: str | None = None) -> Path:
        """Return the statistics of *model*, or the coefficients, that the recipe calls *name*.

        Raises:
            MiscibleError: if it is not found.
        """
        for given in (model, name):
            if given is not None and given in self.files:
                return self.files[given]
        if _is_last_name(name):
            for folder in (self.folder.resolve().parent, self.folder, Path()):
                if (folder / name).is_file():
                    return folder / name
        raise MiscibleError(
            f"the file {_shown(name)} is not beside the merge, nor in the working folder.",
            where=str(self.folder),
            fix=f"Say where it is: --file {name}=PATH" if name.isprintable() else None,
        )

    def _references(self, name: str) -> Iterator[str]:
        yield from self._plain(name)
        for place, character in enumerate(name):
            if character == "+" and name not in self.models:
                adapters = list(self._plain(name[place + 1 :]))
                for base in self._plain(name[:place]):
                    yield from (f"{base}+{adapter}" for adapter in adapters)

    def _plain(self, name: str) -> Iterator[str]:
        if name in self.models:
            yield self.models[name]
        elif name.startswith(DEMO_PREFIX) or is_hub_id(name):
            yield name
        elif _is_last_name(name):
            for folder in (self.folder.resolve().parent, Path().resolve()):
                if (folder / name).is_dir() or _is_weights(folder / name):
                    yield str(folder / name)


def with_statistics(recipe: Recipe, places: Places) -> Recipe:
    """Return a recipe with the places of its statistics files."""

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            held = {key: placed(item) for key, item in value.items()}
            if isinstance(held.get("statistics"), str) and isinstance(held.get("model"), str):
                held["statistics"] = str(places.file(held["statistics"], held["model"]).absolute())
            return held
        return [placed(item) for item in value] if isinstance(value, list) else value

    return Recipe.model_validate(placed(recipe.model_dump()))


def by_public_name(
    coefficients: CoefficientMap, names: Sequence[str], where: str
) -> CoefficientMap:
    """Return coefficients by the published names of their models.

    Raises:
        MiscibleError: if it cannot be told which model one is for.
    """
    found: dict[str, dict[str, float]] = {}
    for reference, factors in coefficients.models.items():
        name = reference
        if name not in names:
            name = "+".join(map(public_name, reference.split("+")))
        if name not in names or name in found:
            raise MiscibleError(
                f"it cannot be told which model the coefficients of {reference!r} are for.",
                where=where,
                fix="Call it there as the merge's recipe does.",
            )
        found[name] = factors
    return coefficients.model_copy(update={"models": found})


def _is_last_name(name: str) -> bool:
    # What a recipe of a stranger names must not lead anywhere.
    return name not in ("", ".", "..") and not set(name) & set("/\\\0") and len(name) < 256


def _is_weights(path: Path) -> bool:
    return path.suffix == FILE_SUFFIX and path.is_file()


def _shown(name: str) -> str:
    return repr(name if len(name) <= 200 else f"{name[:100]}…")
