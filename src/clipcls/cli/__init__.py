"""The command line: each command turns flags into options, makes one library call, and exits.

Nothing here imports numpy, torch or pandas before a command needs it; `--help` stays instant.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from typing import Annotated

import typer

from clipcls import __version__
from clipcls.cli import (
    cache,
    calibrate,
    classify,
    evaluate,
    explain,
    learn,
    merge,
    models,
    prompts,
    report,
    similarity,
    sort,
)
from clipcls.cli._base import Command, ErrorGroup, echo

_EPILOG = """\
Example: clipcls classify ./images --labels glasses,no-glasses -o out.csv

Exit codes: 0 all images scored, 1 error, 2 usage error, 3 some images failed, 130 interrupted.
"""

app = typer.Typer(
    cls=ErrorGroup,
    name="clipcls",
    help="Zero-shot image classification: a folder of images in, per-class probabilities out.",
    epilog=_EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("classify", cls=Command, epilog=classify.EPILOG)(classify.classify)
app.command("merge", cls=Command, epilog=merge.EPILOG)(merge.merge)
app.command("evaluate", cls=Command, epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command("calibrate", cls=Command, epilog=calibrate.EPILOG)(calibrate.calibrate)
app.command("explain", cls=Command, epilog=explain.EPILOG)(explain.explain)
app.command("learn", cls=Command, epilog=learn.EPILOG)(learn.learn)
app.command("similarity", cls=Command, epilog=similarity.EPILOG)(similarity.similarity)
app.command("sort", cls=Command, epilog=sort.EPILOG)(sort.sort)
app.command("report", cls=Command, epilog=report.EPILOG)(report.report)
app.add_typer(prompts.app, name="prompts")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"clipcls {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Print the help where no command is named."""
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line."""
    # torch and its kin make a million objects that stay: looking through them again and again for
    # garbage takes a sixth of the start.
    gc.set_threshold(200_000, 50, 50)
    ended: list[int] = []
    # Registered first, so it runs last: taking all those objects down takes seconds and frees what
    # the system frees anyway.
    atexit.register(lambda: os._exit(ended[0]) if ended else None)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 shows what it cannot show as `?`; rows go out as bytes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except SystemExit as leaving:
        # By then the streams are flushed.
        if isinstance(leaving.code, int):
            ended.append(leaving.code)
        raise
