"""Verifying a merge: carrying out its published recipe again and comparing what comes of it.

Digests tell whether a file is the one that was written; only computing tensors again tells whether
what was written is the merge of these models by this recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from miscible.errors import CheckpointError, MiscibleError
from miscible.merge.coefficients import read_coefficients
from miscible.merge.compare import (
    Difference,
    changed_files,
    changed_models,
    changed_recipe,
    changed_shards,
    other_tensors,
    other_values,
)
from miscible.merge.export import LINEAGE_NAME, RECIPE_NAME
from miscible.merge.lineage import Lineage, read_lineage
from miscible.merge.opening import open_recipe, with_coefficients
from miscible.merge.parents import Places, by_public_name, with_statistics
from miscible.merge.recipe import Recipe, read_recipe
from miscible.merge.replay import Replayed, replay
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import FolderCheckpoint
from miscible.models.formats.safetensors import TensorInfo

SAMPLED = 32
WHOLE_BELOW = 200_000_000
"""Merges of fewer elements are computed again whole where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying a merge has found.

    Attributes:
        method: of the merge.
        made_on, device: where the merge, and where its tensors were computed again.
        differences: what is not as it should be.
        shards: number of files whose digests were computed; 0 if that was left out.
        tensors: number of tensors of the merge.
        elements: number of their elements.
        replayed: the tensors that were computed again.
    """

    method: str
    made_on: str
    device: str
    differences: Sequence[Difference]
    shards: int
    tensors: int
    elements: int
    replayed: Sequence[Replayed]

    @property
    def verified(self) -> bool:
        """Whether nothing differs that other hardware does not explain."""
        return not self.differences

    @property
    def within_rounding(self) -> int:
        """Number of tensors that are equal but for rounding, where that is to be expected."""
        wrong = {d.name for d in self.differences if d.part == "tensor"}
        return sum(not r.identical and r.name not in wrong for r in self.replayed)

    @property
    def share(self) -> float:
        """Share of the elements that were computed again."""
        return sum(r.size for r in self.replayed) / self.elements if self.elements else 1.0


def verify(
    folder: Path,
    *,
    models: Mapping[str, str] | None = None,
    files: Mapping[str, Path] | None = None,
    tensors: int | None = None,
    seed: int = 0,
    quick: bool = False,
    device: str | None = None,
    threads: int | None = None,
) -> Verification:
    """Verify a folder that `miscible.merge.export.write_merge` has written.

    Tensors must be the same bit for bit. Those that are no passes over files but linear algebra of
    torch, and all of a merge made on or replayed on another device than the processor, may differ
    by rounding.

    Args:
        folder: of the merge.
        models: references of its models by their published names; others are looked for beside
            *folder* and in the working folder, or on the Hub if they are named by Hub ids.
        files: statistics and coefficients by their last names, or by the names of their models.
        tensors: how many are computed again; all of a merge of fewer than 2e8 elements and else
            `SAMPLED` if None. The largest is always among them.
        seed: of the choice. Who has forged a folder may know the default.
        quick: whether the digests of whole files are left out.
        device: where tensors are computed; where the merge was made, if that is here, if None.
        threads: that compute.

    Raises:
        MiscibleError: if the merge cannot be verified: something is missing or cannot be read.
    """
    lineage = read_lineage(folder)
    recipe = read_recipe(folder / RECIPE_NAME)
    device = _device(lineage.device) if device is None else device
    found = _Found(lineage, device)
    if sorted(recipe.references()) != sorted(lineage.models):
        named = set(recipe.references()) ^ set(lineage.models)
        return found.add(
            Difference("recipe", name, f"is named in only one of {RECIPE_NAME} and {LINEAGE_NAME}.")
            for name in sorted(named)
        ).result()
    written = _open_written(folder, lineage, found)
    if written is None:
        return found.result()
    merge = _open_merge(recipe, lineage, Places(folder, models or {}, files or {}), device)
    if found.add(changed_models(merge, lineage)).any("model"):
        return found.result()
    found.add(changed_recipe(merge, lineage))
    found.add(changed_files(merge, written))
    if not quick:
        found.shards = len(written.files)
        found.add(changed_shards(written, lineage))
    found.tensors = merge.tensors
    found.add(other_tensors(merge.tensors, written.tensors))
    wrong = {difference.name for difference in found.differences if difference.part == "tensor"}
    names = [name for name in _sample(merge.tensors, tensors, seed) if name not in wrong]
    found.replayed = replay(merge, written, names, threads=threads)
    found.add(other_values(merge, found.replayed, lineage.device))
    return found.result()


class _Found:
    def __init__(self, lineage: Lineage, device: str) -> None:
        self.lineage, self.device = lineage, device
        self.differences: list[Difference] = []
        self.shards = 0
        self.tensors: Mapping[str, TensorInfo] = {}
        self.replayed: Sequence[Replayed] = ()

    def add(self, differences: Iterator[Difference]) -> _Found:
        self.differences += differences
        return self

    def any(self, part: str) -> bool:
        return any(difference.part == part for difference in self.differences)

    def result(self) -> Verification:
        return Verification(
            self.lineage.method,
            self.lineage.device,
            self.device,
            self.differences,
            self.shards,
            len(self.tensors),
            sum(info.size for info in self.tensors.values()),
            self.replayed,
        )


def _device(name: str) -> str:
    if name == "cpu":
        return name
    from miscible.models.live import parse_device

    try:
        parse_device(name)
    except MiscibleError:
        return "cpu"
    return name


def _open_written(folder: Path, lineage: Lineage, found: _Found) -> FolderCheckpoint | None:
    missing = [name for name in lineage.shards if not (folder / name).is_file()]
    if missing:
        found.add(Difference("shard", name, "is missing.") for name in missing)
        return None
    try:
        written = FolderCheckpoint(folder)
    except CheckpointError as error:
        found.add(iter([Difference("shard", error.where or folder.name, error.what)]))
        return None
    others = [path for path in written.files if path.name not in lineage.shards]
    found.add(Difference("shard", path.name, f"is not in {LINEAGE_NAME}.") for path in others)
    return written


def _open_merge(recipe: Recipe, lineage: Lineage, places: Places, device: str) -> VirtualCheckpoint:
    for name, parent in lineage.models.items():
        if not parent.files and name not in places.models:
            raise MiscibleError(
                f"the model {name!r} lay in no file when it was merged, only in memory.",
                where=str(places.folder),
                fix="Save it, merge the saved model, and verify that.",
            )
    given = {name: places.open(name, lineage.models[name].key) for name in recipe.references()}
    placed = with_statistics(recipe, places).model_copy(update={"coefficients": None})
    opened = open_recipe(placed, given=given)
    if recipe.coefficients is not None:
        path = places.file(recipe.coefficients)
        held = by_public_name(read_coefficients(path), recipe.references(), str(path))
        opened = with_coefficients(opened, held, str(path))
    return VirtualCheckpoint(
        recipe, opened.models, name=places.folder.name, seed=lineage.seed or 0, device=device,
        opened=opened,
    )  # fmt: skip


def _sample(tensors: Mapping[str, TensorInfo], count: int | None, seed: int) -> list[str]:
    names = list(tensors)
    if count is None:
        small = sum(info.size for info in tensors.values()) < WHOLE_BELOW
        count = len(names) if small else SAMPLED
    if count >= len(names):
        return names
    largest = max(names, key=lambda name: tensors[name].size)
    others = sorted(name for name in names if name != largest)
    chosen = {largest, *Random(seed).sample(others, count - 1)}
    return [name for name in names if name in chosen]
