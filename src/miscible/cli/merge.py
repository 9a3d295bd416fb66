"""``miscible merge``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, say
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from miscible.merge.virtual import VirtualCheckpoint


def merge(
    recipe: Path = typer.Argument(..., help="Recipe (mergekit YAML)."),
    out: Path = typer.Argument(..., help="Folder of the merged model; must not exist."),
    seed: int = typer.Option(0, help="Seed of the methods that draw random numbers."),
    device: str = typer.Option("cpu", help="cpu, cuda or mps."),
    threads: int = typer.Option(0, min=0, help="Threads that compute; 0 for all processors."),
    shard_size: str = typer.Option("5GB", help="Largest weight file, such as 500MB or 5GB."),
    lora_rank: str = typer.Option(
        "", help="Write a LoRA adapter of the base: its rank, or 'exact', instead of a model."
    ),
    format: Format = FORMAT,
) -> None:
    """Merge models by a recipe into a model folder, and report the effective dose of each."""
    # Read by NumPy when it is loaded: its threads, which no merge uses, take a while to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from miscible.merge.export import write_merge
    from miscible.merge.recipe import read_recipe
    from miscible.merge.virtual import VirtualCheckpoint
    from miscible.models.writer import refuse_existing

    refuse_existing(out)
    _check_device(device)
    limit = _bytes_of(shard_size)
    parsed = read_recipe(recipe)
    with progress(format):
        virtual = VirtualCheckpoint.open(parsed, name=out.name, seed=seed, device=device)
        base, _ = virtual.dose_reference()
        if lora_rank:
            _write_lora(virtual, out, lora_rank, format)
            return
        doses = write_merge(virtual, out, threads=threads or None, shard_bytes=limit).doses
    if format is Format.JSON:
        print_json(
            {
                "folder": str(out),
                "key": virtual.quick_key,
                "base": base.name,
                "warnings": list(virtual.warnings),
                "doses": [
                    {"parent": d.parent, "projection": d.projection, "coefficient": d.coefficient,
                     "share": d.share, "cosine": d.cosine, "residual": d.residual}
                    for d in doses
                ],
            }
        )  # fmt: skip
    elif format is Format.HUMAN:
        from miscible.merge.publishing import parent_name, public_names

        names = public_names(virtual.models)
        rows = [
            [parent_name(d, names), f"{d.projection:.3f}", f"{d.coefficient:.3f}", f"{d.share:.3f}"]
            for d in doses
        ]
        print_table(
            f"Effective dose (task vectors from {base.name})",
            ["parent", "projection", "coefficient", "share"],
            rows,
        )
        residual = doses[0].residual if doses else 0.0
        say(f"{residual:.0%} of the merged task vector lies outside the parents'.")
        for warning in virtual.warnings:
            say(f"Note: {warning}")
        say(f"Wrote {out}")


_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes_of(size: str) -> int:
    number, unit = size[:-2].strip(), size[-2:].upper()
    try:
        if (found := int(float(number) * _UNITS[unit])) > 0:
            return found
    except (ValueError, KeyError, OverflowError):
        pass
    raise MiscibleError(f"{size!r} is not a size.", fix="Write a number with MB or GB, as 5GB.")


def _check_device(device: str) -> None:
    if device != "cpu":  # torch, which the processor's path does without, knows the others
        from miscible.models.live import parse_device

        parse_device(device)


def _write_lora(merge: VirtualCheckpoint, out: Path, rank: str, format: Format) -> None:
    from miscible.merge.lora_output import write_lora

    if rank != "exact" and not rank.isdigit():
        raise MiscibleError(f"{rank!r} is not a rank.", fix="Give a whole number, or 'exact'.")
    base, _ = merge.dose_reference()
    report = write_lora(merge, base, out, "exact" if rank == "exact" else int(rank))
    if format is Format.JSON:
        print_json({"folder": str(out), "error": report.error, "tensors": len(report.tensors)})
    elif format is Format.HUMAN:
        worst = sorted(report.tensors, key=lambda tensor: -tensor.error)[:10]
        rows = [[t.name, str(t.rank), f"{t.norm:.3g}", f"{t.error:.2%}"] for t in worst]
        print_table("Least well held weights", ["weight", "rank", "norm", "lost"], rows)
        say(f"{report.error:.2%} of the merged task vector's norm is lost.")
        say(f"Wrote {out}")
