"""Text as people, shells and spreadsheets write it, and as terminals and files can take it."""

from __future__ import annotations

import codecs
import csv
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from clipcls.errors import UsageError

# Controls, lone surrogates, line and paragraph separators: they break headers or cannot be encoded.
_UNWRITABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_WINDOWS = "cp1252"
# What Windows-1252 has in place of Latin-1's controls; five of its bytes stand for nothing.
_WINDOWS_CHARACTERS = {
    code: bytes([code]).decode(_WINDOWS, "ignore") or chr(code) for code in range(0x80, 0xA0)
}
_ESCAPES = r"ud[89a-f][0-9a-f]{2}|x5c"
_TO_ESCAPE = re.compile(rf"[\ud800-\udfff]|\\(?={_ESCAPES})")
_ESCAPED = re.compile(rf"\\({_ESCAPES})")
_has_control = re.compile(r"[\x00-\x08\x0e-\x1f]").search


def read_text(data: bytes) -> str:
    """Decode the bytes of a text file.

    UTF-8 with or without a byte order mark, UTF-16 with one (and without, when the NUL beside every
    Latin letter or line end gives it away), else Windows-1252. Every input has an answer: the five
    bytes that Windows-1252 leaves open become the control characters of the same number.
    """
    encoding = encoding_of(data)
    if encoding == _WINDOWS:
        return data.decode("latin-1").translate(_WINDOWS_CHARACTERS)
    return data.decode(encoding, "replace")


def encoding_of(data: bytes) -> str:
    """Return the name of the codec with which `read_text` decodes the bytes."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    halves = {"utf-16-be": data[::2], "utf-16-le": data[1::2]}
    wide, half = max(halves.items(), key=lambda item: item[1].count(0))
    for codec in ([wide] if 0 in half else []) + ["utf-8-sig"]:
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        # Names separated by NULs can look like UTF-16 too, but not with line ends, or as densely.
        dense = "\n" in text or half.count(0) * 2 > len(half)
        if codec != wide or (dense and not _has_control(text)):
            return codec
    return _WINDOWS


def read_file(
    path: Path, error: type[UsageError], notes: list[str] | None = None
) -> tuple[str, str]:
    """Return what messages call a text file, and its content with newlines as line ends.

    It is opened once and read from end to end, so that pipes will do.

    Args:
        path: The file; `-` is standard input.
        error: What to raise, so that each room fails with its own error.
        notes: Is given a line when the encoding had to be guessed.

    Raises:
        UsageError: As `error`, when the file cannot be read or holds no text.
    """
    name = "standard input" if str(path) == "-" else str(path)
    if str(path) == "-" and sys.stdin is None:
        raise error(f"{name}: is closed: name a file")
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as exc:
        raise error(f"{name}: cannot be read: {exc.strerror or exc}") from exc
    if notes is not None and encoding_of(data) == _WINDOWS:
        notes.append(
            f"{name}: read as Windows-1252, as it is not UTF-8; save it as UTF-8 if letters with"
            " accents come out wrong"
        )
    return name, plain_text(data, name, error)


def plain_text(data: bytes, name: str, error: type[UsageError]) -> str:
    """Return the text that `read_text` finds in bytes, with newlines as line ends.

    Raises:
        UsageError: As `error`, when they hold no text.
    """
    text = read_text(data)
    if "\0" in text:
        raise error(f"{name}: is not a text file: give one in UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines(text: str) -> Iterator[str]:
    """Yield the lines of a text with their newlines, without a second copy of it in memory."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def content_lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (`name:line`, line) without blank lines, `#` comments and the blanks around a line."""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield f"{name}:{number}", stripped


def split_separator(text: str) -> tuple[str | None, str]:
    """Return what Excel's own first line (`sep=;`) names, and the text without it.

    The line's end stays, so that the lines keep their numbers.
    """
    named = re.match(r"sep=([,;\t|])\n", text, re.IGNORECASE)
    return (named[1], text[named.end() - 1 :]) if named else (None, text)


def csv_rows(
    text: str, name: str, separator: str, error: type[UsageError]
) -> Iterator[tuple[str, list[str]]]:
    """Yield (`name:line`, stripped cells) of each row that is not blank.

    Args:
        text: The content, with newlines as line ends.
        name: What messages call the file.
        separator: What stands between cells.
        error: What to raise, so that each room fails with its own error.

    Raises:
        UsageError: As `error`, when a quote is wrong or a cell is too long.
    """
    reader = csv.reader(lines(text), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            # Spreadsheets fill short rows up with empty cells, and add rows of nothing else.
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield f"{name}:{line}", cells
            line = reader.line_num + 1
    except csv.Error as exc:
        raise error(
            f'{name}:{line}: not valid CSV: {exc} (a quote inside quotes is written "")'
        ) from exc


def listed(names: Iterable[object]) -> str:
    """Return names for a message, in quotes: the first eight, and how many more there are."""
    texts = [f"'{visible(str(name))}'" for name in names]
    more = f" and {len(texts) - 8} more" if len(texts) > 8 else ""
    return ", ".join(texts[:8]) + more


def is_writable(text: str) -> bool:
    """Whether every character can stand in a table's header and on one line of UTF-8."""
    return all(unicodedata.category(char) not in _UNWRITABLE for char in text)


def printable_path(path: str) -> str:
    r"""Return `path` as text that every format can hold.

    File names are bytes on POSIX; one that is not UTF-8 reaches Python with lone surrogates, which
    no CSV, JSON or Parquet reader accepts. They become `\udcXX`. A backslash that only looks like
    the beginning of such an escape becomes `\x5c`, so that `original_path` can tell them apart;
    every other name is unchanged.
    """
    return _TO_ESCAPE.sub(lambda m: "\\x5c" if m[0] == "\\" else f"\\u{ord(m[0]):x}", path)


def original_path(text: str) -> str:
    """Return the path that `printable_path` turned into `text`, as the system takes it."""
    return _ESCAPED.sub(lambda m: chr(int(m[1][1:], 16)), text)


def visible(text: str) -> str:
    """Return `text` as one line that a terminal shows as it is.

    Names are data: control characters become escapes, so that no name can move the cursor, change
    colours or add lines to a message.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
