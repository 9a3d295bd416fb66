"""``miscible study``: plan, run, status, report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miscible.cli.output import FORMAT, Format, duration, print_json, print_table, progress, say

if TYPE_CHECKING:
    from miscible.study import Study

study_app = typer.Typer(
    help="Merge, evaluate and probe by one YAML file; resumable.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FAILED = 1
_FILE = typer.Argument(..., help="Study file.")
_FOLDER = typer.Option(None, "--folder", help="Results; default: the study's name beside its file.")


@study_app.command()
def run(
    file: Path = _FILE,
    folder: Path | None = _FOLDER,
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the plan and its cost only."),
    report: bool = typer.Option(True, help="Write the report at the end."),
    format: Format = FORMAT,
) -> None:
    """Run a study, or go on where it was stopped."""
    from miscible.study import Study

    study = Study.open(file, folder)
    if dry_run:
        _show_plan(study, format)
        return
    with progress(format):
        summary = study.run()
        page = _write_report(study, None) if report else None
    if format is Format.JSON:
        print_json(
            {
                "done": summary.done, "reused": summary.reused,
                "failed": [{"step": str(s), "error": e} for s, e in summary.failed],
                "folder": str(study.store.folder), "report": str(page) if page else None,
            }
        )  # fmt: skip
    elif format is Format.HUMAN:
        say(f"{summary.done} steps computed, {summary.reused} found finished.")
        for step, error in summary.failed:
            say(f"{step}: {error}", failed=True)
        if page:
            say(f"Report: {page}")
    if summary.failed:
        raise typer.Exit(FAILED)


@study_app.command()
def status(file: Path = _FILE, folder: Path | None = _FOLDER, format: Format = FORMAT) -> None:
    """Show which steps are finished, failed and open."""
    from miscible.study import Study

    states = Study.open(file, folder).status()
    if format is Format.JSON:
        print_json(
            [
                {"key": s.step.key, "model": s.step.model, "kind": s.step.kind,
                 "subject": s.step.subject, "state": s.state, "error": s.error or None}
                for s in states
            ]
        )  # fmt: skip
    elif format is Format.HUMAN:
        counts: Counter[tuple[str, str]] = Counter((s.step.model, s.state) for s in states)
        models = list(dict.fromkeys(s.step.model for s in states))
        kinds = ("finished", "failed", "open")
        rows = [[m, *(str(counts[m, kind] or "") for kind in kinds)] for m in models]
        print_table("Steps", ["model", *kinds], rows)
        for s in states:
            if s.state == "failed":
                reason = s.error.strip().splitlines()[-1]
                say(f"{s.step}: {reason}", failed=True)


@study_app.command()
def report(
    file: Path = _FILE,
    folder: Path | None = _FOLDER,
    out: Path | None = typer.Option(None, help="HTML file; default: report.html in the folder."),
    format: Format = FORMAT,
) -> None:
    """Write the report of what is finished so far."""
    from miscible.study import Study

    with progress(format):
        page = _write_report(Study.open(file, folder), out)
    if format is Format.JSON:
        print_json({"report": str(page)})
    elif format is Format.HUMAN:
        say(f"Report: {page}")


@study_app.command()
def table(
    files: list[Path] = typer.Argument(..., help="Study files, one or several."),
    outcomes: Path | None = typer.Option(
        None, help="CSV to write: scores of merges of two parents on their own tasks."
    ),
    metrics: Path | None = typer.Option(None, help="CSV to write: metrics of every two parents."),
    task: list[str] = typer.Option(
        [], help="PARENT=TASK or PARENT=TASK:METRIC: a parent's own task; repeat it."
    ),
    format: Format = FORMAT,
) -> None:
    """Write what studies found as tables for 'miscible fit'."""
    from miscible.errors import MiscibleError
    from miscible.study import Study
    from miscible.study.tables import export_tables

    if outcomes is None and metrics is None:
        raise MiscibleError("there is nothing to write: give --outcomes, --metrics or both.")
    own: dict[str, str] = {}
    for each in task:
        parent, mark, name = each.partition("=")
        if not mark or not name:
            raise MiscibleError(f"--task takes PARENT=TASK. Got {each!r}.")
        own[parent] = name
    studies = [Study.open(file) for file in files]
    written = export_tables(studies, outcomes=outcomes, metrics=metrics, tasks=own)
    if format is Format.JSON:
        print_json(written)
    elif format is Format.HUMAN:
        for name, path in (("outcomes", outcomes), ("metrics", metrics)):
            if path is not None:
                say(f"Wrote {written[name]} rows to {path}.")


def _write_report(study: Study, out: Path | None) -> Path:
    from miscible.progress import task
    from miscible.report.page import write_report

    page = out or study.store.folder / "report.html"
    with task("report"):
        write_report(study.tables(), page)
    return page


def _show_plan(study: Study, format: Format) -> None:
    cost = study.cost()
    if format is Format.JSON:
        print_json({"cost": dict(cost), "steps": [str(step) for step in study.plan.steps]})
        return
    if format is Format.QUIET:
        return
    rows = [
        [
            model.name,
            model.role,
            model.method,
            "" if model.dose != model.dose else f"{model.dose:g}",
            *(str(sum(s.kind == kind for s in model.steps) or "") for kind in
              ("behaviour", "internals")),
            str(sum(study.store.has(step.key) for step in model.steps)),
        ]
        for model in study.plan.models
    ]  # fmt: skip
    columns = ["model", "role", "method", "dose", "tasks", "data sets", "finished steps"]
    print_table(f"Plan of {study.spec.name}", columns, rows, text=3)
    left = int(cost["steps"] - cost["finished"])
    for warning in study.plan.warnings:
        say(f"Note: {warning}")
    say(
        f"{left} of {int(cost['steps'])} steps to do: about {duration(cost['seconds'])} and "
        f"{cost['peak_bytes'] / 1e9:.1f} GB of memory (a rough estimate)."
    )
