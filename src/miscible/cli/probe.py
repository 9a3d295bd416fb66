"""``miscible probe``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, say, write_json
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from miscible.probe.run import ProbeOptions
    from miscible.probe.scoring.predictions import ProbeKind
    from miscible.records import ScoreRow, SimilarityRow


class Probe(StrEnum):
    """What is fitted."""

    LINEAR = "linear"
    MLP = "mlp"
    KNN = "knn"
    HOLMES = "holmes-compat"


_LAYERS_HELP = "all, or indices: 0 is the embedding, -1 the last block (0,5,-1)."


def probe(
    models: list[str] = typer.Argument(
        ..., help="Models: a folder, org/name, base+adapter, demo:NAME. The first is compared with."
    ),
    data: list[str] = typer.Option(
        ["templates"],
        "--data",
        help="Data: templates, templates:de, minimal_pairs:PATH, conllu:PATH, gum:PATH, "
        "holmes:PATH, ... Repeat it.",
    ),
    layers: str = typer.Option("all", help=_LAYERS_HELP),
    limit: int | None = typer.Option(None, min=1, help="Most examples of each data set."),
    control: bool = typer.Option(True, help="Also fit control labels, for selectivity."),
    words: bool = typer.Option(True, help="Also score a probe on bags of words."),
    probe: Probe = typer.Option(
        Probe.LINEAR, help="linear, mlp, knn, or holmes-compat: the reference protocol."
    ),
    mdl: bool = typer.Option(False, help="Also code the labels online: bits a data set."),
    random_weights: bool = typer.Option(False, help="Also probe the first model untrained."),
    similarity: int = typer.Option(
        128, min=0, help="Texts on which further models are compared with the first; 0 for none."
    ),
    cache: Path | None = typer.Option(None, help="Folder of states, kept for the next run."),
    seed: int = typer.Option(0, help="Seed of sampling, folds and intervals."),
    dtype: str = typer.Option("float32", help="float32, bfloat16 or float16."),
    device: str = typer.Option("cpu", help="cpu, cuda or mps."),
    batch_tokens: int | None = typer.Option(None, min=1, help="Most tokens of a forward pass."),
    format: Format = FORMAT,
    output: Path | None = typer.Option(None, help="Also write the rows to this JSON file."),
) -> None:
    """Tell what each layer of models knows about language, with intervals."""
    chosen = _parse_layers(layers)

    from miscible.probe.contract import SourceOptions, open_datasets
    from miscible.probe.encoding.cache import StateCache
    from miscible.probe.sweep import Sweep, probe_models

    with progress(format):
        datasets = open_datasets(data, SourceOptions(limit=limit, seed=seed))
        sweep = Sweep(
            datasets, _options(chosen, control, words, probe, mdl), seed=seed, dtype=dtype,
            device=device, batch_tokens=batch_tokens, similarity=similarity,
            random_weights=random_weights, cache=StateCache(cache) if cache else None,
        )  # fmt: skip
        found = probe_models(models, sweep)
    failures = [asdict(failure) for failure in found.failures]
    document = {
        "rows": [_row(score) for score in found.scores],
        "similarities": [asdict(row) for row in found.similarities],
        "failures": failures,
    }
    if output is not None:
        write_json(output, document)
    if format is Format.JSON:
        print_json(document)
    elif format is Format.HUMAN:
        for name in dict.fromkeys(score.model for score in found.scores):
            _print_summary([score for score in found.scores if score.model == name])
        _print_similarities(found.similarities)
        say("The best of several layers is an optimistic choice; compare models at the same layer.")
        for failure in found.failures:
            say(f"{failure.model}, {failure.step}: {failure.error}", failed=True)
    if failures:
        raise typer.Exit(1)


def _options(
    layers: list[int] | str, control: bool, words: bool, probe: Probe, mdl: bool
) -> ProbeOptions:
    from miscible.probe.run import ProbeOptions

    held = ProbeOptions(layers, control=control, words=words, code_lengths=mdl)
    if probe is Probe.HOLMES:
        return replace(held, reference=True)
    kinds: dict[Probe, ProbeKind] = {Probe.MLP: "mlp", Probe.KNN: "knn"}
    return replace(held, probe=kinds.get(probe, "linear"))


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


_MAIN = ("probe_accuracy", "probe_pearson", "holmes_macro_f1", "holmes_pearson")
_WORDS = ("bag_of_words_accuracy", "bag_of_words_pearson")


def _print_summary(scores: list[ScoreRow]) -> None:
    by_dataset: dict[str, list[ScoreRow]] = {}
    for score in scores:
        by_dataset.setdefault(score.dataset, []).append(score)
    corpus = _common_folder(list(by_dataset))
    held = {score.metric for score in scores}
    controlled = any(score.selectivity == score.selectivity for score in scores)
    columns = ["data set", "best layer", "last layer", "chance"]
    columns += ["selectivity"] if controlled else []
    columns += ["words"] if held & set(_WORDS) else []
    columns += ["preference"] if "preference" in held else []
    rows, flags = [], []
    for dataset, found in by_dataset.items():
        name = dataset.removeprefix(corpus)
        probes = [score for score in found if score.metric in _MAIN]
        best = max(probes, key=lambda score: (score.estimate == score.estimate, score.estimate))
        cells = [name, f"{best.layer}: {_interval(best)}", _interval(probes[-1])]
        cells += [f"{best.baseline:.2f}"]
        cells += [f"{best.selectivity:+.2f}"] if controlled else []
        words = next((score for score in found if score.metric in _WORDS), None)
        if "words" in columns:
            cells.append(f"{words.estimate:.2f}" if words else "")
        preference = next((score for score in found if score.metric == "preference"), None)
        if "preference" in columns:
            cells.append(f"{preference.estimate:.2f}" if preference else "")
        rows.append(cells)
        marks = sorted({flag for score in found for flag in score.flags.split(",") if flag})
        flags += [f"{name}: {', '.join(marks)}"] if marks else []
    print_table(
        f"{scores[0].model}, {corpus}: accuracy or correlation (95 % interval)",
        columns,
        rows,
    )
    for line in flags:
        say(line)


def _print_similarities(similarities: Sequence[SimilarityRow]) -> None:
    pairs = dict.fromkeys((row.model, row.other) for row in similarities if row.model != row.other)
    rows = []
    for pair in pairs:
        held = [row for row in similarities if (row.model, row.other) == pair]
        same = [
            row for row in held if row.layer == row.other_layer and row.estimate == row.estimate
        ]
        cells = []
        for metric, worst in (
            ("cka", min), ("relative_distance", max), ("lens_kl", max),
        ):  # fmt: skip
            values = [row for row in same if row.metric == metric]
            row = worst(values, key=lambda row: row.estimate) if values else None
            cells.append(f"{row.estimate:.3g} at {row.layer}" if row else "")
        rows.append([*pair, *cells])
    if rows:
        print_table(
            "Without probes: the layer where two models differ most",
            ["model", "from", "CKA", "relative distance", "logit lens, bits"],
            rows,
        )


def _common_folder(names: list[str]) -> str:
    # What all names begin with, up to a slash: it is said once, in the title.
    folders = [name.split("/")[:-1] for name in names]
    shared = [parts[0] for parts in zip(*folders, strict=False) if len(set(parts)) == 1]
    return "/".join([*shared, ""])


def _interval(score: ScoreRow) -> str:
    low, high = (f"{value:.2f}".removeprefix("0") for value in (score.low, score.high))
    return f"{score.estimate:.2f} ({low}-{high})"
