"""`clipcls report`: look at a result in a browser, and correct it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcls.cli import _run_flags as run_flags

EPILOG = """\b
Examples:
  clipcls report out.csv -o report
  clipcls report out.csv -o report.html --single-file
  clipcls report out.csv --explanations explained -o report
"""


def report(
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="What clipcls classify wrote, or the predictions.csv of an evaluation.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="The folder for the page; with --single-file, the HTML file.",
        ),
    ],
    single_file: Annotated[
        bool,
        typer.Option(
            "--single-file", help="Put the thumbnails into the page: one file, no folder."
        ),
    ] = False,
    explanations: Annotated[
        Path | None,
        typer.Option(
            "--explanations",
            metavar="DIR",
            help="Show the pictures of a folder that clipcls explain made of these images.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the report that is there.")
    ] = False,
    quiet: run_flags.QuietFlag = False,
) -> None:
    """Make a page on which a result can be looked at, filtered and corrected."""
    from clipcls.console import TerminalObserver
    from clipcls.inputs.pillow import lift_pillow_limit
    from clipcls.outputs.base import check_target
    from clipcls.page.build import PAGE, check_folder, check_page, write_page
    from clipcls.page.subject import read_subject

    if single_file:
        check_target(target, overwrite=True, reads=[str(output)])
        check_page(target, overwrite=overwrite)
    else:
        check_folder(target, overwrite=overwrite)
    subject = read_subject(output)
    # This process is ours; what was scored under a higher limit is shown under it too.
    lift_pillow_limit()
    with TerminalObserver(run_flags.verbosity(quiet, False)) as observer:
        page = target if single_file else target / PAGE
        made = write_page(
            subject,
            page,
            single_file=single_file,
            explanations=explanations,
            observer=observer,
        )
        observer.page_written(made)
    raise typer.Exit(3 if made.missing else 0)
