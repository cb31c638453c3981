"""Reading an output back, for notebooks and scripts."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcls.errors import InputError, MissingExtraError, OptionError
from clipcls.options import OutputFormat, OutputOptions

if TYPE_CHECKING:
    import pandas as pd

_IN_EVERY_OUTPUT = ("path", "prediction", "probability", "error")


def read_results(
    path: str | os.PathLike[str], format: str | OutputFormat | None = None
) -> pd.DataFrame:
    """Read what `clipcls classify` wrote into a frame with one row per picture.

    pandas alone would turn a picture named `NA` or a label `null` into a missing value. Here texts
    stay texts, an absent `prediction` or `error` is the empty string, and the scores of a failure
    are NaN. CSV and Parquet have the columns of `clipcls.outputs.Columns`; JSON Lines has one
    column per key, with mappings in `probabilities`, and only the columns that every output has
    when there is no row to tell the others.

    Args:
        path: The output.
        format: `csv`, `jsonl` or `parquet`; None takes it from the extension as `-o` does, CSV when
            that says nothing.

    Raises:
        InputError: The file cannot be read, or is no such output.
        OptionError: There is no such format.
        MissingExtraError: Parquet without pyarrow.
    """
    path = Path(path)
    output_format = _resolved_format(path, format)
    readers = {
        OutputFormat.CSV: _read_csv,
        OutputFormat.JSONL: _read_jsonl,
        OutputFormat.PARQUET: _read_parquet,
    }
    try:
        frame = readers[output_format](path)
        _check_columns(frame.columns)
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "parquet") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or _one_line(error)}") from error
    except (ValueError, csv.Error) as error:
        hint = "" if format else " (format= names another format)"
        raise InputError(
            f"{path} cannot be read as {output_format}: {_one_line(error)}{hint}"
        ) from error
    texts = _texts(frame.columns)
    frame[texts] = frame[texts].fillna("")
    return frame


def _resolved_format(path: Path, name: str | OutputFormat | None) -> OutputFormat:
    try:
        chosen = None if name is None else OutputFormat(name)
    except ValueError:
        allowed = ", ".join(OutputFormat)
        raise OptionError(f"format is {name!r}, allowed are {allowed}") from None
    return OutputOptions(path=path, format=chosen).resolved_format


def _check_columns(names: Iterable[str]) -> None:
    """Refuse a table that `clipcls classify` has not written.

    Raises:
        ValueError: Naming a column that is missing.
    """
    missing = set(_IN_EVERY_OUTPUT).difference(names)
    if missing:
        raise ValueError(f"no output of clipcls classify, it lacks the column '{min(missing)}'")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path)


def _read_jsonl(path: Path) -> pd.DataFrame:
    import pandas as pd

    with path.open(encoding="utf-8") as stream:
        rows = [_json_object(line, number) for number, line in enumerate(stream, start=1)]
    frame = pd.DataFrame(rows, columns=None if rows else list(_IN_EVERY_OUTPUT))
    _check_columns(frame.columns)
    return frame.astype({"probability": "float64"})


def _json_object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} is no JSON") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is no JSON object")
    return row


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    with path.open(encoding="utf-8", newline="") as stream:
        names = next(csv.reader(stream), [])
    if not names:
        raise ValueError("the file is empty, even the header is missing")
    _check_columns(names)
    texts = _texts(names)
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(texts, "str") | {n: "float64" for n in names if n not in texts},
        keep_default_na=False,
        na_values={name: [""] for name in names if name not in texts},
        encoding="utf-8",
    )


def _texts(columns: Iterable[str]) -> list[str]:
    """The text columns: the fixed ones and, where `--top-k` was used, the ranked labels."""
    names = list(columns)
    ranked = [
        name
        for name in names
        if name.startswith("label_") and name.replace("label_", "probability_", 1) in names
    ]
    return [*(name for name in names if name in {"path", "prediction", "error"}), *ranked]
