"""One class per output format on one base."""

from __future__ import annotations

from typing import BinaryIO

from clipcls.columns import Columns
from clipcls.options import OutputFormat
from clipcls.outputs.base import SavedRow, Writer

__all__ = ["Columns", "SavedRow", "Writer", "make_writer"]


def make_writer(output_format: OutputFormat, columns: Columns, stream: BinaryIO) -> Writer:
    """Return the writer of a format on a binary stream.

    Raises:
        MissingExtraError: The format needs a package that is not installed.
    """
    if output_format is OutputFormat.PARQUET:
        from clipcls.outputs.parquet import ParquetWriter

        return ParquetWriter(columns, stream)
    if output_format is OutputFormat.JSONL:
        from clipcls.outputs.jsonl import JsonlWriter

        return JsonlWriter(columns, stream)
    from clipcls.outputs.csv import CsvWriter

    return CsvWriter(columns, stream)
