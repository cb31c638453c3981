"""Where an image is, not what it shows."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One input image before it was opened.

    Attributes:
        index: Place in the input order, from 0.
        path: The path as the user gave it or as the walk found it below what the user gave.
    """

    index: int
    path: str

    def read(self) -> BinaryIO:
        """Open the image's file; the caller closes it.

        Raises:
            OSError: The file cannot be opened, for whatever reason.
        """
        try:
            return open(self.path, "rb")
        except ValueError as error:  # a NUL in the name, or one that no file system can hold
            raise OSError(errno.EINVAL, str(error), self.path) from error
