"""``miscible verify``: whether a merge is what its recipe gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, say
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from miscible.merge.verify import Verification

SHOWN = 20


def verify(
    folder: Path = typer.Argument(..., help="Folder that 'miscible merge' has written."),
    model: list[str] = typer.Option(
        [], "--model", help="NAME=REFERENCE of a model of its recipe that is elsewhere. Repeat it."
    ),
    file: list[str] = typer.Option(
        [], "--file", help="NAME=PATH of statistics or coefficients, or MODEL=PATH. Repeat it."
    ),
    tensors: str = typer.Option(
        "", help="How many to compute again, or 'all'. [all below 2e8 weights, else 32]"
    ),
    seed: int = typer.Option(0, help="Seed of the choice of tensors."),
    quick: bool = typer.Option(False, "--quick", help="Leave out the digests of whole files."),
    device: str = typer.Option("", help="cpu, cuda or mps. [where the merge was made, or cpu]"),
    threads: int = typer.Option(0, min=0, help="Threads that compute; 0 for all processors."),
    format: Format = FORMAT,
) -> None:
    """Check a merge: its models, its files, and its tensors by computing them again.

    Exit code 0 if it is what its recipe gives, 1 if something differs, 2 if that cannot be told.
    """
    given = _pairs("--model", model)
    files = {name: Path(path) for name, path in _pairs("--file", file).items()}
    count = _count(tensors)
    if device and device != "cpu":
        from miscible.models.live import parse_device

        parse_device(device)

    from miscible.merge.verify import verify as verify_folder

    with progress(format):
        found = verify_folder(
            folder, models=given, files=files, tensors=count, seed=seed, quick=quick,
            device=device or None, threads=threads or None,
        )  # fmt: skip
    if format is Format.JSON:
        _print_json(folder, found)
    elif format is Format.HUMAN:
        _print(folder, found)
    if not found.verified:
        raise typer.Exit(1)


def _pairs(option: str, values: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise MiscibleError(f"{option} takes NAME=PATH. Got {value!r}.")
        if name in pairs:
            raise MiscibleError(f"{option} is given twice for {name!r}.")
        pairs[name] = path
    return pairs


def _count(tensors: str) -> int | None:
    if not tensors:
        return None
    if tensors == "all":
        return 2**62
    if not tensors.isdecimal() or not int(tensors[:18]) > 0 or len(tensors) > 18:
        raise MiscibleError(f"--tensors takes a number from 1, or 'all'. Got {tensors!r}.")
    return int(tensors)


def _print(folder: Path, found: Verification) -> None:
    for line in _summary(found):
        say(line)
    if found.verified:
        say(f"Verified: {folder} is what its recipe gives.")
        return
    rows = [[d.part, _shown(d.name), d.what] for d in found.differences[:SHOWN]]
    print_table("Differences", ["part", "name", "what"], rows, text=3)
    if len(found.differences) > SHOWN:
        say(f"and {len(found.differences) - SHOWN} more ('--format json' lists them all).")
    say(f"Not verified: {folder} is not what its recipe gives.")


def _summary(found: Verification) -> list[str]:
    lines = []
    if found.shards:
        wrong = sum(d.part == "shard" for d in found.differences)
        lines.append(f"Files: {found.shards} read, {max(found.shards - wrong, 0)} as written.")
    if found.replayed:
        count = len(found.replayed)
        exact = sum(r.identical for r in found.replayed)
        lines.append(
            f"Tensors: {count} of {found.tensors} computed again ({found.share:.0%} of the "
            f"weights), {exact} the same bit for bit"
            + (f", {found.within_rounding} but for rounding." if found.within_rounding else ".")
        )
    elif not found.verified:
        lines.append("Tensors: none computed again, because that would be another merge.")
    if found.within_rounding:
        why = (
            f"the merge was made on {found.made_on} and computed again on {found.device}"
            if found.made_on != "cpu" or found.device != "cpu"
            else f"{found.method} is linear algebra, whose last bits depend on the machine"
        )
        lines.append(f"Rounding is to be expected: {why}.")
    return lines


def _print_json(folder: Path, found: Verification) -> None:
    print_json(
        {
            "folder": str(folder),
            "verified": found.verified,
            "method": found.method,
            "made_on": found.made_on,
            "device": found.device,
            "differences": [
                {"part": d.part, "name": d.name, "what": d.what} for d in found.differences
            ],
            "files": found.shards,
            "tensors": {
                "all": found.tensors,
                "computed": len(found.replayed),
                "identical": sum(r.identical for r in found.replayed),
                "within_rounding": found.within_rounding,
                "share": found.share if found.replayed else 0.0,
                "unequal": [
                    {
                        "name": r.name, "elements": r.size, "differing": r.differing,
                        "largest": r.largest if math.isfinite(r.largest) else None,
                    }
                    for r in found.replayed
                    if not r.identical
                ],
            },
        }
    )  # fmt: skip


def _shown(name: str) -> str:
    # Names come from the folder that is checked, and could hold a terminal's control codes.
    return name if name.isprintable() else ascii(name)
