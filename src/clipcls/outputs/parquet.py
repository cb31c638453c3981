"""Parquet: the columns of the CSV, with float32 numbers and nulls.

A Parquet file is unreadable until its footer is written, so a killed run would lose everything.
The partial file is therefore an Arrow IPC stream, readable up to its last complete batch, and
becomes Parquet, batch by batch and not through memory, when the run is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from clipcls.columns import Columns
from clipcls.errors import MissingExtraError
from clipcls.outputs.base import SavedRow, Writer
from clipcls.records import Failure, Record
from clipcls.text import printable_path

_ROWS_PER_GROUP = 65_536
"""Rows per Parquet row group: large enough to compress and scan well, small enough for memory."""


def _import_pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet  # noqa: F401  registers pyarrow.parquet as an attribute
    except ImportError as error:
        raise MissingExtraError("Parquet output", "parquet") from error
    return pyarrow


class ParquetWriter(Writer):
    """One row per picture; a failure has nulls and a reason in `error`."""

    def __init__(self, columns: Columns, stream: BinaryIO) -> None:
        super().__init__(columns, stream)
        self._pa = _import_pyarrow()
        self._schema = self._make_schema()

    def start(self) -> None:
        """Write the schema."""
        self.stream.write(self._schema.serialize())
        self.stream.flush()

    def write(self, records: Sequence[Record]) -> None:
        """Write one batch and flush it."""
        rows = [self._values(record) for record in records]
        arrays = [
            self._pa.array(values, type=column.type)
            for values, column in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        batch = self._pa.record_batch(arrays, schema=self._schema)
        self.stream.write(batch.serialize())
        self.stream.flush()

    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the rows of the complete batches of a partial file."""
        for batch, end in self._batches(self.stream):
            columns = (batch.column(name).to_pylist() for name in ("path", "prediction", "error"))
            for path, prediction, error in zip(*columns, strict=True):
                yield SavedRow(path, prediction or "", error or "", end)

    def finish(self, partial: Path, target: Path, rows: int) -> None:
        """Turn the Arrow stream into a Parquet file and move it into its place.

        Raises:
            OSError: It cannot be done or a row is missing; the partial file is still there.
        """
        built = target.with_name(target.name + ".build")
        with partial.open("rb") as source, built.open("wb") as sink:
            converted = self._convert(source, sink)
            sink.flush()
            os.fsync(sink.fileno())
        if converted != rows:
            built.unlink()
            raise OSError(f"{partial} has {converted} readable rows of {rows}")
        os.replace(built, target)
        partial.unlink()

    def _convert(self, source: BinaryIO, sink: BinaryIO) -> int:
        """Write the batches as row groups and return the number of rows."""
        converted = 0
        waiting: list[Any] = []
        with self._pa.parquet.ParquetWriter(sink, self._schema) as writer:
            for batch, _ in self._batches(source):
                waiting.append(batch)
                converted += batch.num_rows
                if sum(each.num_rows for each in waiting) >= _ROWS_PER_GROUP:
                    writer.write_table(self._pa.Table.from_batches(waiting))
                    waiting = []
            if waiting:
                writer.write_table(self._pa.Table.from_batches(waiting))
        return converted

    def _make_schema(self) -> Any:
        text, number = self._pa.string(), self._pa.float32()
        ranked = {name for name, _ in self.columns.top_names}
        texts = {"path", "prediction", "error"} | ranked
        return self._pa.schema(
            [(name, text if name in texts else number) for name in self.columns.names]
        )

    def _values(self, record: Record) -> list[object]:
        columns = self.columns
        path = printable_path(record.path)
        if isinstance(record, Failure):
            return [path, *[None] * (len(columns.names) - 2), record.reason]
        values: list[object] = [path, record.prediction, record.probability]
        if columns.top_k:
            values += [part for pair in record.ranking(columns.ranks) for part in pair]
        else:
            values += record.probabilities.tolist()
        return [
            *values,
            *columns.raw_scores(record.logits, record.similarities),
            record.note or None,
        ]

    def _batches(self, stream: BinaryIO) -> Iterator[tuple[Any, int]]:
        """Yield (record batch, offset of its end); stop at a torn batch."""
        stream.seek(0)
        ipc = self._pa.ipc
        try:
            if ipc.read_schema(ipc.read_message(stream)) != self._schema:
                return
            while True:
                message = ipc.read_message(stream)
                yield ipc.read_record_batch(message, self._schema), stream.tell()
        except (EOFError, self._pa.ArrowInvalid, OSError):
            return
