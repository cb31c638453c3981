"""Tables of images: which image each row means, and what else it says."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcls.errors import DecodeError, InputError, MissingExtraError, OptionError
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.tables import delimited, json_lines, plain_cell
from clipcls.inputs.walk import Discovery
from clipcls.options import DiscoveryOptions
from clipcls.text import lines
from tests.inputs.discovering import by_name
from tests.inputs.web_server import picture

GERMAN = "id;image;label\n1;a.png;Käse\n2; b/c.jpg ;\n3;;x\n4;a.png;y\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(*inputs: str, column: str | None = "image", keep: Sequence[str] = ()) -> Discovery:
    options = DiscoveryOptions(image_column=column, keep=tuple(keep))
    return Discovery(inputs, options, is_image=by_name)


def listed(*inputs: str, **options: Any) -> list[tuple[Any, ...]]:
    return [(ref.path, *ref.kept) for ref in found(*inputs, **options)]


def failure(ref: ImageRef) -> str:
    with pytest.raises(DecodeError) as caught:
        ref.read()
    return str(caught.value)


def parquet(file: str, /, **columns: Any) -> str:
    pq.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_csv_as_spreadsheets_write_it(encoding: str) -> None:
    Path("t.CSV").write_text(GERMAN.replace("\n", "\r\n"), encoding=encoding, newline="")
    assert listed("t.CSV", keep=["label", "id"]) == [
        ("a.png", "Käse", "1"),
        ("b/c.jpg", None, "2"),
        ("t.CSV#2", "x", "3"),
        ("a.png", "y", "4"),
    ]


def test_every_row_has_its_turn_also_one_without_an_image() -> None:
    Path("t.csv").write_text(GERMAN, encoding="utf-8")
    Path("b").mkdir()
    for name in ("a.png", "b/c.jpg", "b/d.jpg"):
        Path(name).write_bytes(picture("red"))
    refs = list(found("t.csv", "b", "t.csv"))
    rows = ["a.png", "b/c.jpg", "t.csv#2", "a.png"]
    # A folder leaves out what was named before, a table that is named twice does not.
    assert [ref.path for ref in refs] == [*rows, "b/d.jpg", *rows]
    assert [ref.index for ref in refs] == list(range(9))
    assert failure(refs[2]) == "no image in this row"
    with refs[0].read() as stream:
        assert stream.read() == picture("red")


def test_json_lines_with_values_of_all_kinds() -> None:
    rows = [
        {"image": "a.png", "n": 1, "x": 1, "flag": True, "deep": {"a": [1, float("nan")]}},
        {"image": None, "n": 2**70, "x": 0.5, "text": "a\0\ud800b"},
        {"n": None, "image": "s3://user:key@bucket/c.png"},
    ]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    keep = ["n", "x", "flag", "deep", "text"]
    discovery = found("t.jsonl", keep=keep)
    assert [(ref.path, *ref.kept) for ref in discovery] == [
        ("a.png", 1, 1, True, {"a": [1, None]}, None),
        ("t.jsonl#1", 2**70, 0.5, None, None, "a\ufffd\ufffdb"),
        ("s3://bucket/c.png", None, None, None, None, None),
    ]
    types = ["string", "double", "bool", "string", "string"]
    assert discovery.tables.kept == dict(zip(keep, types, strict=True))


def test_parquet_keeps_types_and_makes_text_of_others() -> None:
    when = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc)
    columns = {
        "image": pa.array(["a.png", None], pa.large_string()).dictionary_encode(),
        "n": pa.array([1, None], pa.uint8()),
        "name": pa.array(["x", "y"]).dictionary_encode(),
        "when": pa.array([when, when], pa.timestamp("ms", "UTC")),
        "span": [datetime.timedelta(1), None],
        "box": [[1, 2], []],
    }
    discovery = found(parquet("t.parquet", **columns), keep=["n", "name", "when", "span", "box"])
    assert [(ref.path, *ref.kept) for ref in discovery] == [
        ("a.png", 1, "x", when, "1 day, 0:00:00", [1, 2]),
        ("t.parquet#1", None, "y", when, None, []),
    ]
    assert discovery.tables.kept == {
        "n": "uint8", "name": "string", "when": "timestamp[ms, tz=UTC]", "span": "string",
        "box": "string",
    }  # fmt: skip


def test_a_column_of_two_types_in_two_tables_is_text() -> None:
    parquet("a.parquet", image=["a.png"], id=[1], n=[1])
    parquet("b.parquet", image=["b.png"], id=["x"], n=[2])
    discovery = found("*.parquet", keep=["id", "n"])
    assert [(ref.path, *ref.kept) for ref in discovery] == [("a.png", 1, 1), ("b.png", "x", 2)]
    assert discovery.tables.kept == {"id": "string", "n": "int64"}
    assert listed("a.parquet", "*.parquet") == [("a.png",), ("b.png",)]


def test_addresses_are_shown_without_their_secrets_where_they_are_kept_too() -> None:
    Path("t.csv").write_text("image,x\nhttps://u:p@host/a.jpg?token=1,https://h/?token=1\n")
    hidden = "https://host/a.jpg?token=***"
    assert listed("t.csv", keep=["image", "x"]) == [(hidden, hidden, "https://h/?token=1")]


def test_without_the_column_a_table_is_no_image_and_in_lists_and_folders_never_a_table() -> None:
    Path("d").mkdir()
    for name in ("t.csv", "d/u.csv", "d/v.png"):
        Path(name).write_text("image\na.png\n")
    Path("list.txt").write_text("t.csv\n")
    assert listed("t.csv", "d/v.png", column=None) == [("t.csv",), ("d/v.png",)]
    assert listed("t.csv", "d", "@list.txt") == [("a.png",), ("d/v.png",), ("t.csv",)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "file,id\na,1\n", r"--image-column: t.csv has no column 'image'; .* 'id'"),
        ("t.csv", "image,x\na,1\n", r"--keep: t.csv has no column 'id'; .* 'image', 'x'"),
        ("t.csv", "image,id,id\na,1,2\n", "t.csv has two columns named 'id'"),
        ("t.csv", "", "t.csv cannot be read as a table: it is empty"),
        ("t.csv", "image,id\n", "t.csv holds no rows below its header"),
        ("t.csv", "a\0b", "t.csv: is not a text file"),
        ("t.jsonl", "", "t.jsonl holds no rows"),
        ("t.jsonl", '{"image": 1, "id": 1}', "--image-column: 'image' of t.jsonl holds numbers"),
        ("t.jsonl", '{"image": ["a"], "id": 1}', "'image' of t.jsonl holds lists"),
        ("t.jsonl", '{"image": "a"}\n[1]', "t.jsonl cannot be read as a table: line 2 is no JSON"),
        ("t.jsonl", '{"image": "a"}', "--keep: t.jsonl has no column 'id'"),
        ("t.parquet", "PAR1", "t.parquet cannot be read: corrupt: damaged or incomplete Parquet"),
    ],
)  # fmt: skip
def test_a_table_that_will_not_do_is_refused_before_anything_is_listed(
    name: str, content: str, message: str
) -> None:
    Path(name).write_text(content)
    with pytest.raises((InputError, OptionError), match=message) as caught:
        found(name, keep=["id"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (pa.array([1]), "--image-column: 'image' of t.pq holds int64"),
        (pa.array([{"path": "a"}]), "'image' of t.pq holds struct<path: string>"),
    ],
)
def test_a_parquet_column_without_images_is_refused(image: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        found(parquet("t.pq", image=image))


def test_what_parquet_cannot_give_is_refused() -> None:
    with pytest.raises(OptionError, match="--keep: 'raw' of t.parquet holds bytes"):
        found(parquet("t.parquet", image=["a"], raw=[{"bytes": b"x"}]), keep=["raw"])
    with pytest.raises(InputError, match="holds no rows"):
        found(parquet("t.parquet", image=pa.array([], pa.string())))
    with pytest.raises(InputError, match=r"https://host/t\.parquet: download a Parquet file first"):
        found("https://host/t.parquet")


def test_a_row_with_too_many_cells_stops_the_listing() -> None:
    Path("t.csv").write_text("image,id\na.png,1\nb.png,2,3\n")
    with pytest.raises(InputError, match="t.csv:3: 3 cells for 2 columns"):
        listed("t.csv")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("t.csv", "t.csv is a table, .* give classify --image-column NAME"),
        ("t.parquet", "t.parquet is a table, .* give classify --image-column NAME"),
        ("list.txt", "list.txt is a text, .* give @list.txt"),
        ("p.zip", "p.zip is an archive, .* give zip://p.zip"),
    ],
)
def test_what_is_no_image_alone_is_refused_and_says_how_it_is_given(name: str, given: str) -> None:
    Path(name).write_bytes(b"image\na.png\n")
    with pytest.raises(InputError, match=given):
        found(name, column=None)
    # A shell has put it among others: it has a row.
    Path("a.png").write_bytes(picture("red"))
    assert listed(name, "a.png", column=None) == [(name,), ("a.png",)]
    # The content decides, not the name, and a folder is searched.
    Path(name).write_bytes(picture("red"))
    assert listed(name, column=None) == [(name,)]
    Path(name).unlink()
    Path(name).mkdir()
    Path("a.png").rename(Path(name, "a.png"))
    assert listed(name, column=None) == [(f"{name}/a.png",)]


def test_the_column_needs_a_table_and_keep_the_column() -> None:
    Path("a.png").write_bytes(b"")
    with pytest.raises(OptionError, match=r"--image-column .* none of the inputs is one: .*\.csv"):
        found("a.png")
    with pytest.raises(OptionError, match="give --image-column too"):
        found("a.png", column=None, keep=["id"])
    with pytest.raises(OptionError, match="'id' twice"):
        found("a.png", keep=["id", "id"])
    with pytest.raises(InputError, match="no such file"):
        found("gone.csv")
    Path("folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder\.csv is no regular file"):
        found("folder.csv")


def test_parquet_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    parquet("t.parquet", image=["a.png"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'clipcls\[parquet\]'"):
        found("t.parquet")


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\r")))
def test_lines_put_together_are_the_text(text: str) -> None:
    pieces = list(lines(text))
    assert "".join(pieces) == text
    assert all(piece.find("\n") in (-1, len(piece) - 1) for piece in pieces)


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]))


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, st.just("end")), max_size=5), st.sampled_from(",;\t|"))
def test_any_cells_come_back_from_csv(rows: list[tuple[str, ...]], separator: str) -> None:
    quoted = [[f'"{c.replace(chr(34), chr(34) * 2)}"' for c in row] for row in rows]
    text = "\n".join(separator.join(row) for row in [["image", "x", "last"], *quoted])
    columns, found = delimited(text, "t.csv")
    assert columns == ["image", "x", "last"]
    assert [tuple(row) for row in found] == [tuple(c.strip() for c in row) for row in rows]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON)
def test_any_value_of_json_can_be_written(value: Any) -> None:
    [row] = json_lines(json.dumps({"a": value}), "t.jsonl")
    cell = plain_cell(row["a"])
    text = json.dumps(cell, ensure_ascii=False, allow_nan=isinstance(cell, float))
    assert "\\u0000" not in text
    assert text.encode("utf-8")
