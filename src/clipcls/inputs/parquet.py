"""Tables of images in Parquet, whose images may be in the table itself, as bytes.

Images are listed without their bytes. Those are read when an image is decoded, in the order of the
rows and a few at a time: a row group can be as large as the file, and is never whole in memory.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice, repeat
from threading import Event, Lock
from typing import Any

from clipcls.errors import (
    ClipclsError,
    DecodeError,
    InputError,
    MissingExtraError,
    OptionError,
)
from clipcls.inputs.refs import Source
from clipcls.inputs.remote import Remote
from clipcls.inputs.tables import TEXT, Table, check_names, no_images, plain_cell
from clipcls.inputs.urls import is_url, is_web
from clipcls.options import DiscoveryOptions
from clipcls.records import Cell
from clipcls.text import visible

_ROWS_AT_ONCE = 4_096
"""Rows that are listed at once, without their bytes."""
_IMAGES_AT_ONCE = 8
_BUFFER_BYTES = 65_536
_MOST_PASSED_BYTES = 64_000_000
"""Of images that were passed on the way to a later one, and may still be asked for."""
_MOST_OPEN = 2
"""Tables whose images are being read: where one ends, the next has begun."""

_TEXTS = frozenset({"string", "large_string", "string_view"})
_BYTES = frozenset({"binary", "large_binary", "binary_view"})
_has_bytes = re.compile(r"binary(_view)?(\[\d+\])?(?![\w:])").search
_is_simple = re.compile(r"bool|u?int\d+|float|double|date32\[day\]|timestamp\[.+\]").fullmatch


class ParquetTable(Table):
    """A file with a column of paths, of bytes, or of `{bytes, path}` as `datasets` writes it.

    Attributes:
        concurrency: Images that are read from it at once.
        asked: What the user named, and how.
    """

    def __init__(
        self, text: str, options: DiscoveryOptions, remote: Remote, images: Images
    ) -> None:
        super().__init__(text, options, remote)
        if is_web(text):
            raise InputError(f"{visible(self._name)}: download a Parquet file first")
        self.concurrency = options.remote.downloads
        self.asked = text, options
        self._images = images
        with self._explained():
            file = self.open()
        schema = file.schema_arrow
        self._check_columns(schema.names)
        check_names([n for n in schema.names if n in (self._column, *self._keep)], self._name)
        if not file.metadata.num_rows:
            raise InputError(f"{visible(self._name)} holds no rows")
        self._paths, self._bytes = self._leaves(_unpacked(schema.field(self._column).type))
        self.kept = {name: self._kept_type(name, schema.field(name).type) for name in self._keep}

    def open(self) -> Any:
        """Open the file once more; the caller holds it."""
        parquet = _import_parquet()
        source = self._remote.opened(self._text) if is_url(self._text) else self._text
        # Through a buffer, or each column of a row group would be read at once.
        return parquet.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)

    def images(self, file: Any, group: int) -> Iterator[bytes | None]:
        """Yield the bytes of the rows from the beginning of a row group on."""
        groups = range(group, file.num_row_groups)
        for batch in _batches(file, _IMAGES_AT_ONCE, groups, [self._bytes]):
            for scalar in _leaf(batch, self._bytes):
                yield scalar.as_py()

    def take(self, row: int) -> bytes | None:
        """Return the bytes of a row, None where it has none; safe in any thread."""
        return self._images.take(self, row)

    def _leaves(self, kind: Any) -> tuple[str, str]:
        """Return the columns of the file that hold paths and bytes, empty for none."""
        if str(kind) in _TEXTS:
            return self._column, ""
        if str(kind) in _BYTES:
            return "", self._column
        fields = [kind.field(i) for i in range(kind.num_fields)] if _is_struct(kind) else []
        kinds = {field.name: str(_unpacked(field.type)) for field in fields}
        if kinds.get("bytes") not in _BYTES:
            raise no_images(self._column, self._name, str(kind))
        has_path = kinds.get("path") in _TEXTS
        return f"{self._column}.path" if has_path else "", f"{self._column}.bytes"

    def _kept_type(self, name: str, kind: Any) -> str:
        spelt = str(_unpacked(kind))
        if _has_bytes(spelt):
            raise OptionError(
                f"--keep: '{visible(name)}' of {visible(self._name)} holds bytes, which are not"
                " copied"
            )
        return spelt if _is_simple(spelt) else TEXT

    def _cells(self) -> Iterator[tuple[str | Source | None, tuple[Cell, ...]]]:
        with self._explained():
            file = self.open()
            number = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                for path, kept in self._listed(file, group, rows):
                    yield path or (_CellImage(self, number) if self._bytes else None), kept
                    number += 1

    def _listed(
        self, file: Any, group: int, rows: int
    ) -> Iterator[tuple[str | None, tuple[Cell, ...]]]:
        """Yield the path, where a row of a group has one and no bytes, and the kept cells."""
        without_bytes = self._rows_without_bytes(file.metadata.row_group(group))
        paths = self._paths if without_bytes != 0 else ""
        mixed = self._bytes if paths and without_bytes != rows else ""
        columns = list(dict.fromkeys(filter(None, (*self._keep, paths, mixed))))
        if not columns:
            yield from repeat((None, ()), rows)
            return
        for batch in _batches(file, 64 if mixed else _ROWS_AT_ONCE, [group], columns):
            named = _leaf(batch, paths).to_pylist() if paths else repeat(None, len(batch))
            if mixed:
                valid = _leaf(batch, mixed).is_valid().to_pylist()
                named = [None if v else path for path, v in zip(named, valid, strict=True)]
            cells = [map(plain_cell, batch.column(n).to_pylist()) for n in self._keep]
            kept = zip(*cells, strict=True) if cells else repeat((), len(batch))
            yield from zip(named, kept, strict=True)

    def _rows_without_bytes(self, group: Any) -> int | None:
        """Return how many rows of a row group have no bytes, None where the file does not say."""
        if not self._bytes:
            return int(group.num_rows)
        columns = (group.column(i) for i in range(group.num_columns))
        found = next(column for column in columns if column.path_in_schema == self._bytes)
        known = found.is_stats_set and found.statistics.has_null_count
        return int(found.statistics.null_count) if known else None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn whatever keeps the table from being listed into one error."""
        try:
            yield
        except ClipclsError:
            raise
        except Exception as error:  # of pyarrow, the system, or the library of a store
            raise InputError(
                f"{visible(self._name)} cannot be read: {self.reason(error)}"
            ) from error

    def reason(self, error: Exception) -> str:
        """Return why something cannot be read."""
        if _is_damage(error):
            return "corrupt: damaged or incomplete Parquet data"
        from clipcls.inputs.stores import reason_of

        if isinstance(error, OSError) and error.errno and not is_url(self._text):
            return os.strerror(error.errno).lower()
        return reason_of(error)


