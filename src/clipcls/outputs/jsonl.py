"""JSON Lines: one object per image, six decimals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, BinaryIO

import numpy as np

from clipcls.columns import AFTER, BEFORE, P_UNKNOWN, TOP, Columns, Row
from clipcls.outputs.base import NumberLine, SavedRow, Writer
from clipcls.records import Cell


class JsonlWriter(Writer):
    """Keys: `path`, kept columns, `prediction`, `probability`, the scores, `note`, `error`.

    The scores are `probabilities` or `top`, then raw ones. What is missing is null: the scores of
    a failure, the `note` and `error` of most others.
    """

    def __init__(self, columns: Columns, stream: BinaryIO) -> None:
        super().__init__(columns, stream)
        self._labels = list(columns.labels)
        # One template for a whole row is much faster than one call of json for each.
        labels = [_text(label) for label in columns.labels]
        before = [
            (f'}}, "{key}": {{' if label == labels[0] else ", ") + f"{label}: "
            for key, _ in columns.groups
            for label in labels
        ]
        before[:1] = [text[1:] for text in before[:1]]  # no group to close before the first
        self._end = "}" if before else ""
        self._scores = NumberLine(before)
        self._kept = [f"{_text(name)}: " for name in columns.keep]
        self._score_keys = [TOP] if columns.top_k else []
        self._score_keys += [key for key, _ in columns.groups]
        self._score_keys += [P_UNKNOWN] * columns.unknown

    def head(self) -> bytes:
        """Return nothing: JSON Lines has no header."""
        return b""

    def encoded(self, rows: Sequence[Row]) -> bytes:
        """Return one batch."""
        return b"".join(part for row in rows for part in self._parts(row))

    def _parts(self, row: Row) -> tuple[bytes | bytearray, ...]:
        kept = (f", {key}{_json(cell)}" for key, cell in zip(self._kept, row.kept, strict=True))
        head = f'{{"path": {_text(row.path)}{"".join(kept)}'
        head += f', "prediction": {_text(row.prediction or None)}'
        scores: bytes | bytearray = b""
        end = ""
        if row.numbers is None:
            keys = ("probability", *self._score_keys)
            head += "".join(f', "{key}": null' for key in keys)
        else:
            if not np.isfinite(row.numbers).all():
                raise ValueError("JSON has no number for what is not finite")
            head += f', "probability": {row.numbers[0]:.6f}'
            if self.columns.top_k:
                pairs = (f'{{"label": {_text(n)}, "probability": {p:.6f}}}' for n, p in row.top)
                head += f', "top": [{", ".join(pairs)}]'
            own = len(row.numbers) - self.columns.unknown
            scores = self._scores.filled(row.numbers[1:own])
            end = self._end
            if self.columns.unknown:
                end += f', "{P_UNKNOWN}": {row.numbers[-1]:.6f}'
        tail = f'{end}, "note": {_text(row.note or None)}, "error": {_text(row.error or None)}}}\n'
        return head.encode("utf-8"), scores, tail.encode("utf-8")

    def copies(self) -> Iterator[tuple[SavedRow, bytes]]:
        """Yield each row with its bytes."""
        self.stream.seek(0)
        end = 0
        for line in self.stream:
            try:
                row: Any = json.loads(line.decode("utf-8")) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                return
            if not self._is_whole(row):
                return
            end += len(line)
            found = SavedRow(row["path"], row["prediction"] or "", row["error"] or "", end)
            yield found, line

    def _is_whole(self, row: Any) -> bool:
        """Whether this is a row that this writer can have written."""
        keys = ["path", *self.columns.keep, *BEFORE[1:], *self._score_keys, *AFTER]
        if not isinstance(row, dict) or list(row) != keys or not isinstance(row["path"], str):
            return False
        scores = [row[key] for key in (BEFORE[2], *self._score_keys)]
        if row["prediction"] is None:
            return bool(row["error"]) and isinstance(row["error"], str) and not any(scores)
        return (
            isinstance(row["prediction"], str)
            and isinstance(row["probability"], float)
            and isinstance(row.get(P_UNKNOWN, 0.0), float)
            and row["error"] is None
            and isinstance(row["note"] or "", str)
            and (not self.columns.top_k or isinstance(row["top"], list))
            and all(
                isinstance(row[key], dict) and list(row[key]) == self._labels
                for key, _ in self.columns.groups
            )
        )


def _text(text: str | None) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(cell: Cell) -> str:
    if isinstance(cell, date):
        return _text(cell.isoformat())
    # JSON has no number for what is not finite.
    is_odd = isinstance(cell, float) and not math.isfinite(cell)
    return json.dumps(None if is_odd else cell, ensure_ascii=False)
