"""Tables of images: each row names one by its path, its address or its bytes.

A table is an input whose name ends in one of `TABLES`, and only together with `--image-column`.
Each row is one image, there or not: folders are not searched and patterns mean nothing.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from clipcls.errors import DecodeError, InputError, OptionError
from clipcls.inputs.refs import Source
from clipcls.inputs.remote import Remote
from clipcls.inputs.urls import JSON_LINES, PARQUET, TABLES, ending_of, is_table, is_url, redacted
from clipcls.options import DiscoveryOptions
from clipcls.records import Cell
from clipcls.text import csv_rows, lines, listed, plain_text, read_file, split_separator, visible

if TYPE_CHECKING:
    from clipcls.inputs.parquet import Images

TEXT = "string"
"""The type of a kept column that holds texts, or values that Parquet has no column for."""

_DELIMITERS = ",;\t|"
_HEADER_CHARACTERS = 100_000
"""So many are looked at to find the delimiter; csv refuses cells that are longer."""
_NO_PATHS = {
    "bool": "true and false",
    "int": "numbers",
    "huge": "numbers",
    "float": "numbers",
    "list": "lists",
    "dict": "objects",
}
"""The type of a JSON value -> what a column of them holds, for a message."""
_TYPES = {"bool": "bool", "int": "int64", "float": "double"}
_replace_unwritable = re.compile("[\0\ud800-\udfff]").sub


class TableRow(NamedTuple):
    """What a row says of its image; all but the index of an `ImageRef`."""

    path: str
    source: Source | None
    kept: tuple[Cell, ...]


class Tables:
    """The tables among the inputs of a run.

    Args:
        options: Which column names the image, and which are kept.
        remote: What opens what is no file of this machine.

    Attributes:
        opened: What the user named, or a pattern has found -> the table.
    """

    def __init__(self, options: DiscoveryOptions, remote: Remote) -> None:
        self._options = options
        self._remote = remote
        self.opened: dict[str, Table] = {}

    def open(self, text: str) -> None:
        """Take an input, if it is a table and an image column is given.

        Raises:
            UsageError: It cannot be read, lacks a column, or its image column names no images.
            MissingExtraError: It is Parquet, and pyarrow is not installed.
        """
        if self._options.image_column is None or not is_table(text) or text in self.opened:
            return
        if ending_of(text) in PARQUET:
            from clipcls.inputs.parquet import ParquetTable

            self.opened[text] = ParquetTable(text, self._options, self._remote, self._images)
        else:
            kind = _JsonTable if ending_of(text) in JSON_LINES else _DelimitedTable
            self.opened[text] = kind(text, self._options, self._remote)

    def check(self) -> None:
        """Refuse an image column without a table.

        Raises:
            OptionError: None of the inputs is one.
        """
        if self._options.image_column is not None and not self.opened:
            raise OptionError(
                "--image-column is for tables of images, and none of the inputs is one: name a file"
                f" that ends in {', '.join(TABLES)}"
            )

    @cached_property
    def _images(self) -> Images:
        from clipcls.inputs.parquet import Images

        return Images()

    @property
    def kept(self) -> dict[str, str]:
        """Name -> type of the kept columns; those that differ from table to table hold text."""
        found = {name: {t.kept[name] for t in self.opened.values()} for name in self._options.keep}
        return {name: types.pop() if len(types) == 1 else TEXT for name, types in found.items()}


class Table(ABC):
    """One table.

    Args:
        text: What the user named.
        options: Which column names the image, and which are kept.
        remote: What opens what is no file of this machine.

    Attributes:
        kept: Name -> type of the kept columns, as pyarrow spells it.
    """

    kept: dict[str, str]

    def __init__(self, text: str, options: DiscoveryOptions, remote: Remote) -> None:
        if not is_url(text) and not os.path.isfile(text):
            raise InputError(f"{visible(text)} is no regular file, and a table must be one")
        self._text = text
        self._name = redacted(text)
        self._column = options.image_column or ""
        self._keep = options.keep
        self._remote = remote

    def rows(self) -> Iterator[TableRow]:
        """Yield what each row says of its image.

        Raises:
            InputError: The table is damaged.
        """
        hidden = self._column in self._keep
        for number, (image, kept) in enumerate(self._cells()):
            if hidden:  # an address may carry a secret
                cells = zip(self._keep, kept, strict=True)
                kept = tuple(redacted(str(c)) if n == self._column and c else c for n, c in cells)
            if isinstance(image, str) and image:
                yield TableRow(redacted(image), self._remote.source(image), kept)
            else:
                yield TableRow(f"{self._name}#{number}", image or _NOTHING, kept)

    @abstractmethod
    def _cells(self) -> Iterator[tuple[str | Source | None, tuple[Cell, ...]]]:
        """Yield the image of each row (a path, an address, its bytes) and its kept cells."""

    def _check_columns(self, names: Sequence[str]) -> None:
        """Refuse columns that are not there."""
        for flag, wanted in (("--image-column", (self._column,)), ("--keep", self._keep)):
            for name in wanted:
                check_column(name, names, self._name, flag)

    def _content(self) -> str:
        """Return the whole text."""
        if not is_url(self._text):
            return read_file(Path(self._text), InputError)[1]
        source = self._remote.source(self._text)
        try:
            data = b"" if source is None else source.read(Event())
        except DecodeError as error:
            raise InputError(f"{visible(self._name)} cannot be read: {error}") from error
        return plain_text(data, self._name, InputError)


class _DelimitedTable(Table):
    """CSV and its kin: every cell is a text."""

    def __init__(self, text: str, options: DiscoveryOptions, remote: Remote) -> None:
        super().__init__(text, options, remote)
        columns, rows = delimited(self._content(), self._name)
        self._check_columns(columns)
        first = next(rows, None)
        if first is None:
            raise InputError(f"{visible(self._name)} holds no rows below its header")
        # What was read to find that out is read once; a table that is named twice, twice.
        self._read: Iterator[list[str]] | None = chain([first], rows)
        self._image, *self._places = (columns.index(n) for n in (self._column, *self._keep))
        self.kept = dict.fromkeys(self._keep, TEXT)

    def _cells(self) -> Iterator[tuple[str | None, tuple[Cell, ...]]]:
        rows, self._read = self._read, None
        for row in rows or delimited(self._content(), self._name)[1]:
            yield row[self._image], tuple(row[place] or None for place in self._places)


class _JsonTable(Table):
    """JSON Lines: an object per row."""

    def __init__(self, text: str, options: DiscoveryOptions, remote: Remote) -> None:
        super().__init__(text, options, remote)
        self._read = self._content()
        kinds: dict[str, set[str]] = defaultdict(set)
        for row in json_lines(self._read, self._name):
            for key, value in row.items():
                huge = isinstance(value, int) and not -(2**63) <= value < 2**63
                kinds[key].add("huge" if huge else type(value).__name__)
        if not kinds:
            raise InputError(f"{visible(self._name)} holds no rows")
        self._check_columns(list(kinds))
        for kind in kinds[self._column] & _NO_PATHS.keys():
            raise no_images(self._column, self._name, _NO_PATHS[kind])
        self.kept = {name: _type_of(kinds[name] - {"NoneType"}) for name in self._keep}

    def _cells(self) -> Iterator[tuple[str | None, tuple[Cell, ...]]]:
        text, self._read = self._read, ""
        for row in json_lines(text or self._content(), self._name):
            image = plain_cell(row.get(self._column))
            yield image, tuple(plain_cell(row.get(name)) for name in self._keep)  # type: ignore[misc]


class _Nothing:
    """The source of a row that has no image."""

    concurrency = 1

    def read(self, stopped: Event) -> bytes:
        raise DecodeError("no image in this row")


_NOTHING = _Nothing()


def no_images(column: str, table: str, what: str) -> OptionError:
    """Return the error about an image column that holds something else."""
    return OptionError(
        f"--image-column: '{visible(column)}' of {visible(table)} holds {what}; it must hold paths,"
        " addresses or, in Parquet, the bytes of images"
    )


def check_column(name: str, columns: Iterable[object], table: str, flag: str) -> None:
    """Refuse a column that a table lacks.

    Raises:
        OptionError: Naming those that there are.
    """
    if name not in columns:
        raise OptionError(
            f"{flag}: {visible(table)} has no column '{visible(name)}'; its columns are"
            f" {listed(columns)}"
        )


def delimited(text: str, name: str) -> tuple[list[str], Iterator[list[str]]]:
    """Return the columns of a table with a header, and its rows: stripped texts, as many.

    Comma, semicolon, tab and bar are told apart by the header.

    Args:
        text: The content, with newlines as line ends.
        name: What messages call the file.

    Raises:
        InputError: It is empty, two columns have one name, or, of a row, it has too many cells.
    """
    separator, text = split_separator(text)
    header = next(lines(text.lstrip("\n")), "")[:_HEADER_CHARACTERS]
    widths = {d: len(next(csv.reader([header], delimiter=d), [])) for d in _DELIMITERS}
    rows = csv_rows(text, name, separator or max(widths, key=widths.__getitem__), InputError)
    _, first = next(rows, ("", []))
    if not first:
        raise InputError(f"{visible(name)} cannot be read as a table: it is empty")
    columns = [cell or f"Unnamed: {i}" for i, cell in enumerate(first)]
    check_names(columns, name)
    return columns, _filled(rows, len(columns))


def _filled(rows: Iterable[tuple[str, list[str]]], columns: int) -> Iterator[list[str]]:
    for where, cells in rows:
        if len(cells) > columns:
            raise InputError(
                f"{visible(where)}: {len(cells)} cells for {columns} columns: put quotes"
                " around a text that holds the delimiter"
            )
        yield cells + [""] * (columns - len(cells))


def check_names(columns: Sequence[str], table: str) -> None:
    """Refuse a table of which two columns have one name.

    Raises:
        InputError: They have.
    """
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise InputError(
            f"{visible(table)} has two columns named '{visible(twice[0])}': rename one of them"
        )


def json_lines(text: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield the object of each line that is not blank.

    Args:
        text: The content, with newlines as line ends.
        name: What messages call the file.

    Raises:
        InputError: A line is no JSON object.
    """
    for number, line in enumerate(lines(text), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                problem = f"line {number} is no JSON"
                raise InputError(f"{visible(name)} cannot be read as a table: {problem}") from error
            if not isinstance(row, dict):
                problem = f"line {number} is no JSON object"
                raise InputError(f"{visible(name)} cannot be read as a table: {problem}")
            yield row


def plain_cell(value: Any) -> Cell:
    """Return a cell as every output can take it; what nobody can write becomes text.

    Characters that no output holds (NUL, halves of a pair) become the replacement character.
    """
    if isinstance(value, str):
        return _replace_unwritable("\ufffd", value)
    if value is None or isinstance(value, (bool, int, float, date)):
        return value
    return _nested(value) if isinstance(value, (list, tuple, dict)) else str(value)


def _nested(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {str(plain_cell(str(key))): _nested(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nested(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, date) else plain_cell(value)


def _type_of(kinds: set[str]) -> str:
    """Return the type of a column of JSON values of these types."""
    if kinds == {"int", "float"}:
        return _TYPES["float"]
    return _TYPES.get(next(iter(kinds)), TEXT) if len(kinds) == 1 else TEXT
