"""What every output format has in common: how rows are written and a file is taken up again."""

from __future__ import annotations

import os
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from clipcls.columns import Columns, Row
from clipcls.errors import OptionError, OutputError, OutputExistsError, OutputLockedError
from clipcls.records import Record
from clipcls.text import visible

# The characters of `d.ddd` and of the `ddd` after it as the bytes of one integer.
_FIRST_FIVE = np.frombuffer(
    b"".join(b"%d.%03d\0\0\0" % divmod(i, 1_000) for i in range(10_000)), np.uint64
)
_LAST_THREE = np.frombuffer(b"".join(b"\0\0\0\0\0%03d" % i for i in range(1_000)), np.uint64)


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A complete row found in a partial file.

    Attributes:
        path: The image's path, as written.
        prediction: The prediction, empty for a failure.
        error: The failure's reason, empty when the image was scored.
        end: Offset in bytes of the end of what holds this row.
    """

    path: str
    prediction: str
    error: str
    end: int


class Writer(ABC):
    """Writes records in batches; each batch has reached the system when `write` returns.

    Args:
        columns: What to write.
        stream: A binary stream at the position to write at; the caller closes it.
    """

    def __init__(self, columns: Columns, stream: BinaryIO) -> None:
        self.columns = columns
        self.stream = stream

    def start(self) -> None:
        """Write what stands before the first row."""
        self.put(self.head())

    def write(self, records: Sequence[Record]) -> None:
        """Write one batch and flush it."""
        self.put(self.encoded([self.columns.row(record) for record in records]))

    @abstractmethod
    def head(self) -> bytes:
        """Return what stands before the first row."""

    @abstractmethod
    def encoded(self, rows: Sequence[Row]) -> bytes:
        """Return one batch as it stands in the file."""

    @abstractmethod
    def copies(self) -> Iterator[tuple[SavedRow, Any]]:
        """Yield each row of a complete file, with what `joined` takes for it.

        A damaged or torn row ends it. The stream must be seekable; its position afterwards is
        undefined.
        """

    def joined(self, copies: Sequence[Any]) -> bytes:
        """Return rows of other files, all of the same columns, as they stand in this one."""
        return b"".join(copies)

    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the complete rows of a partial file from its beginning, and stop at a torn one.

        A damaged row is treated like a torn one. The stream must be seekable; its position
        afterwards is undefined.
        """
        return (row for row, _ in self.copies())

    def finish(self, partial: Path, target: Path, rows: int) -> None:
        """Move the complete partial file into its place; the stream is closed by now.

        Args:
            partial: The partial file, with all rows.
            target: Where it goes.
            rows: How many rows it has.

        Raises:
            OSError: It cannot be done; the partial file is still there.
        """
        move_into_place(partial, target)

    def put(self, data: bytes) -> None:
        """Write one batch that is encoded, and flush it."""
        # An unbuffered stream may take a part only, and a full disk does before it says so.
        rest = memoryview(data)
        while rest:
            written = self.stream.write(rest)
            if written is None:
                raise BlockingIOError("the reader takes no more now")
            rest = rest[written:]
        self.stream.flush()


class NumberLine:
    """A line of numbers with six decimals and fixed text before each of them.

    Args:
        before: What stands before each number.
    """

    def __init__(self, before: Sequence[str]) -> None:
        self._before = [text.encode("utf-8") for text in before]
        self._line = b"".join(text + b" " * 8 for text in self._before)
        self._starts = np.cumsum([len(text) + 8 for text in self._before], dtype=np.intp) - 8

    def filled(self, values: NDArray[np.floating]) -> bytes | bytearray:
        """Return the line with these numbers."""
        digits = _digits(values)
        if digits is None:
            pairs = zip(self._before, values.tolist(), strict=True)
            return b"".join(b"%s%.6f" % pair for pair in pairs)
        line = bytearray(self._line)
        # Eight bytes from any place on are one integer, so each number is one assignment.
        np.ndarray(max(len(line) - 7, 0), np.uint64, line, strides=1)[self._starts] = digits
        return line


