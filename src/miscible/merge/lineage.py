"""Reading a merge's lineage, ``miscible.json``, which may come from a stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field, FiniteFloat, StringConstraints

from miscible.errors import MiscibleError, SpecError
from miscible.merge.export import LINEAGE_NAME
from miscible.merge.virtual import ENGINE_VERSION
from miscible.models.checkpoint import read_json
from miscible.models.shard import ShardRecord
from miscible.spec import Document, Strict

Count: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=2**62)]
Word: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+-]{1,100}$")]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,1000}$")]
FileName: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}$")
]
Device: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,10}(:[0-9]{1,3})?$")]


class ParentFile(Strict):
    """A weight file of a parent."""

    bytes: Count
    sha256: str | None = None


class Parent(Strict):
    """A parent: its content key, and the files from which it was read."""

    key: Word
    files: dict[FileName, ParentFile]


class Shard(Strict):
    """A file of the merge, by digests of the pieces in which it was written."""

    xxh3_128: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    pieces: dict[Name, Count]

    @property
    def record(self) -> ShardRecord:
        return ShardRecord(self.xxh3_128, self.pieces)


class ParentDose(Strict):
    """How much of a parent the merge contains."""

    parent: Name
    projection: FiniteFloat | None
    coefficient: FiniteFloat | None


class Lineage(Strict):
    """What a merge was made of and how; see `miscible.merge.export`."""

    miscible: Word
    engine: Count
    key: Word
    method: Word
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | None
    device: Device
    models: Annotated[dict[Name, Parent], Field(min_length=1)]
    shards: Annotated[dict[FileName, Shard], Field(min_length=1)]
    doses: list[ParentDose]
    warnings: list[str]


def read_lineage(folder: Path) -> Lineage:
    """Read the lineage of a merge that this version of the engine can replay.

    Raises:
        MiscibleError: if the folder has none, or one that is damaged or of another engine.
    """
    path = folder / LINEAGE_NAME
    if not path.is_file():
        raise MiscibleError(
            f"there is no {LINEAGE_NAME}, so there is nothing to verify against.",
            where=str(folder),
            fix="Only folders that 'miscible merge' has written can be verified.",
        )
    held = read_json(path)
    engine = held.get("engine")
    if isinstance(engine, int) and engine != ENGINE_VERSION:
        version = held.get("miscible")
        known = isinstance(version, str) and len(version) < 30 and version.isprintable()
        made_by = f", of miscible {version}," if known else ""
        raise MiscibleError(
            f"the merge was made by version {engine} of the engine{made_by} and this one is "
            f"version {ENGINE_VERSION}, which may compute other weights.",
            where=str(path),
            fix="Verify it with the version that made it.",
        )
    try:
        return Document(held, str(path)).validate(Lineage, SpecError)
    except SpecError as error:  # keys in it are a stranger's, and could hold control codes
        what = error.what if error.what.isprintable() else ascii(error.what)
        raise SpecError(f"{what[:500]}", where=str(path)) from error
