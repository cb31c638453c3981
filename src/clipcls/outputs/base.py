"""What every output format has in common: how rows are written and a file is taken up again."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clipcls.columns import Columns
from clipcls.records import Record


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A complete row found in a partial file.

    Attributes:
        path: The picture's path, as written.
        prediction: The prediction, empty for a failure.
        error: The failure's reason or the prediction's note, empty when there is none.
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

    @abstractmethod
    def start(self) -> None:
        """Write what stands before the first row."""

    @abstractmethod
    def write(self, records: Sequence[Record]) -> None:
        """Write one batch and flush it."""

    @abstractmethod
    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the complete rows of a partial file from its beginning, and stop at a torn one.

        The stream must be seekable; its position afterwards is undefined.
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
        os.replace(partial, target)
