"""What a person sees: status, progress, warnings and summaries on stderr, one table on stdout.

File names and labels are data: they are printed as plain text, never as rich markup, and control
characters in them are made visible, so that no name can move the cursor or change colours.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from enum import IntEnum
from types import TracebackType
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
)
from rich.table import Table
from rich.text import Text

from clipcls.observer import Observer
from clipcls.records import Failure, Prediction, Record, RunReport
from clipcls.text import visible

if TYPE_CHECKING:
    from clipcls.models.devices import DeviceChoice
    from clipcls.page.build import PageReport
    from clipcls.prompts import PromptSet

_MOST_ROWS = 12
"""Rows of a summary before the rest is counted in one line."""


class Verbosity(IntEnum):
    """How much is said on stderr; warnings and errors always are."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


class _PaceColumn(ProgressColumn):
    """Images per second since the start, and the time left at that pace.

    rich's own columns measure between updates; ours come in bursts, a batch at a time.
    """

    def render(self, task: Task) -> Text:
        """Return the pace, or nothing before there is one."""
        done = task.completed - task.fields["before"]
        if not done or not task.elapsed:
            return Text("")
        rate = done / task.elapsed
        if task.total is None:
            return Text(f"{rate:.1f} img/s")
        left = timedelta(seconds=round((task.total - task.completed) / rate))
        return Text(f"{rate:.1f} img/s, {left} left" if task.fields["wide"] else f"{left} left")


class TerminalObserver(Observer, AbstractContextManager["TerminalObserver"]):
    """Shows a run on stderr.

    Args:
        verbosity: How much is said.
        bar: Whether a progress bar is shown where stderr is a terminal.
        summary: Whether a table of the predictions ends the run.

    Attributes:
        downloading: Says what is downloaded, unless it is to be quiet.
        scoring: Whether rows are being made, so that an interrupt can end the batch first.
        last: The latest record.
    """

    def __init__(
        self,
        verbosity: Verbosity = Verbosity.NORMAL,
        *,
        bar: bool = True,
        summary: bool = True,
    ) -> None:
        self.downloading = None if verbosity is Verbosity.QUIET else self._say
        self._bar = bar and verbosity is not Verbosity.QUIET
        self._verbosity = verbosity
        self._summary = summary
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self.scoring = False
        self.last: Record | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_progress()

    def joined(self, lines: Iterable[str]) -> None:
        """Say how images and truth came together."""
        for line in lines:
            self._say(line[:1].upper() + line[1:])

    def loading(self, model: str, device: DeviceChoice) -> None:
        """Say what runs where."""
        self._say(f"Model {model} on {device.device}, {device.precision}: {device.reason}")

    def started(self, prompts: PromptSet, total: int | None, resumed: int) -> None:
        """Say what is asked and start the progress bar."""
        texts = prompts.flat()
        images = "images as they come" if total is None else said(total, "image")
        self._say(f"{said(len(prompts.labels), 'label')}, {said(len(texts), 'prompt')}, {images}")
        if self._verbosity is Verbosity.VERBOSE:
            for label, prompt_texts in zip(prompts.labels, prompts.prompts, strict=True):
                self._say(f"  {label}: {' | '.join(prompt_texts)}")
        if resumed:
            self._say(f"Resuming after {said(resumed, 'row')}")
        self.scoring = True
        self._start_progress(total, done=resumed)

    def scored(self, record: Record) -> None:
        """Advance the bar."""
        self.last = record
        self.worked()
        if self._verbosity is Verbosity.VERBOSE and isinstance(record, Failure):
            self._say(f"  {record.path}: {record.reason}")

    def working(self, total: int) -> None:
        """Start the progress bar."""
        self._start_progress(total)

    def worked(self) -> None:
        """Advance the bar."""
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0])

    def warned(self, message: str) -> None:
        """Show a warning, also when quiet."""
        self._print(Text.assemble(("Warning: ", "yellow"), plain(message)))

    def finished(self, report: RunReport) -> None:
        """Show the summary."""
        self._stop_progress()
        self.scoring = False
        if self._verbosity is Verbosity.QUIET or not self._summary:
            return
        self._table(report.counts, "prediction", report)
        if report.failed:
            self._table(report.reasons, "failed because", report)
        if self._verbosity is Verbosity.VERBOSE:
            for path, reason in report.skipped_paths:
                self._say(f"  {path}: skipped, {reason}")
        for reason, count in report.skipped.items():
            self._say(f"Skipped: {count} {reason}")
        rate = f", {report.done / report.seconds:.1f} img/s" if report.done else ""
        kept = f" ({report.resumed} rows kept from before)" if report.resumed else ""
        kept += f" ({report.cached} from the cache)" if report.cached else ""
        state = "Interrupted" if report.interrupted else "Done"
        scored = sum(report.counts.values())
        self._say(
            f"{state}: {scored} scored, {report.failed} failed{kept}, {report.seconds:.1f} s{rate},"
            f" model {report.model}"
        )

    def page_written(self, made: PageReport) -> None:
        """Say where the page is, and what could not be shown."""
        self._stop_progress()
        if made.missing:
            everything = made.missing == made.images and made.reason == "file not found"
            advice = "; paths lead from the folder in which classify ran" if everything else ""
            self.warned(
                f"{said(made.missing, 'image')} of {made.images:,} cannot be shown, the first"
                f" because: {made.reason}{advice}"
            )
        self._say(f"Open {made.path} in a browser")

    def say(self, message: str) -> None:
        """Print one line, also when quiet."""
        self._print(plain(message))

    def noted(self, message: str) -> None:
        """Print one line, unless it is to be quiet."""
        self._stop_progress()
        self._say(message)

    def _print(self, what: Text | Table) -> None:
        # A stderr that cannot be written to (a full disk, a closed pipe) must not cost rows.
        with suppress(OSError):
            self._console.print(what)

    def _say(self, message: str) -> None:
        if self._verbosity is not Verbosity.QUIET:
            self.say(message)

    def _table(self, counts: Counter[str], title: str, report: RunReport) -> None:
        total = sum(report.counts.values()) + report.failed
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column(title, overflow="fold")
        table.add_column("images", justify="right")
        table.add_column("share", justify="right")
        for name, count in counts.most_common(_MOST_ROWS):
            table.add_row(plain(name), str(count), percent(count / total))
        rest = counts.most_common()[_MOST_ROWS:]
        if rest:
            table.add_row(Text(f"{len(rest)} more", style="dim"), str(sum(n for _, n in rest)), "")
        if counts:
            self._print(table)

    def _start_progress(self, total: int | None, done: int = 0) -> None:
        if not (self._bar and self._console.is_terminal):
            return
        width = self._console.width
        # Counts and pace take up to 45 columns; a narrow terminal has them without a bar.
        bar = [BarColumn(min(40, width - 45))] if width >= 55 else []
        spinner = SpinnerColumn("line" if self._console.options.ascii_only else "dots")
        self._progress = Progress(
            *(spinner, *bar, MofNCompleteColumn(), _PaceColumn()),
            console=self._console,
            transient=True,
        )
        self._progress.add_task("", total=total, completed=done, before=done, wide=bool(bar))
        self._progress.start()

    def _stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def stdout_console(least: int = 0) -> Console:
    """Return a console for stdout, as wide as the terminal or `least` columns.

    Without both measures, rich takes 80 columns for granted on a terminal that it calls dumb.
    """
    width, height = shutil.get_terminal_size()
    console = _Page(highlight=False, width=max(width, least), height=height)
    # Only a terminal has an edge: a sentence in a pipe or a file is one line.
    console.soft_wrap = not console.is_terminal
    return console


