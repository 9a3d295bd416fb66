"""The command line: one thin file a verb; heavy imports happen inside the verb that needs them."""

from __future__ import annotations

import sys

import typer

from miscible import __version__
from miscible.cli.demo import demo
from miscible.cli.doctor import doctor
from miscible.cli.evaluate import evaluate
from miscible.cli.fit import fit
from miscible.cli.measure import measure
from miscible.cli.merge import merge
from miscible.cli.methods import methods
from miscible.cli.output import fail
from miscible.cli.predict import predict
from miscible.cli.probe import probe
from miscible.cli.statistics import adamerge, statistics
from miscible.cli.study import study_app
from miscible.cli.suggest import suggest
from miscible.cli.verify import verify
from miscible.errors import MiscibleError

app = typer.Typer(
    name="miscible",
    help="Will fine-tuned models merge, how should they, and what did the merge do?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(doctor)
app.command()(merge)
app.command()(verify)
app.command()(methods)
app.command()(statistics)
app.command()(adamerge)
app.command()(measure)
app.command()(fit)
app.command()(predict)
app.command()(suggest)
app.command()(evaluate)
app.command()(probe)
app.add_typer(study_app, name="study")
app.command()(demo)

INTERRUPTED = 130


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"miscible {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line; an error that a user can act on is one line and exit code 2."""
    try:
        app()
    except MiscibleError as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # Typer has turned Ctrl-C into an exit
            fail("stopped. Nothing that was finished is lost; run the same command again.")
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
