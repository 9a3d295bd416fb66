"""``miscible merge`` and ``miscible methods``."""

from __future__ import annotations

from pathlib import Path

import typer

from miscible.cli.output import Format, print_json, print_table, progress, say


def merge(
    recipe: Path = typer.Argument(..., help="Recipe (mergekit YAML)."),
    out: Path = typer.Argument(..., help="Folder of the merged model; must not exist."),
    seed: int = typer.Option(0, help="Seed of the methods that draw random numbers."),
    device: str = typer.Option("cpu", help="cpu, cuda or mps."),
    format: Format = typer.Option(Format.HUMAN, help="What to print."),
) -> None:
    """Merge models by a recipe into a model folder, and report the effective dose of each."""
    from miscible.merge.dose import measure_doses
    from miscible.merge.export import write_merge
    from miscible.merge.recipe import read_recipe
    from miscible.merge.virtual import VirtualCheckpoint
    from miscible.models.live import parse_device
    from miscible.models.writer import refuse_existing

    refuse_existing(out)
    parse_device(device)
    parsed = read_recipe(recipe)
    with progress(format):
        virtual = VirtualCheckpoint.open(parsed, name=out.name, seed=seed, device=device)
        base, parents = virtual.dose_reference()
        doses = measure_doses(virtual, base, parents)
        write_merge(virtual, out, doses)
    if format is Format.JSON:
        print_json(
            {
                "folder": str(out),
                "fingerprint": virtual.fingerprint,
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
        rows = [
            [d.parent, f"{d.projection:.3f}", f"{d.coefficient:.3f}", f"{d.share:.3f}"]
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


def methods(format: Format = typer.Option(Format.HUMAN, help="What to print.")) -> None:
    """List the merging methods with their parameters and papers."""
    from miscible.merge.contract import METHODS, REQUIRED

    held = list(METHODS)
    if format is Format.JSON:
        print_json(
            [
                {
                    "name": m.name, "summary": m.summary, "paper": m.paper,
                    "base_model": m.base.value, "random": m.random,
                    "parameters": {
                        p.name: {
                            "default": None if p.default is REQUIRED else p.default,
                            "required": p.default is REQUIRED,
                            "per_model": p.per_model, "allowed": str(p),
                        }
                        for p in m.parameters.values()
                    },
                }
                for m in held
            ]
        )  # fmt: skip
        return
    if format is Format.QUIET:
        return
    rows = [
        [
            m.name,
            ", ".join(
                p.name if p.default is REQUIRED else f"{p.name}={p.default}"
                for p in m.parameters.values()
            ),
            m.paper,
            m.summary,
        ]
        for m in held
    ]
    columns = ["method", "parameters", "paper", "what it does"]
    print_table("Merging methods", columns, rows, text=4)
