"""Opens a file for reading, or says why not in words that a summary can count."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from clipcls.errors import DecodeError

_SPECIAL_FILES = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)

_OS_REASONS = {
    errno.ENOENT: "file not found",
    errno.ENOTDIR: "file not found",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "is a folder",
}


def os_reason(number: int) -> str:
    """Return why a file cannot be read, by the number of the system's error."""
    return _OS_REASONS.get(number, f"cannot be read: {os.strerror(number)}")


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file; nothing else is waited for.

    Raises:
        DecodeError: It cannot be read; the message is the reason.
    """
    try:
        mode = os.stat(path).st_mode
        # Opening a named pipe would wait for its writer, for ever.
        for is_special, reason in _SPECIAL_FILES:
            if is_special(mode):
                raise DecodeError(reason)
        return open(path, "rb")
    except OSError as error:
        raise DecodeError(os_reason(error.errno or 0)) from error
    except ValueError as error:  # a NUL in the name, or one that no file system can hold
        raise DecodeError("file not found") from error
