"""`clipcls sort`: the images of an output into a folder per label, and back."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipcls.cli import _run_flags as run_flags
from clipcls.cli._base import echo
from clipcls.errors import OptionError
from clipcls.options import SortBy, SortOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipcls.console import TerminalObserver
    from clipcls.sorting.plan import Plan
    from clipcls.sorting.sort import SortReport

EPILOG = """\b
Examples:
  clipcls sort out.csv sorted --dry-run
  clipcls sort out.csv sorted --by symlink --min-probability 0.8
  clipcls sort out.csv best --top 20
  clipcls sort out.csv sorted --by move
  clipcls sort --undo sorted
"""

_MOST_LINES = 20
"""Images that have no place and are named one by one."""
_MOST_FOLDERS = 12
"""Folders that the summary names."""


def sort(
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT",
            help="What clipcls classify wrote with -o; relative paths in it start at the current"
            " folder.",
            show_default=False,
        ),
    ] = None,
    dest: Annotated[
        Path | None,
        typer.Argument(
            metavar="DEST",
            help="The folder for the folders, one per label; made if it is not there.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        SortBy, typer.Option("--by", help="How an image comes into its folder.")
    ] = SortBy.COPY,
    min_probability: Annotated[
        float | None,
        typer.Option(
            "--min-probability",
            metavar="P",
            help="Images of a lower probability go into unknown/ (0 to 1).",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", help="Only the N most probable images of each folder."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print path,target,note as CSV and do nothing.")
    ] = False,
    output_format: run_flags.FormatFlag = None,
    undo: Annotated[
        Path | None,
        typer.Option(
            "--undo",
            metavar="DEST",
            help="Undo every sort into this folder: put moved images back, remove copies and links."
            " What was changed since stays.",
        ),
    ] = None,
    quiet: run_flags.QuietFlag = False,
) -> None:
    """Put the images of an output into a folder per label, or back."""
    options = SortOptions(by, min_probability, top, output_format)
    if undo is not None:
        if output is not None or dry_run or options != SortOptions():
            raise OptionError("--undo takes the sorted folder alone: clipcls sort --undo DEST")
    elif output is None or dest is None:
        raise OptionError("name an output and a folder: clipcls sort OUT DEST (or --undo DEST)")
    elif str(output) == "-":
        raise OptionError("an output is read from a file: write it with clipcls classify -o FILE")
    from clipcls.console import TerminalObserver

    with TerminalObserver(run_flags.verbosity(quiet, False)) as observer:
        if undo is not None:
            code = _undone(undo, observer)
        elif dry_run and output and dest:
            from clipcls.sorting.sort import plan_sort

            code = _printed(plan_sort(output, dest, options))
        elif output and dest:
            code = sorted_into(output, dest, options, observer)
    raise typer.Exit(code)


def sorted_into(output: Path, dest: Path, options: SortOptions, observer: TerminalObserver) -> int:
    """Sort, say what was done, and return the exit code."""
    from clipcls.sorting.sort import sort_images

    try:
        report = sort_images(output, dest, options, observer)
    except KeyboardInterrupt:
        observer.noted(f"The same command goes on; clipcls sort --undo {dest} puts back")
        raise
    _complain([f"{path}: {reason}" for path, reason in report.failed], observer)
    observer.noted(_summary(report, dest))
    return report.exit_code


def _undone(dest: Path, observer: TerminalObserver) -> int:
    from clipcls.console import said
    from clipcls.sorting.sort import undo_sort

    report = undo_sort(dest, observer)
    _complain([f"{dest / target} {reason}" for target, reason in report.stayed], observer)
    stayed = f", {len(report.stayed):,} left as they are" if report.stayed else ""
    observer.noted(
        f"Undone: {said(report.put_back, 'image')} moved back, {report.removed:,} copies or links"
        f" removed{stayed}"
    )
    return report.exit_code


def _printed(plan: Plan) -> int:
    """Print a plan as CSV; return the exit code that the sort would have."""
    from clipcls.sorting.plan import Verdict
    from clipcls.text import printable_path

    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(("path", "target", "note"))
    for decision in plan.decisions:
        there = "is there already" if decision.verdict is Verdict.THERE else decision.reason
        target = f"{decision.folder}/{decision.name}" if decision.name else ""
        writer.writerow(printable_path(text) for text in (decision.image.path, target, there))
    echo(rows.getvalue().rstrip("\n"))
    return 3 if any(d.verdict is Verdict.FAILED for d in plan.decisions) else 0


def _complain(lines: Sequence[str], observer: TerminalObserver) -> None:
    for line in lines[:_MOST_LINES]:
        observer.warned(line)
    if len(lines) > _MOST_LINES:
        observer.warned(f"... and {len(lines) - _MOST_LINES:,} more")


def _summary(report: SortReport, dest: Path) -> str:
    from clipcls.console import said

    counts = report.counts.most_common()
    named = ", ".join(f"{folder} {count:,}" for folder, count in counts[:_MOST_FOLDERS])
    more = f" and {len(counts) - _MOST_FOLDERS:,} folders more" if counts[_MOST_FOLDERS:] else ""
    beside = [
        f"{number:,} {what}"
        for number, what in (
            (report.there, "of them there before"),
            (report.left_out, "left out"),
            (len(report.failed), "without a place"),
        )
        if number
    ]
    total = said(report.counts.total(), "image")
    line = f"Sorted into {dest} by {report.by}: {total}"
    return line + (f" ({named}{more})" if named else "") + "".join(f", {text}" for text in beside)
