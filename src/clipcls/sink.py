"""Where the rows of a run go: a stream, or a file that appears when it is complete.

Files, for `out.csv`: rows go to `out.csv.part`, described by `out.csv.part.manifest.json`; at the
end both move to `out.csv` and `out.csv.manifest.json`. `out.csv.lock` is held meanwhile, by a lock
of the operating system that dies with its process.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from clipcls.errors import (
    OptionError,
    OutputError,
    OutputExistsError,
    OutputLockedError,
    ResumeError,
)
from clipcls.manifest import check_same_run, manifest_path, read_manifest, write_manifest
from clipcls.options import OutputOptions
from clipcls.records import Record
from clipcls.writers import Columns, SavedRow, make_writer


class Sink(ABC):
    """Where rows go.

    Attributes:
        batch_size: The batch size that an interrupted run used and this one must keep, or None.
        complete: The manifest of an output that is already complete, or None.
    """

    batch_size: int | None = None
    complete: dict[str, Any] | None = None

    @abstractmethod
    def begin(self, manifest: Mapping[str, Any], batch_size: int) -> list[SavedRow]:
        """Get ready for the first row and return the rows that are kept from before."""

    @abstractmethod
    def write(self, records: Sequence[Record]) -> None:
        """Write one batch; it has left this process when this returns."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any]) -> None:
        """Make the complete output visible."""


@contextmanager
def open_sink(
    options: OutputOptions, columns: Columns, settings: Mapping[str, Any], stdout: BinaryIO
) -> Iterator[Sink]:
    """Open the output and hold it until the run is over.

    Args:
        options: What is written where.
        columns: The columns of the output.
        settings: What is known of the manifest before a model is loaded.
        stdout: Where rows go when `options` names no file.

    Raises:
        OutputExistsError: The output, or a partial one, is there and no option says what to do.
        OutputLockedError: Another run holds it.
        ResumeError: What is there was made with other settings.
        OptionError: The folder does not exist, or the path is a folder.
    """
    if options.path is None:
        yield _StreamSink(options, columns, stdout)
        return
    _check_place(options.path)
    with _locked(options.path):
        sink = _FileSink(options, columns, settings)
        try:
            yield sink
        finally:
            sink.close()


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a file (-o {path}/out.csv)")
    if not path.parent.is_dir():
        raise OptionError(f"the folder {path.parent} does not exist: make it, or change -o")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock_file = path.with_name(path.name + ".lock")
    lock = FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputLockedError(
            f"another run is writing {path}: wait for it, or choose another file with -o"
        ) from None
    except OSError as error:
        raise OutputError(f"cannot write in {path.parent}: {error.strerror or error}") from error
    try:
        yield
    finally:
        # Removed while it is held, so that no other run can take the file that goes away.
        lock_file.unlink(missing_ok=True)
        lock.release()


class _StreamSink(Sink):
    """A plain stream: nothing to resume, nothing to move."""

    def __init__(self, options: OutputOptions, columns: Columns, stream: BinaryIO) -> None:
        self._writer = make_writer(options.resolved_format, columns, stream)

    def begin(self, manifest: Mapping[str, Any], batch_size: int) -> list[SavedRow]:
        with _errors_of("standard output"):
            self._writer.start()
        return []

    def write(self, records: Sequence[Record]) -> None:
        with _errors_of("standard output"):
            self._writer.write(records)

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass


class _FileSink(Sink):
    """A partial file and its manifest, moved into place at the end."""

    def __init__(
        self, options: OutputOptions, columns: Columns, settings: Mapping[str, Any]
    ) -> None:
        if options.path is None:
            raise OptionError("a file needs a path (-o FILE)")
        self._target = options.path
        self._partial = options.path.with_name(options.path.name + ".part")
        self._old = self._take_stock(options, settings)
        self._manifest: Mapping[str, Any] = {}
        try:
            # Opened for appending so that nothing is lost before the manifest was compared.
            self._stream = self._partial.open("ab+")
        except OSError as error:
            raise OutputError(f"cannot write {self._partial}: {error.strerror}") from error
        self._stream.close()
        self._stream = self._partial.open("rb+")
        self._writer = make_writer(options.resolved_format, columns, self._stream)

    def _take_stock(
        self, options: OutputOptions, settings: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the manifest of the partial output to continue, None to start anew."""
        target, partial, described = self._target, self._partial, manifest_path(self._partial)
        if described.exists() and not partial.exists() and target.exists():
            # A run was killed between its last two renames.
            os.replace(described, manifest_path(target))
        if options.overwrite:
            return None
        if not options.resume:
            self._refuse_to_replace()
            return None
        if partial.exists() and described.exists():
            old = read_manifest(described)
            check_same_run(old, settings, target)
            self.batch_size = int(old["batch_size"])
            return old
        if target.exists():
            self.complete = read_manifest(manifest_path(target))
            check_same_run(self.complete, settings, target)
        return None

    def _refuse_to_replace(self) -> None:
        if self._target.exists():
            raise OutputExistsError(
                f"{self._target} exists: --overwrite replaces it, or choose another file with -o"
            )
        if manifest_path(self._partial).exists():
            raise OutputExistsError(
                f"{self._partial} is there from an interrupted run: --resume continues it,"
                " --overwrite starts anew"
            )

    def begin(self, manifest: Mapping[str, Any], batch_size: int) -> list[SavedRow]:
        if self.complete is not None:
            check_same_run(self.complete, manifest, self._target)
            return []
        rows: list[SavedRow] = []
        if self._old is not None:
            check_same_run(self._old, manifest, self._target)
            rows = list(self._writer.saved_rows())
            # Whole batches only, so that the next batch is one that a full run would have had.
            del rows[len(rows) - len(rows) % batch_size :]
        with _errors_of(self._partial):
            self._writer.continue_at(rows[-1].end if rows else 0)
            # After the header: a partial file with a manifest always has one.
            self._manifest = manifest
            write_manifest(manifest_path(self._partial), manifest)
        return rows

    def write(self, records: Sequence[Record]) -> None:
        with _errors_of(self._partial):
            self._writer.write(records)

    def finish(self, summary: Mapping[str, Any]) -> None:
        if self.complete is not None:
            return
        with _errors_of(self._target):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            write_manifest(manifest_path(self._partial), {**self._manifest, **summary})
            self._writer.finish(self._partial, self._target)
            os.replace(manifest_path(self._partial), manifest_path(self._target))

    def close(self) -> None:
        """Close the partial file; remove it when no run has begun in it."""
        self._stream.close()
        if not manifest_path(self._partial).exists():
            self._partial.unlink(missing_ok=True)


@contextmanager
def _errors_of(place: Path | str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # Not an error: the reader of the pipe has what it wanted.
        raise
    except OSError as error:
        kept = "; what was written is kept, --resume continues" if isinstance(place, Path) else ""
        raise OutputError(f"cannot write {place}: {error.strerror or error}{kept}") from error


def check_rows(rows: Sequence[SavedRow], paths: Iterator[str], where: Path | None) -> None:
    """Refuse to continue when the inputs are no longer those that the kept rows came from.

    Args:
        rows: The rows kept from before, in order.
        paths: The inputs, as written, in order; as many are consumed as there are rows.
        where: The output, for the message.

    Raises:
        ResumeError: Naming the first row that differs.
    """
    for number, row in enumerate(rows, start=1):
        path = next(paths, None)
        if path != row.path:
            now = "nothing" if path is None else f"'{path}'"
            raise ResumeError(
                f"cannot resume {where}: row {number} is '{row.path}', the inputs now have {now}"
                " there; give the inputs of the first run, or --overwrite to start anew"
            )
