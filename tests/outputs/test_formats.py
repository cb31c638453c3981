"""Every format holds the same rows, and every torn file is taken up at its last complete row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcls import read_results
from clipcls.columns import Columns
from clipcls.errors import InputError, LabelError, OptionError
from clipcls.options import OutputFormat
from clipcls.outputs import make_writer
from clipcls.records import Cell, Failure, Prediction, Record

LABELS = ("cat", "no-cat", 'a "b", c')
FORMATS = list(OutputFormat)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
# A NUL cannot be part of a file name, and the csv module of Python 3.10 refuses it.
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def prediction(index: int, path: str, labels: Sequence[str] = LABELS, note: str = "") -> Prediction:
    raw = np.random.default_rng(index).uniform(0.01, 1, len(labels))
    probabilities = (raw / raw.sum()).astype(np.float32)
    best = int(probabilities.argmax())
    return Prediction(
        index=index,
        path=path,
        labels=tuple(labels),
        prediction=labels[best],
        probability=float(probabilities[best]),
        probabilities=probabilities,
        logits=np.log(probabilities),
        similarities=probabilities / 10,
        note=note,
    )


def records(count: int) -> list[Record]:
    return [
        Failure(i, f"{i}\n.jpg", 'corrupt: "x", y')
        if i % 3 == 2
        else prediction(i, f"dir, one/{i}é.jpg", note="truncated" if i == 4 else "")
        for i in range(count)
    ]


def written(path: Path, output_format: OutputFormat, columns: Columns, rows: list[Record]) -> None:
    """Write rows in batches of four and finish the file."""
    partial = path.with_name(path.name + ".part")
    with partial.open("w+b") as stream:
        writer = make_writer(output_format, columns, stream)
        writer.start()
        for start in range(0, len(rows), 4):
            writer.write(rows[start : start + 4])
    writer.finish(partial, path, len(rows))
    assert not partial.exists()


def test_csv_is_rfc_4180_with_six_decimals() -> None:
    stream = io.BytesIO()
    writer = make_writer(OutputFormat.CSV, Columns(LABELS), stream)
    writer.start()
    writer.write(records(3))
    lines = stream.getvalue().decode().split("\r\n")
    assert lines[0] == 'path,prediction,probability,cat,no-cat,"a ""b"", c",note,error'
    assert lines[-1] == ""
    rows = list(csv.DictReader(io.StringIO(stream.getvalue().decode(), newline="")))
    assert [row["path"] for row in rows] == ["dir, one/0é.jpg", "dir, one/1é.jpg", "2\n.jpg"]
    assert len(rows[0]["cat"].split(".")[1]) == 6
    assert rows[2] == {
        "path": "2\n.jpg",
        "prediction": "",
        "probability": "",
        "cat": "",
        "no-cat": "",
        'a "b", c': "",
        "note": "",
        "error": 'corrupt: "x", y',
    }


@pytest.mark.parametrize("output_format", FORMATS)
def test_read_results_gives_back_what_was_written(
    tmp_path: Path, output_format: OutputFormat
) -> None:
    rows = records(7)
    path = tmp_path / f"out.{output_format}"
    written(path, output_format, Columns(LABELS, logits=True, similarities=True), rows)
    frame = read_results(path)
    assert list(frame["path"]) == [row.path for row in rows]
    for i, row in enumerate(rows):
        if isinstance(row, Failure):
            assert (frame["prediction"][i], frame["error"][i]) == ("", row.reason)
            assert np.isnan(frame["probability"][i])
            continue
        assert (frame["prediction"][i], frame["error"][i]) == (row.prediction, "")
        assert frame["note"][i] == row.note
        assert frame["probability"][i] == pytest.approx(row.probability, abs=1e-6)
        scores = [frame[label][i] for label in LABELS]
        logits = [frame[f"logit:{label}"][i] for label in LABELS]
        assert scores == pytest.approx(list(row.probabilities), abs=1e-6)
        assert logits == pytest.approx(list(row.logits), abs=1e-6)


@settings(deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.lists(PATHS, min_size=1, max_size=5),
    st.lists(TEXTS, min_size=1, max_size=4, unique=True),
)
def test_any_path_and_label_survives_every_format_and_pandas(
    tmp_path_factory: pytest.TempPathFactory,
    output_format: OutputFormat,
    paths: list[str],
    labels: list[str],
) -> None:
    # Carriage returns end a line in pandas' parser unless they are quoted, which they are.
    labels = [f"x{label.replace(chr(0), '')}" for label in labels]
    labels = list(dict.fromkeys(labels))
    path = tmp_path_factory.mktemp("out") / f"out.{output_format}"
    rows: list[Record] = [prediction(i, p, labels) for i, p in enumerate(paths)]
    written(path, output_format, Columns(tuple(labels)), rows)
    frame = read_results(path)
    assert list(frame["path"]) == paths
    assert list(frame.columns) == ["path", "prediction", "probability", *labels, "note", "error"]


NUMBERS = (0.0000005, 0.1234565, 1.0, 0.0, 1e-7, -0.0, 9.9999996, -23.4, 123456.7890125, 1e30)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(NUMBERS) | st.floats(0, 1) | st.floats(-1e30, 1e30),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_csv_and_jsonl_have_the_six_decimals_of_python(values: list[float], logits: bool) -> None:
    labels = tuple(f"é{'x' * i}%s" for i in range(len(values)))
    scores = np.array(values)
    row = Prediction(0, "a", labels, labels[0], values[0], scores, scores, scores)
    columns = Columns(labels, top_k=None if len(values) % 2 else 1, logits=logits)
    lines = {}
    for output_format in (OutputFormat.CSV, OutputFormat.JSONL):
        stream = io.BytesIO()
        make_writer(output_format, columns, stream).write([row])
        lines[output_format] = stream.getvalue().decode()
    wanted = [f"{value:.6f}" for value in values]
    cells = lines[OutputFormat.CSV].removesuffix("\r\n").split(",")
    assert cells[2] == wanted[0]
    top = 2 if columns.top_k else 0
    assert cells[3 + top : -2] == wanted * len(columns.groups)
    found = json.loads(lines[OutputFormat.JSONL], parse_float=str)
    for key, _ in columns.groups:
        assert found[key] == dict(zip(labels, wanted, strict=True))


@pytest.mark.parametrize("output_format", FORMATS)
def test_top_k_writes_ranked_labels(tmp_path: Path, output_format: OutputFormat) -> None:
    row = prediction(1, "a.jpg")
    path = tmp_path / f"out.{output_format}"
    written(path, output_format, Columns(LABELS, top_k=2), [row, Failure(2, "b", "gone")])
    frame = read_results(path)
    order = np.argsort(-row.probabilities)
    assert list(frame.columns)[3:7] == ["label_1", "probability_1", "label_2", "probability_2"]
    labels = [frame["label_1"][0], frame["label_2"][0]]
    assert frame["label_1"][1] == ""
    assert labels == [LABELS[i] for i in order[:2]]


def test_jsonl_has_null_for_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    written(path, OutputFormat.JSONL, Columns(LABELS), records(3))
    objects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert objects[0]["error"] is None
    assert set(objects[0]["probabilities"]) == set(LABELS)
    assert objects[2]["prediction"] is None
    assert objects[2]["probabilities"] is None


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize(
    "name", ["caf\udce9.jpg", "\udcff\udcfe", r"a\udce9", "\\\udce9", r"\x5cudce9"]
)
def test_a_name_that_is_not_utf8_leaves_the_file_readable(
    tmp_path: Path, output_format: OutputFormat, name: str
) -> None:
    path = tmp_path / f"out.{output_format}"
    written(path, output_format, Columns(LABELS), [prediction(0, name)])
    assert list(read_results(path)["path"]) == [name]


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize(
    "columns",
    [
        Columns(LABELS),
        Columns(LABELS, top_k=1, logits=True),
        Columns(LABELS, keep={"id": "int64", "prediction ": "string"}),
    ],
)
def test_a_file_torn_anywhere_gives_its_complete_rows(
    tmp_path: Path, output_format: OutputFormat, columns: Columns
) -> None:
    rows = records(12)
    path = tmp_path / "part"
    with path.open("w+b") as stream:
        writer = make_writer(output_format, columns, stream)
        writer.start()
        for start in range(0, 12, 4):
            writer.write(rows[start : start + 4])
        complete = list(writer.saved_rows())
    assert [row.path for row in complete] == [row.path for row in rows]
    whole = path.read_bytes()
    before = 0
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with path.open("r+b") as stream:
            found = list(make_writer(output_format, columns, stream).saved_rows())
        assert found == complete[: len(found)]
        assert all(row.end <= cut for row in found)
        assert len(found) >= before
        before = len(found)
    assert before == 12


@pytest.mark.parametrize(
    "labels", [("a", "error"), ("note", "a"), ("a", "logit:a"), ("logit:a", "a")]
)
def test_a_label_that_is_also_a_column_is_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(LabelError, match="two columns would be named"):
        Columns(labels, logits=True)


KEEP = {
    "n": "int64",
    "name": "string",
    "share": "double",
    "day": "date32[day]",
    "when": "timestamp[ms, tz=UTC]",
    "deep": "string",
    "yes": "bool",
}
WHEN = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
CELLS: list[tuple[Cell, ...]] = [
    (2**60 + 1, 'a "b",\n;é', 0.1, date(2024, 5, 1), WHEN, [1, {"a": None}], True),
    (None, None, float("nan"), None, None, None, None),
    (-1, "", 3, date(1, 1, 1), WHEN, "x", False),
]


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("top_k", [None, 2])
def test_kept_columns_stand_after_the_path(
    tmp_path: Path, output_format: OutputFormat, top_k: int | None
) -> None:
    columns = Columns(LABELS, top_k, logits=True, keep=KEEP)
    rows: list[Record] = [
        replace(prediction(0, "a.jpg"), kept=CELLS[0]),
        Failure(1, "b.jpg", "gone", CELLS[1]),
        replace(prediction(2, "c.jpg"), kept=CELLS[2]),
        Failure(3, "in no table.jpg", "gone"),
    ]
    path = tmp_path / f"out.{output_format}"
    written(path, output_format, columns, rows)
    frame = read_results(path)
    assert list(frame.columns) == list(columns.names)
    assert list(frame.columns)[:9] == ["path", *KEEP, "prediction"]
    assert list(frame["error"]) == ["", "gone", "", "gone"]
    with path.open("rb") as stream:
        copies = list(make_writer(output_format, columns, stream).copies())
    assert [(row.path, row.error) for row, _ in copies] == list(
        zip(frame["path"], frame["error"], strict=True)
    )
    again = io.BytesIO()
    make_writer(output_format, columns, again).write(rows)
    assert (
        make_writer(output_format, columns, io.BytesIO()).joined([copy for _, copy in copies])
        == again.getvalue()
    )


def test_kept_cells_as_each_format_has_them(tmp_path: Path) -> None:
    columns = Columns(LABELS, keep=KEEP)
    rows: list[Record] = [replace(prediction(i, "a"), kept=cells) for i, cells in enumerate(CELLS)]
    paths = {kind: tmp_path / f"out.{kind}" for kind in FORMATS}
    for kind, path in paths.items():
        written(path, kind, columns, rows)
    with paths[OutputFormat.CSV].open(encoding="utf-8", newline="") as stream:
        lines = [list(row.values())[1:8] for row in csv.DictReader(stream)]
    assert lines == [
        ["1152921504606846977", 'a "b",\n;é', "0.1", "2024-05-01", "2024-05-01T12:00:00+00:00",
         '[1, {"a": null}]', "true"],
        ["", "", "NaN", "", "", "", ""],
        ["-1", "", "3", "0001-01-01", "2024-05-01T12:00:00+00:00", "x", "false"],
    ]  # fmt: skip
    objects = [json.loads(line) for line in paths[OutputFormat.JSONL].read_text().splitlines()]
    assert [objects[0][name] for name in KEEP] == [
        *CELLS[0][:3], "2024-05-01", "2024-05-01T12:00:00+00:00", *CELLS[0][5:]
    ]  # fmt: skip
    assert objects[1]["share"] is None
    table = pq.read_table(paths[OutputFormat.PARQUET]).select(list(KEEP))
    assert {field.name: str(field.type) for field in table.schema} == KEEP
    assert table.to_pylist()[0] == dict(zip(KEEP, CELLS[0], strict=True)) | {
        "deep": '[1, {"a": null}]'
    }
    assert table.to_pylist()[2]["share"] == 3.0


@pytest.mark.parametrize(
    "name", ["path", "prediction", "error", "truth", "top", "probabilities", "cat", "logit:cat"]
)
def test_a_kept_column_that_is_also_another_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=f"--keep: '{name}' is a column of the output itself"):
        Columns(LABELS, logits=True, keep={"id": "string", name: "string"})


def test_reading_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        read_results(tmp_path / "none.csv")
