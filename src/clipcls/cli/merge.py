"""`clipcls merge`: the outputs of the shards of a run become one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from clipcls.cli import _run_flags as run_flags

EPILOG = """\b
Examples:
  clipcls classify ./images --labels cat,dog --shard 1/2 -o part-1.csv
  clipcls classify ./images --labels cat,dog --shard 2/2 -o part-2.csv
  clipcls merge out.csv part-*
"""


def merge(
    output: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The file to write.", show_default=False),
    ],
    parts: Annotated[
        list[Path],
        typer.Argument(
            metavar="PART...",
            help="What clipcls classify --shard wrote, all shards in any order; their manifests"
            " lie beside them.",
            show_default=False,
        ),
    ],
    output_format: run_flags.FormatFlag = None,
    overwrite: run_flags.OverwriteFlag = False,
    quiet: run_flags.QuietFlag = False,
) -> None:
    """Join the outputs of all shards into one, in the order of the inputs."""
    from clipcls.console import TerminalObserver
    from clipcls.outputs.merge import merge_shards, read_shards

    began = time.perf_counter()
    shards = read_shards(parts)
    with TerminalObserver(run_flags.verbosity(quiet, False)) as observer:
        observer.working(len(shards.turns))
        report = merge_shards(
            shards,
            output,
            format=output_format,
            overwrite=overwrite,
            worked=observer.worked,
        )
        report.seconds = time.perf_counter() - began
        observer.finished(report)
    raise typer.Exit(report.exit_code)
