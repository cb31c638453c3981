"""CSV as in RFC 4180: UTF-8, comma, CRLF, quotes where needed; six decimals."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from clipcls.outputs.base import SavedRow, Writer
from clipcls.records import Failure, Record
from clipcls.text import printable_path

_LINE_END = b"\r\n"


class CsvWriter(Writer):
    """One row per picture; a failure has empty cells and a reason in `error`."""

    def start(self) -> None:
        """Write the header."""
        self._put([self.columns.names])

    def write(self, records: Sequence[Record]) -> None:
        """Write one batch and flush it."""
        self._put([self._cells(record) for record in records])

    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the complete rows of a partial file."""
        self.stream.seek(0)
        end = 0
        last = b""

        def lines() -> Iterator[str]:
            nonlocal end, last
            for last in self.stream:
                end += len(last)
                yield last.decode("utf-8")

        names = self.columns.names
        # The reader pulls one line at a time, so `end` is where the row it returned ends.
        reader = csv.reader(lines(), strict=True)
        try:
            for number, cells in enumerate(reader):
                if not last.endswith(_LINE_END) or len(cells) != len(names):
                    return
                if number == 0 and tuple(cells) != names:
                    return
                if number > 0:
                    yield SavedRow(cells[0], cells[1], cells[-1], end)
        except (csv.Error, UnicodeDecodeError):
            # Torn inside a quoted cell or a character.
            return

    def _cells(self, record: Record) -> list[str]:
        columns = self.columns
        path = printable_path(record.path)
        if isinstance(record, Failure):
            return [path, *[""] * (len(columns.names) - 2), record.reason]
        cells = [path, record.prediction, f"{record.probability:.6f}"]
        if columns.top_k:
            for label, probability in record.ranking(columns.ranks):
                cells += [label, f"{probability:.6f}"]
        else:
            cells += [f"{value:.6f}" for value in record.probabilities.tolist()]
        cells += [f"{v:.6f}" for v in columns.raw_scores(record.logits, record.similarities)]
        return [*cells, record.note]

    def _put(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator=_LINE_END.decode()).writerows(rows)
        self.stream.write(text.getvalue().encode("utf-8"))
        self.stream.flush()