class _Page(Console):
    def on_broken_pipe(self) -> None:
        """Let it through: the command line ends quietly, where rich would end with code 1."""
        raise  # noqa: PLE0704  rich calls this where it has caught the error


def show_image(prediction: Prediction, top_k: int | None = None) -> None:
    """Print one image's labels with bars to stdout, best first, at most `top_k` of them.

    No line is longer than the terminal is wide: long labels are folded, and a bar takes what they
    leave, up to 30 columns.
    """
    console = stdout_console()
    ranking = prediction.ranking(top_k)
    # A figure has 6 columns, and there are two gaps of one.
    room = console.width - len("0.0000") - 2
    label_width = min(max(cell_len(visible(label)) for label, _ in ranking), max(room - 8, 1))
    bar_width = max(0, min(30, room - label_width))
    block = "#" if console.options.ascii_only else "█"
    table = Table.grid(padding=(0, 1))
    table.add_column(width=label_width, overflow="fold")
    table.add_column(width=bar_width)
    table.add_column(justify="right")
    for rank, (label, probability) in enumerate(ranking):
        style = "bold" if rank == 0 else "dim"
        bar = Text(block * round(bar_width * probability), style="green" if rank == 0 else "blue")
        table.add_row(plain(label, style), bar, Text(f"{probability:.4f}", style=style))
    console.print(plain(f"{prediction.path}: {prediction.prediction}"))
    console.print(table)


def plain(text: str, style: str = "") -> Text:
    """Return text that a terminal shows as it is."""
    return Text(visible(text), style=style)


def percent(share: float) -> str:
    """Return a share as people read it: `58.3 %`."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """Return a difference of two shares as people read it, in percentage points: `8.3 points`."""
    return f"{percent(difference).removesuffix('%')}points"


def said(number: int, noun: str) -> str:
    """Return a number with its noun: `1 image`, `1,000 images`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
