"""The command line: each command turns flags into options, makes one library call, and exits.

Nothing here imports numpy, torch or pandas before a command needs it; `--help` stays instant.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clipcls import __version__
from clipcls.cli import classify, models, prompts
from clipcls.errors import ClipclsError
from clipcls.text import visible

_EPILOG = """\
Example: clipcls classify ./images --labels glasses,no-glasses -o out.csv

Exit codes: 0 all pictures scored, 1 error, 2 usage error, 3 some pictures failed, 130 interrupted.
"""


class ErrorGroup(TyperGroup):
    """The one place where a library error becomes a line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command and translate what it raises."""
        try:
            return super().invoke(ctx)
        except ClipclsError as error:
            typer.echo(f"Error: {visible(str(error))}", err=True)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:
            # The reader (`| head`) has what it wanted. Python would complain once more when it
            # flushes stdout at exit, so stdout is led to nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=ErrorGroup,
    name="clipcls",
    help="Zero-shot image classification: a folder of pictures in, per-class probabilities out.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("classify", epilog=classify.EPILOG)(classify.classify)
app.add_typer(prompts.app, name="prompts")
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clipcls {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Zero-shot image classification: a folder of pictures in, per-class probabilities out."""


def main() -> None:
    """Run the command line."""
    app()
