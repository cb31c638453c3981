"""CSV as in RFC 4180: UTF-8, comma, CRLF, quotes where needed; six decimals."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from clipcls.columns import Columns, Row, cell_text
from clipcls.outputs.base import NumberLine, SavedRow, Writer

_LINE_END = b"\r\n"
_NUMBER = re.compile(r"-?\d+\.\d{6}|nan|-?inf")
_SPECIAL = re.compile(r'[,"\r\n]')


class CsvWriter(Writer):
    """One row per image; a failure has empty cells and a reason in `error`."""

    def __init__(self, columns: Columns, stream: BinaryIO) -> None:
        super().__init__(columns, stream)
        self._prediction = 1 + len(columns.keep)
        count = len(columns.groups) * len(columns.labels) + columns.unknown
        self._scores = NumberLine([","] * count)

    def head(self) -> bytes:
        """Return the header."""
        return _cells(self.columns.names) + _LINE_END

    def encoded(self, rows: Sequence[Row]) -> bytes:
        """Return one batch."""
        return b"".join(part for row in rows for part in self._parts(row))

    def _parts(self, row: Row) -> tuple[bytes | bytearray, ...]:
        kept = map(cell_text, row.kept)
        if row.numbers is None:
            between = b"," * (len(self.columns.names) - 1 - len(row.kept))
            return _cells([row.path, *kept]), between, _cells([row.error]), _LINE_END
        top = (cell for label, value in row.top for cell in (label, f"{value:.6f}"))
        first = _cells([row.path, *kept, row.prediction, f"{row.numbers[0]:.6f}", *top])
        last = _cells([row.note, row.error])
        return first, self._scores.filled(row.numbers[1:]), b",", last, _LINE_END

    def copies(self) -> Iterator[tuple[SavedRow, bytes]]:
        """Yield each row with its bytes."""
        self.stream.seek(0)
        end = 0
        last = b""
        read: list[bytes] = []

        def lines() -> Iterator[str]:
            nonlocal end, last
            for last in self.stream:
                end += len(last)
                read.append(last)
                if b"\0" in last:
                    raise ValueError
                yield last.decode("utf-8")

        # The reader pulls one line at a time, so `end` is where the row it returned ends.
        reader = csv.reader(lines(), strict=True)
        try:
            if tuple(next(reader, ())) != self.columns.names:
                return
            read.clear()
            for cells in reader:
                if not last.endswith(_LINE_END) or not self._is_whole(cells):
                    return
                yield SavedRow(cells[0], cells[self._prediction], cells[-1], end), b"".join(read)
                read.clear()
        except (csv.Error, ValueError):
            # Torn inside a quoted cell or a character, or damaged.
            return

    def _is_whole(self, cells: list[str]) -> bool:
        """Whether this is a row that this writer can have written."""
        names = self.columns.names
        if len(cells) != len(names):
            return False
        if cells[-1]:
            return not any(cells[self._prediction : -1])
        texts = {*self.columns.texts, *self.columns.keep}
        numbers = (cell for name, cell in zip(names, cells, strict=True) if name not in texts)
        return cells[self._prediction] != "" and all(map(_NUMBER.fullmatch, numbers))


def _cells(texts: Iterable[str]) -> bytes:
    return ",".join(map(_quoted, texts)).encode("utf-8")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text
