"""Reading an output back, for notebooks and scripts."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from clipcls.errors import InputError, MissingExtraError
from clipcls.options import OutputFormat, OutputOptions

if TYPE_CHECKING:
    import pandas as pd


def read_results(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read what `clipcls classify` wrote into a frame with one row per picture.

    pandas alone would turn a picture named `NA` or a label `null` into a missing value. Here texts
    stay texts, an absent `prediction` or `error` is the empty string, and the scores of a failure
    are NaN. CSV and Parquet have the columns of `clipcls.writers.Columns`; JSON Lines has one
    column per key, with mappings in `probabilities`.

    Args:
        path: A .csv, .jsonl or .parquet file.

    Raises:
        InputError: The file cannot be read.
        MissingExtraError: Parquet without pyarrow.
    """
    import pandas as pd

    path = Path(path)
    output_format = OutputOptions(path=path).resolved_format
    try:
        if output_format is OutputFormat.PARQUET:
            frame = pd.read_parquet(path)
        elif output_format is OutputFormat.JSONL:
            with path.open(encoding="utf-8") as stream:
                frame = pd.DataFrame([json.loads(line) for line in stream])
            frame["probability"] = frame["probability"].astype("float64")
        else:
            frame = _read_csv(path)
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "parquet") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    texts = _texts(frame.columns)
    frame[texts] = frame[texts].fillna("")
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    with path.open(encoding="utf-8", newline="") as stream:
        names = next(csv.reader(stream), [])
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
