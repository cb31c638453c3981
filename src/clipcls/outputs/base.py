"""What every output format has in common: how rows are written and a file is taken up again."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from clipcls.columns import Columns, Row
from clipcls.records import Record

_THREE_DIGITS = np.array([[ord(c) for c in f"{i:03}"] for i in range(1_000)], np.uint32)


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
        self._put(self.head())

    def write(self, records: Sequence[Record]) -> None:
        """Write one batch and flush it."""
        self._put(self.encoded([self.columns.row(record) for record in records]))

    @abstractmethod
    def head(self) -> bytes:
        """Return what stands before the first row."""

    @abstractmethod
    def encoded(self, rows: Sequence[Row]) -> bytes:
        """Return one batch as it stands in the file."""

    @abstractmethod
    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the complete rows of a partial file from its beginning, and stop at a torn one.

        A damaged row is treated like a torn one. The stream must be seekable; its position
        afterwards is undefined.
        """

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

    def _put(self, data: bytes) -> None:
        # An unbuffered stream may take a part only, and a full disk does before it says so.
        rest = memoryview(data)
        while rest:
            written = self.stream.write(rest)
            if written is None:
                raise BlockingIOError("the reader takes no more now")
            rest = rest[written:]
        self.stream.flush()


def six_decimals(values: NDArray[np.floating]) -> list[str]:
    """Return what `"%.6f" % value` gives for each, for probabilities many times faster."""
    fast = bool(((values >= 0) & (values < 9.99) & ~np.signbit(values)).all())
    if fast:
        scaled = values.astype(np.float64) * 1e6
        whole = np.rint(scaled)
        # So close to the middle of two, only the exact way knows where to round to.
        fast = not (np.abs(np.abs(scaled - whole) - 0.5) < 1e-6).any()
    if not fast:
        return [f"{value:.6f}" for value in values.tolist()]
    digits = whole.astype(np.int64)
    text = np.empty((len(digits), 8), np.uint32)
    text[:, 0] = digits // 1_000_000 + ord("0")
    text[:, 1] = ord(".")
    text[:, 2:5] = _THREE_DIGITS[digits // 1_000 % 1_000]
    text[:, 5:8] = _THREE_DIGITS[digits % 1_000]
    return text.view("U8").ravel().tolist()


def move_into_place(built: Path, target: Path) -> None:
    """Replace a file by a finished one that keeps its permissions, and sync the folder."""
    with suppress(FileNotFoundError):
        shutil.copymode(target, built)
    os.replace(built, target)
    # Not every system opens a folder, and not every file system syncs one.
    with suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
