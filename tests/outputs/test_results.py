"""An output read back: texts stay texts, and what cannot be read is said in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clipcls import read_results
from clipcls.columns import Columns
from clipcls.errors import InputError, MissingExtraError, OptionError
from clipcls.options import OutputFormat
from clipcls.outputs import make_writer
from clipcls.records import Failure, Prediction, Record

LABELS = ("null", "NA")
FORMATS = list(OutputFormat)
EVERY_OUTPUT = ["path", "prediction", "probability", "note", "error"]
SCORES = np.array([0.75, 0.25], np.float32)
ROWS: list[Record] = [
    Prediction(0, "NA", LABELS, "null", 0.75, SCORES.astype(np.float64), SCORES, SCORES),
    Failure(1, "nan", "empty file"),
    Prediction(
        2, "007", LABELS, "null", 0.75, SCORES.astype(np.float64), SCORES, SCORES, note="truncated"
    ),
]


def save(path: Path, output_format: OutputFormat, rows: list[Record], columns: Columns) -> Path:
    """Write a complete output under any name."""
    partial = path.with_name("partial")
    with partial.open("w+b") as stream:
        writer = make_writer(output_format, columns, stream)
        writer.start()
        if rows:
            writer.write(rows)
    writer.finish(partial, path, len(rows))
    return path


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("columns", [Columns(LABELS), Columns(LABELS, top_k=1)])
def test_words_that_mean_missing_elsewhere_stay_words(
    tmp_path: Path, output_format: OutputFormat, columns: Columns
) -> None:
    frame = read_results(save(tmp_path / f"out.{output_format}", output_format, ROWS, columns))
    assert list(frame["path"]) == ["NA", "nan", "007"]
    assert list(frame["prediction"]) == ["null", "", "null"]
    assert list(frame["error"]) == ["", "empty file", ""]
    assert list(frame["note"]) == ["", "", "truncated"]
    assert frame["probability"].dtype.kind == "f"
    assert list(frame["probability"].isna()) == [False, True, False]
    if columns.top_k:
        assert list(frame["label_1"]) == ["null", "", "null"]


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("given", ["text", "member"])
def test_a_format_that_is_named_needs_no_extension(
    tmp_path: Path, output_format: OutputFormat, given: str
) -> None:
    path = save(tmp_path / "out.dat", output_format, ROWS, Columns(LABELS))
    name = output_format.value if given == "text" else output_format
    assert list(read_results(path, format=name)["path"]) == ["NA", "nan", "007"]


def test_a_format_that_is_named_overrules_the_extension(tmp_path: Path) -> None:
    path = save(tmp_path / "out.csv", OutputFormat.JSONL, ROWS, Columns(LABELS))
    with pytest.raises(InputError, match="cannot be read as csv: "):
        read_results(path)
    assert len(read_results(path, "jsonl")) == 3


@pytest.mark.parametrize(
    ("extension", "output_format"),
    [("NDJSON", OutputFormat.JSONL), ("pq", OutputFormat.PARQUET), ("txt", OutputFormat.CSV)],
)
def test_the_extension_means_what_it_means_when_writing(
    tmp_path: Path, extension: str, output_format: OutputFormat
) -> None:
    path = save(tmp_path / f"out.{extension}", output_format, ROWS, Columns(LABELS))
    assert len(read_results(path)) == 3


def test_an_unknown_format_names_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match="there is no format 'xml': the formats are csv, jsonl, parquet"
    ):
        read_results(tmp_path / "out.csv", format="xml")


@pytest.mark.parametrize("output_format", FORMATS)
def test_no_rows_give_an_empty_frame_with_columns_of_the_usual_types(
    tmp_path: Path, output_format: OutputFormat
) -> None:
    path = save(tmp_path / f"out.{output_format}", output_format, [], Columns(LABELS))
    frame = read_results(path)
    assert len(frame) == 0
    names = EVERY_OUTPUT if output_format is OutputFormat.JSONL else list(Columns(LABELS).names)
    assert list(frame.columns) == names
    assert frame["probability"].dtype.kind == "f"
    full = read_results(
        save(tmp_path / f"full.{output_format}", output_format, ROWS, Columns(LABELS))
    )
    assert len(pd.concat([frame, full])) == 3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("zero.csv", b"", "as csv: the file is empty"),
        ("zero.parquet", b"", "as parquet: "),
        ("other.csv", b"x,y\r\n1,2\r\n", "it lacks the column 'error'"),
        (
            "words.csv",
            b"path,prediction,probability,cat,note,error\r\na,cat,much,1,,\r\n",
            "as csv: line 2: 'probability' is 'much', which is no number",
        ),
        (
            "nan.csv",
            b"path,prediction,probability,cat,note,error\r\na,cat,1,nan,,\r\n",
            "as csv: line 2: 'cat' is 'nan', which is no number",
        ),
        (
            "much.csv",
            b"path,prediction,probability,cat,note,error\r\na,cat,7.5,1,,\r\n",
            "as csv: row 1 has a probability of 7.5",
        ),
        (
            "short.csv",
            b"path,prediction,probability,cat,note,error\r\na,cat,1,1,,\r\nb,ca",
            "as csv: it was cut short: line 3 has 2 cells for 6 columns",
        ),
        ("torn.csv", b'path,prediction,probability,cat,note,error\r\n"a', "as csv: "),
        ("nul.csv", b"\x00PAR1\xff\xfe", "as csv: "),
        ("other.jsonl", b'{"path": "a"}\n', "it lacks the column 'error'"),
        ("text.jsonl", b'path,prediction\n{"path": "a"}\n', "as jsonl: line 1 is no JSON"),
        ("list.jsonl", b"[1, 2]\n", "as jsonl: line 1 is no JSON object"),
        *(
            (
                "words.jsonl",
                b'{"path": "a", "prediction": "cat", "probability": 0.5, "note": "", "error": "",'
                b' "probabilities": {"cat": %b}}\n' % wrong,
                "as jsonl: ",
            )
            for wrong in (b'"much"', b"[1]")
        ),
        ("bytes.jsonl", b"\xff\xfe\x00", "as jsonl: "),
        ("other.parquet", b"path,prediction\n", "as parquet: "),
    ],
)
def test_what_is_no_output_is_an_input_error_of_one_line(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_results(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be read ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_a_missing_file_and_a_folder_are_input_errors(tmp_path: Path, extension: str) -> None:
    with pytest.raises(InputError, match=rf"none\.{extension} cannot be read"):
        read_results(tmp_path / f"none.{extension}")
    folder = tmp_path / f"folder.{extension}"
    folder.mkdir()
    with pytest.raises(InputError, match=rf"folder\.{extension} cannot be read"):
        read_results(folder)


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "out.parquet", OutputFormat.PARQUET, ROWS, Columns(LABELS))
    for module in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"clipcls\[parquet\]"):
        read_results(path)
