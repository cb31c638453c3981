"""Where the rows of a run go: a stream, or a file that appears when it is complete.

Files, for `out.csv`: rows go to `out.csv.part`, described by `out.csv.part.manifest.json`; at the
end both move to `out.csv` and `out.csv.manifest.json`. `out.csv.lock` is held meanwhile, by a lock
of the operating system that dies with its process.
"""

from __future__ import annotations

import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from clipcls.columns import Columns
from clipcls.errors import (
    MissingExtraError,
    OptionError,
    OutputError,
    OutputExistsError,
    ResumeError,
)
from clipcls.options import OutputFormat, OutputOptions
from clipcls.outputs import SavedRow, Writer, make_writer
from clipcls.outputs.base import locked, move_into_place, refuse_links
from clipcls.outputs.manifest import (
    check_same_run,
    is_complete,
    manifest_path,
    model_of,
    read_manifest,
    write_manifest,
)
from clipcls.records import Record


class Sink(ABC):
    """Where rows go.

    Attributes:
        batch_size: The batch size that an interrupted run used and this one must keep, or None.
        complete: The manifest of an output that is already complete, or None.
        made_by: The name of the model that made the rows so far, or None.
    """

    batch_size: int | None = None
    complete: dict[str, Any] | None = None
    made_by: str | None = None
    _writer: Writer

    @abstractmethod
    def begin(self, manifest: Mapping[str, Any], batch_size: int) -> int:
        """Get ready for the first row and return how many rows are kept from before."""

    def kept_rows(self) -> Iterator[SavedRow]:
        """Yield the rows that are kept from before; not to be mixed with writing."""
        return iter(())

    def write(self, records: Sequence[Record]) -> None:
        """Write one batch; it has left this process when this returns."""
        rows = [self._writer.columns.row(record) for record in records]
        self.put(self._writer.encoded(rows), len(rows))

    @abstractmethod
    def put(self, data: bytes, rows: int) -> None:
        """Write one batch that is encoded, of so many rows."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any]) -> None:
        """Make the complete output visible."""

    @abstractmethod
    def discard(self) -> None:
        """Take away what was written, where that can be done."""


@contextmanager
def open_sink(
    options: OutputOptions,
    columns: Columns,
    settings: Mapping[str, Any],
    stdout: BinaryIO | None = None,
) -> Iterator[Sink]:
    """Open the output and hold it until the run is over.

    Args:
        options: What is written where.
        columns: The columns of the output.
        settings: What is known of the manifest before a model is loaded.
        stdout: Where rows go when `options` names no file; standard output by default.

    Raises:
        OutputExistsError: The output, or a partial one, is there and no option says what to do.
        OutputLockedError: Another run holds it.
        ResumeError: What is there was made with other settings.
        OptionError: The folder does not exist, or the path is a folder.
    """
    if options.path is None:
        if stdout is None and sys.stdout is None:
            raise OutputError("standard output is closed: name a file with -o FILE")
        yield _StreamSink(options, columns, stdout or sys.stdout.buffer)
        return
    if options.path.exists() and not options.path.is_file():
        # A pipe or a device (/dev/null) is written to, never replaced.
        with _opened_special(options) as stream:
            yield _StreamSink(options, columns, stream)
        return
    # A link is followed, not replaced.
    target = Path(os.path.realpath(options.path))
    if not target.parent.is_dir():
        raise OptionError(f"the folder {target.parent} does not exist: make it, or change -o")
    with _locked(target):
        sink = _FileSink(target, options, columns, settings)
        try:
            yield sink
        finally:
            sink.close()


def _opened_special(options: OutputOptions) -> BinaryIO:
    """Open what exists and is no regular file, if rows can be streamed into it."""
    path = options.path or Path()
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a file (-o {path}/out.csv)")
    if options.resume:
        raise OptionError(f"{path} is not a regular file: it cannot be resumed")
    if options.resolved_format is OutputFormat.PARQUET:
        raise OptionError(f"{path} is not a regular file: Parquet cannot be streamed into it")
    with _errors_of(str(path)):
        return path.open("wb", buffering=0)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock_file = path.with_name(path.name + ".lock")
    part = path.with_name(path.name + ".part")
    for ours in (lock_file, part, manifest_path(part)):
        refuse_links(ours, "choose another output")
    busy = f"another run is writing {path}: wait for it, or choose another output"
    with locked(lock_file, busy):
        yield


class _StreamSink(Sink):
    """A plain stream: nothing to resume, nothing to move."""

    def __init__(self, options: OutputOptions, columns: Columns, stream: BinaryIO) -> None:
        # Without a buffer: rows are out at once, and after an error nothing is left in it to fail
        # a second time when the interpreter ends.
        stream = getattr(stream, "raw", stream)
        self._writer = make_writer(options.resolved_format, columns, stream)
        self._place = str(options.path or "standard output")
        self._started = False

    def begin(self, manifest: Mapping[str, Any], batch_size: int) -> int:
        return 0

    def put(self, data: bytes, rows: int) -> None:
        with _errors_of(self._place):
            if not self._started:
                # Not in `begin`: on a terminal the header belongs to the rows, behind what is
                # said on stderr before the first of them.
                self._writer.start()
                self._started = True
            self._writer.put(data)

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass

    def discard(self) -> None:
        pass


class _FileSink(Sink):
    """A partial file and its manifest, moved into place at the end."""

    def __init__(
        self, target: Path, options: OutputOptions, columns: Columns, settings: Mapping[str, Any]
    ) -> None:
        self._target = target
        self._partial = target.with_name(target.name + ".part")
        self._format, self._columns = options.resolved_format, columns
        self._manifest: Mapping[str, Any] = {}
        self._rows = 0
        self._old = self._take_stock(options, settings)
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            flags |= getattr(os, "O_NOFOLLOW", 0)
            # Not truncated: the rows of an interrupted run are in it.
            descriptor = os.open(self._partial, flags, 0o666)
            if target.exists() and hasattr(os, "fchmod"):
                os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))
        except OSError as error:
            raise OutputError(f"cannot write {self._partial}: {error.strerror}") from error
        self._stream: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            self._writer = make_writer(self._format, columns, self._stream)
        except MissingExtraError:
            self.close()
            raise

    def _take_stock(
        self, options: OutputOptions, settings: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the manifest of the partial output to continue, None to start anew."""
        self._mend_last_rename()
        self._refuse_a_strangers_part()
        if options.overwrite:
            return None
        target, partial, described = self._target, self._partial, manifest_path(self._partial)
        if not options.resume:
            self._refuse_to_replace()
            return None
        if partial.exists() and described.exists():
            old = read_manifest(described)
            check_same_run(old, settings, target)
            self.batch_size = int(old["batch_size"])
            self.made_by = model_of(old)
            return old
        if target.exists():
            self.complete = read_manifest(manifest_path(target))
            if not is_complete(self.complete):
                raise ResumeError(
                    f"{manifest_path(target)} is of an unfinished run, so nothing says whether"
                    f" {target} is complete: move them away, or choose another file with -o"
                )
            check_same_run(self.complete, settings, target)
            self.made_by = model_of(self.complete)
        return None

    def _mend_last_rename(self) -> None:
        """Finish what a run that was killed between its last two renames left undone."""
        described = manifest_path(self._partial)
        if not described.exists() or self._partial.exists() or not self._target.exists():
            return
        with suppress(ResumeError):
            if is_complete(read_manifest(described)):
                os.replace(described, manifest_path(self._target))

    def _refuse_to_replace(self) -> None:
        if self._target.exists():
            raise OutputExistsError(
                f"{self._target} exists: --overwrite replaces it, or choose another output"
            )
        if manifest_path(self._partial).exists():
            raise OutputExistsError(
                f"{self._partial} is there from an interrupted run: classify --resume continues it,"
                " --overwrite starts anew"
            )

    def _refuse_a_strangers_part(self) -> None:
        """Whatever the flags say: a run's own partial file is empty or has a manifest."""
        if manifest_path(self._partial).exists() or not self._partial.exists():
            return
        if self._partial.stat().st_size:
            raise OutputExistsError(
                f"{self._partial} is in the way and no run of clipcls left it: move it, or choose"
                " another output"
            )

    def begin(self, manifest: Mapping[str, Any], batch_size: int) -> int:
        if self.complete is not None:
            check_same_run(self.complete, manifest, self._target)
            return 0
        end = 0
        if self._old is not None:
            check_same_run(self._old, manifest, self._target)
            # Whole batches: the next one then is one that an uninterrupted run would have had.
            for number, row in enumerate(self._saved_rows(), start=1):
                if number % batch_size == 0:
                    self._rows, end = number, row.end
        self._manifest = manifest
        with _errors_of(self._partial, kept=self._rows > 0):
            self._stream.seek(end)
            self._stream.truncate()
            # Before the first byte, so that a partial file that is not empty has a manifest.
            write_manifest(manifest_path(self._partial), manifest)
            if end == 0:
                self._writer.start()
        return self._rows

    def _saved_rows(self) -> Iterator[SavedRow]:
        with self._partial.open("rb") as stream:
            yield from make_writer(self._format, self._columns, stream).saved_rows()

    def kept_rows(self) -> Iterator[SavedRow]:
        return islice(self._saved_rows(), self._rows)

    def put(self, data: bytes, rows: int) -> None:
        end = self._stream.tell()
        try:
            with _errors_of(self._partial, kept=self._rows > 0):
                self._writer.put(data)
        except OutputError:
            # The disk is full or the like: the file ends with its last whole batch.
            with suppress(OSError):
                self._stream.truncate(end)
            raise
        self._rows += rows

    def finish(self, summary: Mapping[str, Any]) -> None:
        if self.complete is not None:
            return
        with _errors_of(self._target, kept=self._rows > 0):
            os.fsync(self._stream.fileno())
            self._stream.close()
            write_manifest(manifest_path(self._partial), {**self._manifest, **summary})
            self._writer.finish(self._partial, self._target, self._rows)
            move_into_place(manifest_path(self._partial), manifest_path(self._target))

    def discard(self) -> None:
        self._stream.close()
        for ours in (self._partial, manifest_path(self._partial)):
            with suppress(OSError):
                ours.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the partial file; remove it when no run has begun in it."""
        self._stream.close()
        with suppress(OSError):
            if not self._partial.stat().st_size and not manifest_path(self._partial).exists():
                self._partial.unlink()


@contextmanager
def _errors_of(place: Path | str, *, kept: bool = False) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # Not an error: the reader of the pipe has what it wanted.
        raise
    except OSError as error:
        hint = "; the rows written before are kept, --resume continues" if kept else ""
        raise OutputError(f"cannot write {place}: {error.strerror or error}{hint}") from error


def check_row(row: SavedRow, number: int, path: str | None, where: Path | None) -> None:
    """Refuse to continue when a kept row is not of the input that stands there now.

    Args:
        row: The row kept from before.
        number: Its number, from 1.
        path: The input's path, as written; None when the inputs have come to their end.
        where: The output, for the message.

    Raises:
        ResumeError: Naming both.
    """
    if path != row.path:
        now = "nothing" if path is None else f"'{path}'"
        raise ResumeError(
            f"cannot resume {where}: row {number} is '{row.path}', the inputs now have {now}"
            " there; give the inputs of the first run, or --overwrite to start anew"
        )
