"""``miscible methods``: what there is to merge by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from miscible.cli.output import FORMAT, Format, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from miscible.merge.contract import MergeMethod, Parameter, Wrapper

_STREAMING = {
    "always": "chunk by chunk: memory does not grow with the model",
    "depends": "chunk by chunk with some values of its parameters, else whole tensors at a time",
    "never": "whole tensors at a time: memory for some copies of the largest",
}


def methods(
    name: str = typer.Argument("", help="Method or wrapper to show in full."),
    format: Format = FORMAT,
) -> None:
    """List the merging methods and wrappers, or show one with its parameters and an example."""
    from miscible.merge.catalogue import described, find
    from miscible.merge.contract import METHODS, WRAPPERS

    found = find(name) if name else None
    if format is Format.JSON:
        everything = [described(entry) for entry in (*METHODS, *WRAPPERS)]
        print_json(everything if found is None else described(found))
    elif format is Format.HUMAN:
        if found is None:
            _print_all()
        else:
            _print_one(found)


def _print_all() -> None:
    from miscible.merge.catalogue import FAMILIES, family, inputs
    from miscible.merge.contract import METHODS, WRAPPERS

    columns = ["method", "models", "paper", "what it does"]
    for title in FAMILIES:
        held = [method for method in METHODS if family(method) == title]
        rows = [[m.name, inputs(m), _short(m.paper), m.summary] for m in held]
        if rows:
            print_table(title, columns, rows, text=4)
    rows = [[w.name, _short(w.paper), w.summary] for w in WRAPPERS]
    print_table("Wrappers around methods on task vectors", ["wrapper", *columns[2:]], rows, text=3)
    say("'1+' is one model or more; a base in brackets may be left out.")
    say("'miscible methods NAME' shows one with its parameters and an example.")


def _print_one(entry: MergeMethod | Wrapper) -> None:
    from miscible.merge.catalogue import details, example, inputs, whether
    from miscible.merge.contract import Wrapper

    say(f"{entry.name}: {entry.summary}")
    if text := details(entry):
        say(f"\n{text}")
    say(f"\nPaper     {_paper(entry.paper)}")
    if isinstance(entry, Wrapper):
        say("Wraps     methods on task vectors")
        say(f"Computed  {_STREAMING[whether(entry.streams)]}")
    else:
        say(f"Models    {inputs(entry)}; base_model is {entry.base.value}")
        if entry.needs is not None:
            say(f"Needs     {entry.needs} statistics of every model: 'miscible statistics'")
        if entry.random:
            say("Random    draws belong to seed, model, tensor and element")
        streams = entry.elementwise if whether(entry.streams) == "never" else entry.streams
        say(f"Computed  {_STREAMING[whether(streams)]}")
        for law in sorted(law.value for law in entry.exempt):
            say(f"Exempt    from the law that {law}")
        if entry.ignored:
            say(
                f"Ignored   {', '.join(sorted(entry.ignored))} (which recipes of other tools carry)"
            )
    if entry.parameters:
        _print_parameters(entry.parameters)
    say(f"\nExample\n\n{example(entry).rstrip()}")


def _print_parameters(parameters: Mapping[str, Parameter]) -> None:
    from miscible.merge.contract import REQUIRED

    rows = [
        [
            p.name,
            "required" if p.default is REQUIRED else _default(p.default),
            "each model" if p.per_model else "all models",
            str(p),
        ]
        for p in parameters.values()
    ]
    say("")
    print_table("Parameters", ["name", "default", "one for", "value"], rows, text=4)


def _default(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(paper: str) -> str:
    # An address would take the width from all other columns.
    return paper.partition("//")[2].partition("/")[0].removeprefix("www.") or paper


def _paper(paper: str) -> str:
    number = paper.replace(".", "", 1)
    return f"https://arxiv.org/abs/{paper}" if number.isdigit() and "." in paper else paper
