"""``miscible evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from miscible.cli.output import FORMAT, Format, print_json, print_table, progress, write_json
from miscible.errors import MiscibleError

if TYPE_CHECKING:
    from miscible.records import ScoreRow

_DATA_HELP = "Local documents of a task: TASK=PATH, or TASK:SPLIT=PATH for one split. Repeat it."


def evaluate(
    model: str = typer.Argument(..., help="Model: a folder, org/name, base+adapter, demo:NAME."),
    tasks: str = typer.Option(..., help="lm-eval tasks, groups or tags, comma-separated."),
    data: list[str] = typer.Option([], "--data", help=_DATA_HELP),
    include: list[Path] = typer.Option([], help="Folder with task YAML of your own. Repeat it."),
    limit: int | None = typer.Option(None, min=1, help="Most documents of each task."),
    num_fewshot: int | None = typer.Option(None, min=0, help="Examples in the context."),
    apply_chat_template: bool = typer.Option(
        False, "--apply-chat-template", help="Wrap prompts in the model's chat template."
    ),
    dtype: str = typer.Option("float32", help="float32, bfloat16 or float16."),
    device: str = typer.Option("cpu", help="cpu, cuda or mps."),
    batch_tokens: int = typer.Option(512, min=1, help="Tokens of a forward pass."),
    seed: int = typer.Option(1234, help="Seed of few-shot examples and intervals."),
    allow_code: bool = typer.Option(
        False, "--allow-code", help="Run tasks that execute code which the model wrote."
    ),
    items: bool = typer.Option(False, "--items", help="With JSON, also the rows of each item."),
    format: Format = FORMAT,
    output: Path | None = typer.Option(None, help="Also write the rows to this JSON file."),
) -> None:
    """Evaluate the behaviour of a model on lm-eval tasks, item by item, with intervals."""
    sources = _parse_data(data)

    from miscible.evaluate import EvaluationOptions, evaluators
    from miscible.models import LiveModel, open_checkpoint
    from miscible.records import as_dict

    options = EvaluationOptions(
        tasks=tuple(name.strip() for name in tasks.split(",") if name.strip()),
        data=sources,
        include=tuple(str(folder) for folder in include),
        limit=limit,
        num_fewshot=num_fewshot,
        apply_chat_template=apply_chat_template,
        batch_tokens=batch_tokens,
        seed=seed,
        allow_code=allow_code,
    )
    with progress(format):
        harness = evaluators.get("lm_eval")(options)
        live = LiveModel.load(open_checkpoint(model), dtype=dtype, device=device)
        found = harness.evaluate(live)
    rows: list[dict[str, Any]] = [as_dict(score) for score in found.scores]
    result: Any = {"scores": rows, "items": [as_dict(i) for i in found.items]} if items else rows
    if output is not None:
        write_json(output, result)
    if format is Format.JSON:
        print_json(result)
    elif format is Format.HUMAN:
        _print_scores(found.scores)


def _parse_data(entries: list[str]) -> dict[str, str | dict[str, str]]:
    sources: dict[str, str | dict[str, str]] = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        task, colon, split = name.partition(":")
        if not (equals and path and task) or (colon and not split):
            raise MiscibleError(f"--data must be TASK=PATH or TASK:SPLIT=PATH. Got {entry!r}.")
        held = sources.get(task)
        if not colon and held is None:
            sources[task] = path
        elif colon and not isinstance(held, str):
            sources[task] = {**(held or {}), split: path}
        else:
            raise MiscibleError(f"--data says two things of the task {task!r}.")
    return sources


def _print_scores(scores: list[ScoreRow]) -> None:
    print_table(
        f"{scores[0].model}: scores (95 % interval)",
        ["task", "metric", "score", "chance", "items", "flags"],
        [
            [score.dataset, f"{score.metric} {'↑' if score.higher_is_better else '↓'}",
             f"{_figure(score.estimate)} ({_figure(score.low)} to {_figure(score.high)})",
             _figure(score.baseline), str(score.n), score.flags.replace(",", " ")]
            for score in scores
        ],
        text=2,
    )  # fmt: skip


def _figure(value: float) -> str:
    return "" if value != value else f"{value:.2f}"