def _digits(values: NDArray[np.floating]) -> NDArray[np.uint64] | None:
    """Return the eight bytes of `"%.6f" % value` as one integer each, None unless that is safe."""
    if not ((values < 9.99) & ~np.signbit(values)).all():
        return None
    scaled = values.astype(np.float64) * 1e6
    whole = np.rint(scaled)
    # So close to the middle of two, only the exact way knows where to round to.
    if (np.abs(scaled - whole) > 0.5 - 1e-6).any():
        return None
    thousands, rest = np.divmod(whole.astype(np.uint32), np.uint32(1_000))
    return _FIRST_FIVE[thousands] | _LAST_THREE[rest]


def check_target(path: Path, *, overwrite: bool, reads: Iterable[str]) -> None:
    """Refuse a small file that cannot be written, or must not be, before it is computed.

    Args:
        path: The output.
        overwrite: Whether it may be there.
        reads: The files that it is made from.

    Raises:
        OptionError: Its folder or what is there will not do.
        OutputExistsError: It is there and may not be replaced.
    """
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a file in it with -o")
    if not path.parent.is_dir():
        raise OptionError(f"the folder {path.parent} does not exist: make it, or change -o")
    if not os.access(os.path.dirname(os.path.realpath(path)), os.W_OK):
        raise OptionError(f"nothing can be written in {path.parent}: permit it, or change -o")
    if path.exists():
        if not overwrite:
            raise OutputExistsError(
                f"{path} exists: --overwrite replaces it, or choose another file with -o"
            )
        check_not_read(path, reads)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is, or lies below, something else.

    Raises:
        OptionError: Says what is in the way.
    """
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if there.exists() and not there.is_dir():
        raise OptionError(f"{visible(str(there))} is no folder: name another one with -o")


def check_not_read(output: Path, reads: Iterable[str]) -> None:
    """Refuse to write over something that a run reads.

    Raises:
        OptionError: The output is one of the files.
    """
    for path in reads:
        # What is missing or unreadable cannot be lost.
        with suppress(OSError, ValueError):
            if os.path.samefile(path, output):
                raise OptionError(f"{output} is read by this run: choose another output")


def write_file(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old one or the new one; a link is followed.

    Raises:
        OutputError: It cannot be written.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        move_into_place(partial, target)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {visible(str(path))}: {error.strerror or error}"
        ) from error


def move_into_place(built: Path, target: Path) -> None:
    """Replace a file by a finished one that keeps its permissions, and sync the folder."""
    with suppress(FileNotFoundError):
        shutil.copymode(target, built)
    os.replace(built, target)
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk, where that can be done."""
    # Not every system opens a folder, and not every file system syncs one.
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def refuse_links(path: Path, way_out: str) -> None:
    """Refuse a working file that would lead the writing into another file.

    Raises:
        OutputError: It is a link, or no regular file.
    """
    with suppress(FileNotFoundError):
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise OutputError(
                f"{path} is a link or no regular file, and writing there could change another"
                f" file: remove it, or {way_out}"
            )


@contextmanager
def locked(lock_file: Path, busy: str) -> Iterator[None]:
    """Hold a lock of the operating system, which dies with its process; its file goes at the end.

    Args:
        lock_file: Where it is made.
        busy: The message where another process holds it.

    Raises:
        OutputLockedError: Another process holds it.
        OutputError: The file cannot be made.
    """
    lock = FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputLockedError(busy) from None
    except OSError as error:
        raise OutputError(
            f"cannot write in {lock_file.parent}: {error.strerror or error}"
        ) from error
    try:
        yield
    finally:
        # Removed while it is held: whoever has the file open already sees that it has no name any
        # more and tries again. Windows does not remove an open file, so there it comes after.
        if os.name != "nt":
            lock_file.unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):
            if os.name == "nt":
                lock_file.unlink()
