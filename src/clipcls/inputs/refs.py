"""Where an image is, not what it shows."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from io import BytesIO
from threading import Event
from typing import BinaryIO, Protocol

from clipcls.records import Cell

PART_BYTES = 16_000_000
"""An archive that comes over a network comes in pieces of this size."""


class Source(Protocol):
    """Gives the bytes of an image that is no local file; may be asked in any thread."""

    @property
    def concurrency(self) -> int:
        """How many sources of this kind are read at once."""

    def read(self, stopped: Event) -> bytes:
        """Return the whole file.

        Args:
            stopped: Set when nobody wants it any more.

        Raises:
            DecodeError: It cannot be had; the message is the reason.
        """


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One input image before it was opened.

    Attributes:
        index: Place in the input order, from 0.
        path: The path as the user gave it or as the walk found it below what the user gave; of an
            address, what others may read of it.
        source: Where the bytes come from; None is the file at `path`.
        kept: The cells of the image's row in the columns that are kept; empty outside tables.
    """

    index: int
    path: str
    source: Source | None = None
    kept: tuple[Cell, ...] = ()

    def read(self) -> BinaryIO:
        """Open the image's file; the caller closes it.

        Raises:
            OSError: The file cannot be opened, for whatever reason.
            DecodeError: The image is no local file and cannot be had.
        """
        if self.source is not None:
            return BytesIO(self.source.read(Event()))
        try:
            return open(self.path, "rb")
        except ValueError as error:  # a NUL in the name, or one that no file system can hold
            raise OSError(errno.EINVAL, str(error), self.path) from error