@dataclass(frozen=True, slots=True)
class _CellImage:
    """An image whose bytes are in a table; implements `Source`."""

    table: ParquetTable
    row: int

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process read it, from a table that it opens for all images."""
        return _cell_image, (*self.table.asked, self.row)

    @property
    def concurrency(self) -> int:
        return self.table.concurrency

    def read(self, stopped: Event) -> bytes:
        if stopped.is_set():
            raise DecodeError("interrupted")
        try:
            data = self.table.take(self.row)
        except Exception as error:  # as when it was listed
            raise DecodeError(self.table.reason(error)) from error
        if data is None:
            raise DecodeError("no image in this row")
        return data


def _cell_image(text: str, options: DiscoveryOptions, row: int) -> _CellImage:
    return _CellImage(_table(text, options), row)


@lru_cache(maxsize=_MOST_OPEN)
def _table(text: str, options: DiscoveryOptions) -> ParquetTable:
    return ParquetTable(text, options, Remote(options.remote), Images())


class Images:
    """The images in all tables of a run; safe in any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: OrderedDict[ParquetTable, _Reader] = OrderedDict()

    def take(self, table: ParquetTable, row: int) -> bytes | None:
        """Return the bytes of a row, None where it has none."""
        with self._lock:
            reader = self._open.pop(table, None) or _Reader(table)
            self._open[table] = reader
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            try:
                return reader.take(row)
            except Exception as error:
                if not _is_damage(error):  # a connection may be better the next time
                    self._open.pop(table)
                raise


class _Reader:
    """Reads the images of a table as they are asked for: once each, and nearly in order.

    What is skipped on the way (by a thread that is a little late, or for another shard) is held as
    long as there is room; what is asked for later still is found by reading its row group again.
    """

    def __init__(self, table: ParquetTable) -> None:
        self._table = table
        self._file = table.open()
        groups = (self._file.metadata.row_group(i) for i in range(self._file.num_row_groups))
        self._starts = list(accumulate((group.num_rows for group in groups), initial=0))
        self._images = table.images(self._file, 0)
        self._next = 0
        self._passed: OrderedDict[int, bytes | None] = OrderedDict()
        self._passed_bytes = 0
        self._damaged: int | None = None

    def take(self, row: int) -> bytes | None:
        if row in self._passed:
            data = self._passed.pop(row)
            self._passed_bytes -= len(data or b"")
            return data
        group = bisect_right(self._starts, row) - 1
        start = self._starts[group]
        if row < self._next:
            return next(islice(self._table.images(self._file, group), row - start, None))
        if group == self._damaged:
            raise ValueError("no row behind the damage can be reached")
        if start > self._next:
            self._images, self._next = self._table.images(self._file, group), start
        try:
            for data in self._images:
                self._next += 1
                if self._next > row:
                    return data
                self._pass(self._next - 1, data)
        except Exception:
            self._damaged = bisect_right(self._starts, self._next) - 1
            raise
        raise ValueError("the table has fewer rows than it had")

    def _pass(self, row: int, data: bytes | None) -> None:
        self._passed[row] = data
        self._passed_bytes += len(data or b"")
        while self._passed_bytes > _MOST_PASSED_BYTES:
            _, oldest = self._passed.popitem(last=False)
            self._passed_bytes -= len(oldest or b"")


def _is_damage(error: Exception) -> bool:
    import pyarrow

    # Some of pyarrow's own errors are bare OSErrors; those of the system have a number.
    bare = type(error) is OSError and error.errno is None
    return bare or isinstance(error, (pyarrow.ArrowException, ValueError, OverflowError))


def _import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "parquet") from error
    return pyarrow.parquet


def _batches(file: Any, rows: int, groups: Any, columns: list[str]) -> Iterator[Any]:
    # Threads would read ahead, and there are enough of them in a run.
    batches: Iterator[Any] = file.iter_batches(rows, groups, columns, use_threads=False)
    return batches


def _leaf(batch: Any, leaf: str) -> Any:
    """Return a column of a batch, or a field of one that is a structure."""
    import pyarrow.compute

    if leaf in batch.schema.names:
        return batch.column(leaf)
    column, _, field = leaf.rpartition(".")
    return pyarrow.compute.struct_field(batch.column(column), field)


def _unpacked(kind: Any) -> Any:
    """Return the type of the values of a dictionary, any other as it is."""
    import pyarrow

    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind


def _is_struct(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(kind))
