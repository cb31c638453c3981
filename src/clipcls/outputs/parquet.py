"""Parquet: the columns of the CSV, with float32 numbers and nulls.

A Parquet file is unreadable until its footer is written, so a killed run would lose everything.
The partial file is therefore an Arrow IPC stream, readable up to its last complete batch, and
becomes Parquet, batch by batch and not through memory, when the run is complete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clipcls.columns import Columns, Row, cell_text
from clipcls.errors import MissingExtraError
from clipcls.outputs.base import SavedRow, Writer, move_into_place
from clipcls.records import Cell

_ROWS_PER_GROUP = 65_536
"""Rows per Parquet row group: large enough to compress and scan well, small enough for memory."""

_ROWS_AT_ONCE = 1_024
_BUFFER_BYTES = 65_536


def _import_pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet  # noqa: F401  registers pyarrow.parquet as an attribute
    except ImportError as error:
        raise MissingExtraError("Parquet output", "parquet") from error
    return pyarrow


class ParquetWriter(Writer):
    """One row per image; a failure has nulls and a reason in `error`."""

    def __init__(self, columns: Columns, stream: BinaryIO) -> None:
        super().__init__(columns, stream)
        self._pa = _import_pyarrow()
        text, number = self._pa.string(), self._pa.float32()
        types = {name: self._arrow_type(kept) for name, kept in columns.keep.items()}
        types |= dict.fromkeys(columns.texts, text)
        self._schema = self._pa.schema([(n, types.get(n, number)) for n in columns.names])

    def head(self) -> bytes:
        """Return the schema."""
        return bytes(self._schema.serialize())

    def encoded(self, rows: Sequence[Row]) -> bytes:
        """Return one batch."""
        if not rows:
            return b""
        failed = np.array([row.numbers is None for row in rows])
        others = (self.columns.texts, self.columns.top_names, self.columns.keep)
        count = len(self.columns.names) - sum(map(len, others))
        empty = np.zeros(count, np.float32)
        # By column, so that Arrow takes each column as it lies.
        numbers = np.asfortranarray(
            [empty if row.numbers is None else row.numbers for row in rows], np.float32
        )
        # Arrow's own way from an array takes ten times as long as the buffers of a column.
        data = self._pa.py_buffer(numbers.T)
        is_set = self._pa.py_buffer(np.packbits(~failed, bitorder="little"))
        size = 4 * len(rows)
        scores = [
            self._pa.Array.from_buffers(
                self._pa.float32(), len(rows), [is_set, data.slice(i * size, size)]
            )
            for i in range(count)
        ]
        texts = ([getattr(row, name) or None for row in rows] for name in ("note", "error"))
        values: list[Any] = [
            [row.path for row in rows],
            *(
                [_typed(row.kept[i], kind) for row in rows]
                for i, kind in enumerate(self.columns.keep.values())
            ),
            [row.prediction or None for row in rows],
            scores[0],
            *(
                [row.top[i // 2][i % 2] if row.top else None for row in rows]
                for i in range(2 * len(self.columns.top_names))
            ),
            *scores[1:],
            *texts,
        ]
        arrays = [
            self._pa.array(each, type=column.type) if isinstance(each, list) else each
            for each, column in zip(values, self._schema, strict=True)
        ]
        return bytes(self._pa.record_batch(arrays, schema=self._schema).serialize())

    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the rows of the complete batches of a partial file."""
        for batch, end in self._batches(self.stream):
            columns = (batch.column(name).to_pylist() for name in ("path", "prediction", "error"))
            for path, prediction, error in zip(*columns, strict=True):
                yield SavedRow(path, prediction or "", error or "", end)

    def copies(self) -> Iterator[tuple[SavedRow, Row]]:
        """Yield the rows of a complete file; a damaged page ends it."""
        try:
            # Through a buffer, or each column of a row group would be read at once.
            file = self._pa.parquet.ParquetFile(self.stream, buffer_size=_BUFFER_BYTES)
            if file.schema_arrow != self._schema:
                return
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for row in self._rows(batch):
                    yield SavedRow(row.path, row.prediction, row.error, 0), row
        except (self._pa.ArrowException, OSError):
            return

    def _rows(self, batch: Any) -> Iterator[Row]:
        """Yield what `encoded` takes for the rows of a batch."""
        names = self.columns.names
        texts = {name: batch.column(name).to_pylist() for name in self.columns.texts}
        ranked = [
            list(zip(texts[label], batch.column(probability).to_pylist(), strict=True))
            for label, probability in self.columns.top_names
        ]
        kept = [batch.column(name).to_pylist() for name in self.columns.keep]
        in_top = {name for pair in self.columns.top_names for name in pair}
        numbers = np.column_stack(
            [
                batch.column(name).to_numpy(zero_copy_only=False)
                for name in names
                if name not in {*self.columns.texts, *in_top, *self.columns.keep}
            ]
        )
        for i, path in enumerate(texts["path"]):
            prediction, error = texts["prediction"][i], texts["error"][i]
            cells = tuple(column[i] for column in kept)
            if prediction is None:
                yield Row(path, error=error or "", kept=cells)
            else:
                top = tuple(ranks[i] for ranks in ranked)
                yield Row(path, prediction, numbers[i], top, texts["note"][i] or "", kept=cells)

    def _arrow_type(self, kept: str) -> Any:
        """Return the type of a kept column."""
        zoned = re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", kept)
        return self._pa.timestamp(*zoned.groups()) if zoned else self._pa.type_for_alias(kept)

    def joined(self, copies: Sequence[Row]) -> bytes:
        """Return one batch."""
        return self.encoded(copies)

    def finish(self, partial: Path, target: Path, rows: int) -> None:
        """Turn the Arrow stream into a Parquet file and move it into its place.

        Raises:
            OSError: It cannot be done or a row is missing; the partial file is still there.
        """
        built = target.with_name(target.name + ".build")
        built.unlink(missing_ok=True)
        try:
            with partial.open("rb") as source, built.open("xb") as sink:
                converted = self._convert(source, sink)
                sink.flush()
                os.fsync(sink.fileno())
            if converted != rows:
                raise OSError(f"{partial} has {converted} readable rows of {rows}")
            move_into_place(built, target)
        except OSError:
            built.unlink(missing_ok=True)
            raise
        partial.unlink()

    def _convert(self, source: BinaryIO, sink: BinaryIO) -> int:
        """Write the batches as row groups and return the number of rows."""
        converted = written = 0
        waiting: list[Any] = []
        with self._pa.parquet.ParquetWriter(
            # Scores hardly repeat: a dictionary of them takes time and saves nothing.
            sink,
            self._schema,
            use_dictionary=sorted(self.columns.texts),
        ) as writer:
            for batch, _ in self._batches(source):
                waiting.append(batch)
                converted += batch.num_rows
                if converted - written >= _ROWS_PER_GROUP:
                    writer.write_table(self._pa.Table.from_batches(waiting))
                    waiting, written = [], converted
            if waiting:
                writer.write_table(self._pa.Table.from_batches(waiting))
        return converted

    def _batches(self, stream: BinaryIO) -> Iterator[tuple[Any, int]]:
        """Yield (record batch, offset of its end); stop at a torn batch."""
        stream.seek(0)
        ipc = self._pa.ipc
        try:
            if ipc.read_schema(ipc.read_message(stream)) != self._schema:
                return
            while True:
                batch = ipc.read_record_batch(ipc.read_message(stream), self._schema)
                # Damaged offsets would lead out of the buffers.
                batch.validate(full=True)
                yield batch, stream.tell()
        except (EOFError, self._pa.ArrowException, OSError, MemoryError):
            return


def _typed(cell: Cell, kind: str) -> Cell:
    """Return a kept cell as the column of its type takes it."""
    if cell is None:
        return None
    if kind == "string":
        return cell_text(cell)
    return float(cell) if kind == "double" else cell  # type: ignore[arg-type]
