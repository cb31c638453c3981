"""Names that every common file system takes, and that are told apart on each of them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

from clipcls.text import is_writable

_FORBIDDEN = frozenset('<>:"/\\|?*')
# Devices of Windows, whatever the extension.
_is_device = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
).fullmatch
# Windows drops dots and blanks at the end, a dot at the beginning hides, and `..` leads elsewhere.
_EDGES = re.compile(r"^[.\s]+|[.\s]+$")
_LONGEST_FOLDER = 200
_LONGEST_NAME = 255
"""Bytes of a name; nearly every file system takes 255 bytes or 255 characters."""
_LONGEST_EXTENSION = 20


def folder_name(label: str) -> str:
    """Return a label as the name of one folder: what a system may not take becomes `_`."""
    name = "".join(
        char if is_writable(char) and char not in _FORBIDDEN else "_"
        for char in unicodedata.normalize("NFC", label)
    )
    name = _EDGES.sub(lambda edge: "_" * len(edge[0]), _cut(name, _LONGEST_FOLDER))
    return f"_{name}" if not name or _is_device(name) else name


def same_name_key(name: str) -> str:
    """Return what is equal for names that are one name on some file system.

    Windows and macOS take `Cat` for `cat`, and macOS an accent for a letter with one.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class Names:
    """The names in one folder: gives each newcomer one that is free.

    Args:
        taken: The names that are there.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {same_name_key(name) for name in taken}
        # Where the search for a free number begins, or many equal names would take long.
        self._numbers: dict[str, int] = {}

    def take(self, name: str, *, extension: bool = True) -> str:
        """Return a free name, which is taken from now on: `cat.jpg`, else `cat-2.jpg` and so on.

        Args:
            name: The name that is wished.
            extension: Whether it may have one, before which the number goes.
        """
        key = same_name_key(name)
        stem, ending = os.path.splitext(name) if extension else (name, "")
        if len(ending) > _LONGEST_EXTENSION:
            stem, ending = name, ""
        number = self._numbers.get(key, 1)
        free = name
        while same_name_key(free) in self._taken:
            number += 1
            suffix = f"-{number}{ending}"
            free = _cut(stem, _LONGEST_NAME - len(_encoded(suffix))) + suffix
        self._numbers[key] = number
        self._taken.add(same_name_key(free))
        return free


def _cut(text: str, most: int) -> str:
    """Return as much of a text as has at most so many bytes."""
    while len(_encoded(text)) > most:
        text = text[:-1]
    return text


def _encoded(text: str) -> bytes:
    # More bytes than the name has where it is not valid UTF-8, which is on the safe side.
    return text.encode("utf-8", "surrogatepass")
