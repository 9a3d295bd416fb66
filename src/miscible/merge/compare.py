"""Comparing a written merge with what its recipe and its lineage say of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from miscible.errors import CheckpointError
from miscible.merge.export import LINEAGE_NAME, RECIPE_NAME
from miscible.merge.lineage import Lineage
from miscible.merge.replay import Replayed
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import FolderCheckpoint, read_json
from miscible.models.fingerprint import quick_key
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.shard import holds
from miscible.models.tokenizer import TOKENIZER_FILES
from miscible.progress import task

SMALLEST_PIECE = 1024
"""Bytes; nothing is written in smaller pieces, of which there would be too many."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as lineage and recipe say.

    Attributes:
        part: ``recipe``, ``model``, ``config``, ``tokenizer``, ``shard`` or ``tensor``.
        name: of the model, file or tensor.
        what: is wrong with it.
    """

    part: str
    name: str
    what: str


def changed_models(merge: VirtualCheckpoint, lineage: Lineage) -> Iterator[Difference]:
    for name, model in merge.models.items():
        key, wanted = quick_key(model), lineage.models[name].key
        if key != wanted:
            yield Difference(
                "model", name, f"is not what was merged: its content key is {key}, not {wanted}."
            )


def changed_recipe(merge: VirtualCheckpoint, lineage: Lineage) -> Iterator[Difference]:
    method = merge.plan.method
    if method.name != lineage.method:
        yield Difference("recipe", RECIPE_NAME, f"merges by {method.name}, not {lineage.method}.")
    elif method.random and lineage.seed is None:
        yield Difference("recipe", LINEAGE_NAME, f"gives no seed, which {method.name} needs.")
    elif merge.quick_key != lineage.key:
        yield Difference(
            "recipe",
            RECIPE_NAME,
            f"is not what was carried out: the merge's key is {merge.quick_key}, not "
            f"{lineage.key}. The recipe, the seed, or coefficients have changed.",
        )


def changed_files(merge: VirtualCheckpoint, written: FolderCheckpoint) -> Iterator[Difference]:
    if dict(merge.config) != read_json(written.folder / "config.json"):
        yield Difference("config", "config.json", "is not what the recipe gives.")
    tokenizer = merge.tokenizer_files()
    for name in TOKENIZER_FILES:
        expected: bytes | None = None
        if name in tokenizer.texts:
            expected = tokenizer.texts[name].encode()
        elif name not in tokenizer.omitted:
            expected = _content(merge.folder / name)
        held = _content(written.folder / name)
        if held != expected and _settings(held) != _settings(expected):
            yield Difference("tokenizer", name, "is not what the recipe gives.")


def _settings(content: bytes | None) -> object:
    # Where a tokenizer was once read from is left out of what is published.
    try:
        settings = json.loads(content or b"")
    except (ValueError, RecursionError):
        return content
    if isinstance(settings, dict):
        settings.pop("name_or_path", None)
    return settings


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}.", where=str(path)) from error


def changed_shards(written: FolderCheckpoint, lineage: Lineage) -> Iterator[Difference]:
    sizes = {name: info.nbytes for name, info in written.tensors.items()}
    total = sum(state.size for state in written.files.values())
    with task("check files", total) as advance:
        for path, state in written.files.items():
            shard = lineage.shards.get(path.name)
            if shard is not None:
                believed = all(
                    piece >= min(sizes.get(name, 0), SMALLEST_PIECE)
                    for name, piece in shard.pieces.items()
                )
                if not believed or not holds(path, shard.record):
                    yield Difference(
                        "shard", path.name, f"is not what was written: its digest is not that of "
                        f"{LINEAGE_NAME}."
                    )  # fmt: skip
            advance(state.size)


def other_tensors(
    expected: Mapping[str, TensorInfo], held: Mapping[str, TensorInfo]
) -> Iterator[Difference]:
    for name in sorted(expected.keys() - held.keys()):
        yield Difference("tensor", name, "is missing.")
    for name in sorted(held.keys() - expected.keys()):
        yield Difference("tensor", name, "is not part of the merge.")
    for name, info in expected.items():
        if name in held and held[name] != info:
            yield Difference(
                "tensor", name, f"is {held[name].dtype} {list(held[name].shape)}, the recipe gives "
                f"{info.dtype} {list(info.shape)}."
            )  # fmt: skip


def other_values(
    merge: VirtualCheckpoint, replayed: Sequence[Replayed], made_on: str
) -> Iterator[Difference]:
    for tensor in replayed:
        if tensor.identical:
            continue
        exact = made_on == "cpu" and merge.streams(tensor.name)
        if tensor.rounding and not exact:
            continue
        hint = " These are no larger than rounding." if tensor.rounding else ""
        yield Difference(
            "tensor",
            tensor.name,
            f"{tensor.differing} of {tensor.size} elements differ from what the recipe gives, by "
            f"up to {tensor.largest:.3g}.{hint}",
        )
