"""Text as people, terminals and files can take it."""

from __future__ import annotations


def printable_path(path: str) -> str:
    r"""Return `path` as text that every format can hold.

    File names are bytes on POSIX; one that is not UTF-8 reaches Python with lone surrogates, which
    no CSV, JSON or Parquet reader accepts. They become `\udcXX`; every other name is unchanged.
    """
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def visible(text: str) -> str:
    """Return `text` as one line that a terminal shows as it is.

    Names are data: control characters become escapes, so that no name can move the cursor, change
    colours or add lines to a message.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in printable_path(text))
