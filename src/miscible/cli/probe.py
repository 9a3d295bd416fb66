"""``miscible probe``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from miscible.cli.output import Format, print_json, print_table, progress, say, write_json
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from miscible.probe.run import Probing
    from miscible.records import ScoreRow

_LAYERS_HELP = "all, or indices: 0 is the embedding, -1 the last block (0,5,-1)."


def probe(
    model: str = typer.Argument(..., help="Model: a folder, org/name, base+adapter, demo:NAME."),
    data: list[str] = typer.Option(
        ["templates"],
        "--data",
        help="Data: templates, templates:en, minimal_pairs:PATH. Repeat it.",
    ),
    layers: str = typer.Option("all", help=_LAYERS_HELP),
    limit: int | None = typer.Option(None, min=1, help="Most pairs of each data set."),
    control: bool = typer.Option(False, help="Also fit control labels, for selectivity."),
    seed: int = typer.Option(0, help="Seed of sampling, folds and intervals."),
    dtype: str = typer.Option("float32", help="float32, bfloat16 or float16."),
    device: str = typer.Option("cpu", help="cpu, cuda or mps."),
    batch_tokens: int | None = typer.Option(None, min=1, help="Most tokens of a forward pass."),
    format: Format = typer.Option(Format.HUMAN, help="What to print."),
    output: Path | None = typer.Option(None, help="Also write the rows to this JSON file."),
) -> None:
    """Tell what each layer of a model knows about language, with intervals."""
    chosen = _parse_layers(layers)

    from miscible.models import LiveModel, open_checkpoint
    from miscible.probe.contract import SourceOptions, open_datasets
    from miscible.probe.encode import depth, resolve_layers
    from miscible.probe.plan import ProbePlan
    from miscible.probe.run import probe_model

    with progress(format):
        datasets = open_datasets(data, SourceOptions(limit=limit, seed=seed))
        live = LiveModel.load(open_checkpoint(model), dtype=dtype, device=device)
        resolve_layers(chosen, depth(live.model))
        plan = ProbePlan.build(datasets, live, seed=seed, batch_tokens=batch_tokens)
        probing = probe_model(live, plan, layers=chosen, control=control)
    rows = [_row(score) for score in probing.scores]
    failures = [{"model": f.model, "step": f.step, "error": f.error} for f in probing.failures]
    if output is not None:
        write_json(output, {"rows": rows, "failures": failures})
    if format is Format.JSON:
        print_json({"rows": rows, "failures": failures})
    elif format is Format.HUMAN:
        _print_summary(probing)
    if failures:
        raise typer.Exit(1)


def _parse_layers(text: str) -> list[int] | str:
    if text == "all":
        return text
    if not re.fullmatch(r"-?\d+(,-?\d+)*", text):
        raise MiscibleError(f"--layers must be 'all' or numbers like 0,5,-1. Got {text!r}.")
    return [int(number) for number in text.split(",")]


def _row(score: ScoreRow) -> dict[str, Any]:
    return {
        "model": score.model, "dataset": score.dataset, "phenomenon": score.phenomenon,
        "competence": score.competence, "layer": score.layer, "metric": score.metric,
        "estimate": score.estimate, "low": score.low, "high": score.high,
        "baseline": score.baseline, "selectivity": score.selectivity, "n": score.n,
        "flags": score.flags,
    }  # fmt: skip


def _print_summary(probing: Probing) -> None:
    by_dataset: dict[str, list[ScoreRow]] = {}
    for score in probing.scores:
        by_dataset.setdefault(score.dataset, []).append(score)
    corpus = _common_folder(list(by_dataset))
    controlled = any(score.selectivity == score.selectivity for score in probing.scores)
    rows = []
    for dataset, scores in by_dataset.items():
        probes = [score for score in scores if score.metric == "probe_accuracy"]
        best = max(probes, key=lambda score: (score.estimate == score.estimate, score.estimate))
        preference = next(score for score in scores if score.metric == "preference")
        flags = sorted({flag for score in scores for flag in score.flags.split(",") if flag})
        cells = [dataset.removeprefix(corpus), str(best.n), str(best.layer), _interval(best)]
        cells += [f"{best.selectivity:+.2f}"] if controlled else []
        rows.append([*cells, _interval(probes[-1]), _interval(preference), " ".join(flags)])
    columns = ["data set", "pairs", "layer", "best layer"]
    columns += ["selectivity"] if controlled else []
    print_table(
        f"{probing.scores[0].model}, {corpus}: accuracy (95 % interval), chance .50",
        [*columns, "last layer", "preference", "flags"],
        rows,
    )
    say("The best of several layers is an optimistic choice; compare models at the same layer.")
    for failure in probing.failures:
        say(f"{failure.step}: {failure.error}", failed=True)


def _common_folder(names: list[str]) -> str:
    # What all names begin with, up to a slash: it is said once, in the title.
    folders = [name.split("/")[:-1] for name in names]
    shared = [parts[0] for parts in zip(*folders, strict=False) if len(set(parts)) == 1]
    return "/".join([*shared, ""])


def _interval(score: ScoreRow) -> str:
    low, high = (f"{value:.2f}".removeprefix("0") for value in (score.low, score.high))
    return f"{score.estimate:.2f} ({low}-{high})"
