"""Reading an output back, for notebooks and scripts."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcls.columns import AFTER, BEFORE, GROUPS, P_UNKNOWN, TRUTH, kept_names
from clipcls.errors import InputError, MissingExtraError, OptionError
from clipcls.options import OutputFormat, OutputOptions
from clipcls.text import original_path

if TYPE_CHECKING:
    import pandas as pd

_IN_EVERY_OUTPUT = (*BEFORE, *AFTER)


def read_results(
    path: str | os.PathLike[str], format: str | OutputFormat | None = None
) -> pd.DataFrame:
    """Read what `clipcls classify` wrote into a frame with one row per image.

    The frame has the columns of the CSV whatever the format: `path`, `prediction`, `probability`, a
    column per label (or `label_1`, `probability_1`, ...), raw scores, `note`, `error`. A JSON Lines
    file without any scored image does not know its labels, so there it has the fixed ones only.
    Columns that were kept from a table stand after `path`: texts from CSV, else as they are.

    pandas alone would turn an image named `NA` or a label `null` into a missing value. Here texts
    stay texts, an absent one is the empty string, and the scores of a failure are NaN. `path` is
    what the system calls the file, also where its name is not valid UTF-8.

    Args:
        path: The output.
        format: `csv`, `jsonl` or `parquet`; None takes it from the extension as `-o` does, CSV when
            that says nothing.

    Raises:
        InputError: The file cannot be read, or is no such output.
        OptionError: There is no such format.
        MissingExtraError: Parquet without pyarrow.
    """
    import pandas as pd

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
        texts, kept = _texts(frame.columns), kept_names(list(frame.columns))
        numbers = [name for name in frame.columns if name not in {*texts, *kept}]
        frame = frame.astype(dict.fromkeys(numbers, "float64"))
        shares = frame["probability"]
        if len(wrong := shares[(shares < 0) | (shares > 1)]):
            raise ValueError(f"row {wrong.index[0] + 1} has a probability of {wrong.iloc[0]:g}")
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "parquet") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or _one_line(error)}") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as {output_format}: {_one_line(error)}") from error
    frame[texts] = frame[texts].astype(object).fillna("")
    # Objects, because no other type of pandas takes what is not UTF-8.
    paths = [original_path(text) for text in frame["path"]]
    frame["path"] = pd.Series(paths, index=frame.index, dtype=object)
    return frame


def _resolved_format(path: Path, name: str | OutputFormat | None) -> OutputFormat:
    try:
        chosen = None if name is None else OutputFormat(name)
    except ValueError:
        allowed = ", ".join(OutputFormat)
        raise OptionError(f"there is no format {name!r}: the formats are {allowed}") from None
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

    with path.open(encoding="utf-8", newline="\n") as stream:
        rows = [_wide(line, number) for number, line in enumerate(stream, start=1)]
    # A scored row has more columns than a failure, and they are in their order.
    names = max(rows, key=len, default=dict.fromkeys(_IN_EVERY_OUTPUT))
    return pd.DataFrame(rows, columns=list(names))


def _wide(line: str, number: int) -> dict[str, Any]:
    """Return the row of a line with the columns that the CSV has."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is no JSON") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is no JSON object")
    _check_columns(row)
    wide = {name: row[name] for name in ("path", *kept_names(list(row)), *BEFORE[1:])}
    try:
        for rank, entry in enumerate(row.get("top") or (), start=1):
            wide[f"label_{rank}"] = entry["label"]
            wide[f"probability_{rank}"] = entry["probability"]
        for key, prefix in GROUPS:
            scores = row.get(key) or {}
            wide.update((prefix + label, score) for label, score in scores.items())
        if P_UNKNOWN in row:
            wide[P_UNKNOWN] = row[P_UNKNOWN]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"line {number} has scores that clipcls did not write") from error
    return wide | {name: row[name] for name in AFTER}


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    with path.open(encoding="utf-8", newline="") as stream:
        names = next(csv.reader(stream), [])
    if not names:
        raise ValueError("the file is empty, even the header is missing")
    _check_columns(names)
    texts = [*_texts(names), *kept_names(names)]
    numbers = [name for name in names if name not in texts]
    _check_end(path, len(names))
    try:
        return pd.read_csv(
            path,
            dtype=dict.fromkeys(texts, "str") | dict.fromkeys(numbers, "float64"),
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
            encoding="utf-8",
        )
    except ValueError:
        _check_numbers(path, numbers)
        raise


def _check_end(path: Path, columns: int) -> None:
    """Refuse a file that was cut short in its last row, which pandas would fill up.

    Raises:
        ValueError: It was.
    """
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read() == b"\n":
            return
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream)
        [last] = deque(rows, maxlen=1)
    if len(last) < columns:
        raise ValueError(
            f"it was cut short: line {rows.line_num} has {len(last)} cells for {columns} columns"
        )


def _check_numbers(path: Path, columns: Iterable[str]) -> None:
    """Refuse what is no number in a column of numbers; pandas does not say where it is.

    Raises:
        ValueError: Naming the place.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        for row in rows:
            for name in columns:
                if row[name] and not _is_number(row[name]):
                    raise ValueError(
                        f"line {rows.line_num}: '{name}' is {row[name]!r}, which is no number"
                    )


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _texts(columns: Iterable[str]) -> list[str]:
    """The text columns: the fixed ones, an evaluation's truth, the ranked labels of `--top-k`."""
    names = list(columns)
    # By place, not by name only: a label may be called `label_2`, or `truth`.
    known = [TRUTH] if names[1:2] == [TRUTH] else []
    ranked = []
    start = len(BEFORE) + len(known) + len(kept_names(names))
    for rank, place in enumerate(range(start, len(names), 2), start=1):
        if names[place : place + 2] != [f"label_{rank}", f"probability_{rank}"]:
            break
        ranked.append(names[place])
    return ["path", *known, "prediction", *ranked, *AFTER]
