"""Lists of paths: a file that was named as `@list.txt`, or standard input."""

from __future__ import annotations

import codecs
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import BinaryIO

from clipcls.errors import InputError
from clipcls.text import visible

STDIN = "-"
LIST_MARK = "@"

_CHUNK_BYTES = 1 << 16
_LONGEST_PATH_BYTES = 1 << 17


def is_list(text: str) -> bool:
    """Return whether an input is a list."""
    return text == STDIN or text.startswith(LIST_MARK)


def is_stream(text: str) -> bool:
    """Return whether an input is a list that can be read only once."""
    return is_list(text) and not (text != STDIN and os.path.isfile(text[1:]))


def check_list(text: str, *, null: bool) -> None:
    """Refuse a list that leads nowhere or is separated otherwise, before anything is scored.

    Raises:
        InputError: The list is not there, is a folder, or fails at its first path.
    """
    path = text.removeprefix(LIST_MARK)
    if text == STDIN:
        return
    if not os.path.exists(path):
        there = os.path.lexists(text)
        what = f"{visible(text)} itself" if there else "an image whose own name begins with @"
        raise InputError(
            f"no such list: {visible(path) or 'its name is missing'} (@FILE is a file of paths;"
            f" {what} is given as ./{visible(text)})"
        )
    if os.path.isdir(path):
        raise InputError(f"{visible(text)} is a folder, not a list: leave out the @")
    if not is_stream(text):
        next(read_list(text, null=null), None)


def standard_input() -> BinaryIO:
    """Return standard input below Python's buffer.

    A daemon thread that waits inside the buffer holds its lock, and Python cannot exit then.
    """
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None or buffer.closed:
        raise InputError(
            "standard input (-) is closed: send paths into it, or name files, folders or @list.txt"
        )
    stream: BinaryIO = getattr(buffer, "raw", buffer)
    return stream


def read_list(text: str, *, null: bool, stdin: BinaryIO | None = None) -> Iterator[str]:
    """Yield the paths in a list as they arrive, without waiting for its end.

    Args:
        text: The input: `@list.txt`, or `-` for `stdin`.
        null: Whether paths are separated by NUL and not by newlines.
        stdin: Paths in the file system's encoding or in UTF-16, as in a list.

    Raises:
        InputError: The list cannot be read, or is separated otherwise.
    """
    name = visible(text[1:]) if stdin is None else "standard input"
    try:
        with open(text[1:], "rb") if stdin is None else nullcontext(stdin) as stream:
            for number, record in enumerate(_records(stream, name, null=null), 1):
                path = record if null else record.removesuffix(b"\r")
                if number == 1 and not null:
                    path = path.removeprefix(codecs.BOM_UTF8)
                if b"\0" in path:
                    raise InputError(
                        f"{name}, line {number}: a NUL byte where a path is expected"
                        " (--null reads lists that are separated by NUL)"
                    )
                if path if null else path.strip():
                    yield path.decode(sys.getfilesystemencoding(), "surrogateescape")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error


def _records(stream: BinaryIO, name: str, *, null: bool) -> Iterator[bytes]:
    """Split a stream at its separator.

    A list that should have NULs has none if a newline comes, and no NUL up to its end or for longer
    than a path can be. Nothing has been yielded then.
    """
    rest, count = b"", 0
    for chunk in _without_utf16(stream, null=null):
        *complete, rest = (rest + chunk).split(b"\0" if null else b"\n")
        count += len(complete)
        yield from complete
        if len(rest) > _LONGEST_PATH_BYTES:
            break
    if null and not count and b"\n" in rest:
        raise InputError(f"{name} holds lines and no NUL: leave out --null")
    if len(rest) > _LONGEST_PATH_BYTES:
        raise InputError(f"{name} holds no list of paths: one is longer than 128 kB")
    yield rest


def _without_utf16(stream: BinaryIO, *, null: bool) -> Iterator[bytes]:
    """Yield a stream in pieces, UTF-16 as UTF-8; the first two bytes or more decide."""
    chunks = _chunks(stream)
    head = b""
    while len(head) < 2 and (chunk := next(chunks, b"")):
        head += chunk
    nuls = {i % 2 for i, byte in enumerate(head) if not byte}
    encoding = None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif not null and len(nuls) == 1 and head.count(0) * 4 >= len(head):
        # NULs, many and all in one half of the pairs: UTF-16 without its mark.
        encoding = "utf-16-le" if 1 in nuls else "utf-16-be"
    decode = codecs.getincrementaldecoder(encoding)("replace").decode if encoding else None
    for chunk in chain([head], chunks):
        yield decode(chunk).encode("utf-8", "replace") if decode else chunk


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what is there as soon as something is; a buffered read() waits for the whole chunk."""
    read: Callable[[int], bytes | None] = getattr(stream, "read1", stream.read)
    while (chunk := read(_CHUNK_BYTES)) != b"":
        if chunk is None:  # a pipe that does not block and is empty for now, but not at its end
            select.select([stream], [], [])
        else:
            yield chunk
