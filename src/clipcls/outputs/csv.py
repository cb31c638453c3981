"""CSV as in RFC 4180: UTF-8, comma, CRLF, quotes where needed; six decimals."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from clipcls.columns import Row
from clipcls.outputs.base import SavedRow, Writer, six_decimals

_LINE_END = b"\r\n"
_NUMBER = re.compile(r"-?\d+\.\d{6}|nan|-?inf")
_SPECIAL = re.compile(r'[,"\r\n]')


class CsvWriter(Writer):
    """One row per image; a failure has empty cells and a reason in `error`."""

    def head(self) -> bytes:
        """Return the header."""
        return _line(map(_quoted, self.columns.names))

    def encoded(self, rows: Sequence[Row]) -> bytes:
        """Return one batch."""
        return b"".join(_line(self._cells(row)) for row in rows)

    def _cells(self, row: Row) -> Iterator[str]:
        yield _quoted(row.path)
        if row.numbers is None:
            yield "," * (len(self.columns.names) - 3)
        else:
            first, *rest = six_decimals(row.numbers)
            yield f"{_quoted(row.prediction)},{first}"
            for label, probability in row.top:
                yield f"{_quoted(label)},{probability:.6f}"
            if rest:
                yield ",".join(rest)
            yield _quoted(row.note)
        yield _quoted(row.error)

    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the complete rows of a partial file."""
        self.stream.seek(0)
        end = 0
        last = b""

        def lines() -> Iterator[str]:
            nonlocal end, last
            for last in self.stream:
                end += len(last)
                if b"\0" in last:
                    raise ValueError
                yield last.decode("utf-8")

        # The reader pulls one line at a time, so `end` is where the row it returned ends.
        reader = csv.reader(lines(), strict=True)
        try:
            if tuple(next(reader, ())) != self.columns.names:
                return
            for cells in reader:
                if not last.endswith(_LINE_END) or not self._is_whole(cells):
                    return
                yield SavedRow(cells[0], cells[1], cells[-1], end)
        except (csv.Error, ValueError):
            # Torn inside a quoted cell or a character, or damaged.
            return

    def _is_whole(self, cells: list[str]) -> bool:
        """Whether this is a row that this writer can have written."""
        names = self.columns.names
        if len(cells) != len(names):
            return False
        if cells[-1]:
            return not any(cells[1:-1])
        texts = self.columns.texts
        numbers = (cell for name, cell in zip(names, cells, strict=True) if name not in texts)
        return cells[1] != "" and all(map(_NUMBER.fullmatch, numbers))


def _line(cells: Iterator[str]) -> bytes:
    return ",".join(cells).encode("utf-8") + _LINE_END


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text
