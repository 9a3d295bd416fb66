"""``miscible doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.output import FORMAT, Format, duration, print_json, print_table, say

if TYPE_CHECKING:
    from miscible.merge.doctor import Diagnosis

WILL_NOT_MERGE = 1
RECIPE_SUFFIXES = (".yml", ".yaml")


def doctor(
    models: list[str] = typer.Argument(..., help="A recipe (RECIPE.yml), or models to merge."),
    base: str | None = typer.Option(None, help="The model that the others were trained from."),
    strict: bool = typer.Option(False, "--strict", help="Fail on warnings too."),
    format: Format = FORMAT,
) -> None:
    """Tell whether models will merge, and what a merge needs, before anything is downloaded.

    Reads configs, tokenizers, model cards and the headers of weight files. Exit code 0: will merge;
    1: will not, or something needs a fix; 2: bad input.
    """
    from miscible.errors import RecipeError
    from miscible.merge.doctor import diagnose, recipe_of
    from miscible.merge.recipe import read_recipe
    from miscible.models.preflight import Severity

    if any(name.endswith(RECIPE_SUFFIXES) for name in models):
        if len(models) > 1 or base is not None:
            raise RecipeError("a recipe names its models itself.", fix="Give the recipe alone.")
        diagnosis = diagnose(read_recipe(Path(models[0])))
    else:
        diagnosis = diagnose(recipe_of(models, base), any_method=True)
    if format is Format.JSON:
        print_json(_plain(diagnosis))
    elif format is Format.HUMAN:
        _show(diagnosis)
    if not diagnosis.will_merge or (strict and diagnosis.count(Severity.WARNING)):
        raise typer.Exit(WILL_NOT_MERGE)


def _show(diagnosis: Diagnosis) -> None:
    from miscible.models.preflight import Severity

    errors, warnings = diagnosis.count(Severity.ERROR), diagnosis.count(Severity.WARNING)
    told = f"{len(diagnosis.models)} models by {diagnosis.method}"
    if diagnosis.will_merge:
        say(f"Will merge: {told}" + (f", {_counted(warnings, 'warning')}." if warnings else "."))
    else:
        more = f" and {_counted(warnings, 'warning')}" if warnings else ""
        say(f"Will not merge: {told}, {_counted(errors, 'thing')} to fix{more}.")
    fixes = list(dict.fromkeys(f.fix for f in diagnosis.findings if f.fix is not None))
    rows = [
        [str(f.severity), f.check, f.what, "" if f.fix is None else str(fixes.index(f.fix) + 1)]
        for f in diagnosis.findings
    ]
    if rows:
        print_table("Findings", ["", "check", "what", "fix"], rows, text=3)
    for number, fix in enumerate(fixes, 1):
        say(f"Fix {number}: {fix}")
    if fixes:
        say("")
    say(_needed(diagnosis))


def _needed(diagnosis: Diagnosis) -> str:
    needs = diagnosis.needs
    parts = [f"{_size(needs.download_bytes)} to download"]
    if needs.output_bytes is not None:
        parts.append(f"{_size(needs.output_bytes)} of disk for the merge")
    if needs.ram_bytes is not None:
        parts.append(f"{_size(needs.ram_bytes)} of memory")
    if needs.seconds is not None:
        parts.append(f"about {duration(needs.seconds)}")
    return f"Needs {', '.join(parts)}."


def _plain(diagnosis: Diagnosis) -> dict[str, object]:
    needs = diagnosis.needs
    return {
        "will_merge": diagnosis.will_merge,
        "method": diagnosis.method,
        "models": list(diagnosis.models),
        "findings": [
            {"severity": str(f.severity), "check": f.check, "models": list(f.models),
             "what": f.what, "fix": f.fix}
            for f in diagnosis.findings
        ],
        "needs": {
            "download_bytes": needs.download_bytes, "output_bytes": needs.output_bytes,
            "ram_bytes": needs.ram_bytes, "seconds": needs.seconds,
        },
    }  # fmt: skip


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _size(count: int) -> str:
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
