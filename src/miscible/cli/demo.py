"""``miscible demo``: the whole story on a small real model, offline."""

from __future__ import annotations

from pathlib import Path

import typer

from miscible.cli.output import FORMAT, Format, print_json, progress, say


def demo(
    folder: Path = typer.Option(Path("demo-study"), help="Where the study and its report go."),
    format: Format = FORMAT,
    open_report: bool = typer.Option(True, "--open/--no-open", help="Open the report."),
) -> None:
    """Merge two children of SmolLM2-135M by five methods and show what it did."""
    from miscible.demo.study import demo_study
    from miscible.report.page import write_report

    with progress(format):
        study = demo_study(folder)
        summary = study.run()
        page = study.store.folder / "report.html"
        write_report(study.tables(), page)
    if format is Format.JSON:
        print_json({"report": str(page), "done": summary.done, "failed": len(summary.failed)})
    elif format is Format.HUMAN:
        say(
            f"{summary.done} steps computed, {summary.reused} found finished, "
            f"{len(summary.failed)} failed.\nReport: {page.resolve()}"
        )
        if open_report:
            typer.launch(str(page.resolve()))
    if summary.failed:
        raise typer.Exit(1)
