"""``miscible statistics`` and ``miscible adamerge``: what merges from calibration text need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, say
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from miscible.merge.adamerging import Granularity
    from miscible.merge.statistics.collect import Labels
    from miscible.merge.statistics.files import Statistics

_DATA_HELP = "Text, a file .txt (a text a line) or .jsonl (text, or question and answer)."


def statistics(
    model: str = typer.Argument(..., help="Model; with --sequential, a recipe of regmean."),
    data: list[Path] = typer.Option(
        ..., "--data", help=f"{_DATA_HELP} With --sequential, one a model in the recipe's order."
    ),
    out: Path = typer.Option(..., help="File to write; with --sequential, a folder."),
    kind: str = typer.Option("gram", help="gram (for regmean) or fisher (for fisher)."),
    sequential: bool = typer.Option(
        False, help="Layer by layer on the merged layers before (RegMean++)."
    ),
    labels: str = typer.Option("data", help="fisher: predict the text (data), or what is sampled."),
    limit: int | None = typer.Option(None, min=1, help="Most texts of a file."),
    length: int = typer.Option(512, min=1, help="Most tokens of a text."),
    seed: int = typer.Option(0, min=0, help="Seed of sampled labels."),
    dtype: str = typer.Option("float32", help="The model runs in float32, bfloat16 or float16."),
    store: str = typer.Option("float32", help="Stored in float32; a Fisher also in bfloat16."),
    device: str = typer.Option("cpu", help="cpu, cuda or mps."),
    format: Format = FORMAT,
) -> None:
    """Collect what regmean or fisher needs to know of a model, into a file a model."""
    from miscible.merge.statistics.files import check_stored_dtype, parse_kind, write_statistics

    chosen = parse_kind(kind)
    check_stored_dtype(chosen, store)
    if labels not in ("data", "sampled"):
        raise MiscibleError(f"--labels must be data or sampled. Got {labels!r}.")
    if sequential and chosen != "gram":
        raise MiscibleError("--sequential collects Gram matrices.", fix="Use --kind gram.")

    from miscible.merge.statistics.models import collect_for_model, collect_for_recipe

    with progress(format):
        if sequential:
            held = collect_for_recipe(
                Path(model), data, limit=limit, length=length, dtype=dtype, device=device
            )
            paths = {ref: out / f"gram-{n}.safetensors" for n, ref in enumerate(held)}
        else:
            if len(data) != 1:
                raise MiscibleError("statistics of one model take one --data.")
            found = collect_for_model(
                model, data[0], chosen, labels=cast("Labels", labels), seed=seed,
                limit=limit, length=length, dtype=dtype, device=device,
            )  # fmt: skip
            held, paths = {model: found}, {model: out}
        for reference, each in held.items():
            write_statistics(paths[reference], each, dtype=store)
    _print_statistics(held, paths, format)


def adamerge(
    base: str = typer.Argument(..., help="Base model."),
    models: list[str] = typer.Argument(..., help="Its fine-tuned models."),
    data: list[Path] = typer.Option(..., "--data", help=f"{_DATA_HELP} Repeat it, one a task."),
    out: Path = typer.Option(..., help="JSON file of coefficients to write."),
    steps: int = typer.Option(500, min=1, help="Steps of Adam."),
    learning_rate: float = typer.Option(1e-3, help="Of Adam."),
    start: float = typer.Option(0.3, help="Where every coefficient begins."),
    granularity: str = typer.Option("layer", help="A coefficient a model, layer or tensor."),
    limit: int | None = typer.Option(None, min=1, help="Most texts of a file."),
    length: int = typer.Option(512, min=1, help="Most tokens of a text."),
    dtype: str = typer.Option("float32", help="float32, bfloat16 or float16."),
    device: str = typer.Option("cpu", help="cpu, cuda or mps."),
    format: Format = FORMAT,
) -> None:
    """Learn how much of each task vector to take, layer by layer, without labels (AdaMerging)."""
    if granularity not in ("model", "layer", "tensor"):
        raise MiscibleError(f"--granularity must be model, layer or tensor. Got {granularity!r}.")

    from miscible.merge.adamerging import learn_for_models
    from miscible.merge.coefficients import write_coefficients

    with progress(format):
        learned = learn_for_models(
            base, models, data, limit=limit, length=length, dtype=dtype, device=device,
            start=start, steps=steps, learning_rate=learning_rate,
            granularity=cast("Granularity", granularity),
        )  # fmt: skip
        write_coefficients(out, learned.coefficients)
    first, last = learned.entropy[0], learned.entropy[-1]
    if format is Format.JSON:
        print_json({"file": str(out), "entropy": list(learned.entropy),
                    "models": learned.coefficients.models})  # fmt: skip
    elif format is Format.HUMAN:
        rows = [
            [reference, f"{min(f.values()):.3f}", f"{max(f.values()):.3f}", str(len(f))]
            for reference, f in learned.coefficients.models.items()
        ]
        title = f"Learned coefficients (entropy {first:.3f} to {last:.3f} nats)"
        print_table(title, ["model", "lowest", "highest", "number"], rows)
        say(f"Wrote {out}. Merge with it:")
        say(f"merge_method: task_arithmetic\nbase_model: {base}\ncoefficients: {out}\nmodels:")
        for reference in models:
            say(f"- model: {reference}\n  parameters: {{weight: 1.0}}")


def _print_statistics(held: dict[str, Statistics], paths: dict[str, Path], format: Format) -> None:
    if format is Format.JSON:
        described: list[dict[str, Any]] = [
            {"model": reference, "file": str(paths[reference]), "kind": each.kind,
             "fingerprint": each.model, "tensors": len(each.tensors),
             "examples": each.examples, "tokens": each.tokens}
            for reference, each in held.items()
        ]  # fmt: skip
        print_json(described)
    elif format is Format.HUMAN:
        rows = [
            [reference, str(paths[reference]), str(len(each.tensors)), str(each.tokens)]
            for reference, each in held.items()
        ]
        columns = ["model", "file", "tensors", "tokens"]
        print_table(f"Statistics ({next(iter(held.values())).kind})", columns, rows, text=2)
        say("Name each file as 'statistics' beside its model in the recipe.")
