"""Rows of a table and the images that they mean."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcls.errors import InputError, MissingExtraError, OptionError, UsageError
from clipcls.evaluation.join import Images, JoinReport, Naming, Values, join_rows, read_table
from clipcls.evaluation.truth import LABEL_NAMES
from clipcls.inputs.refs import ImageRef
from clipcls.labels import make_labels

TRUTH = Values("truth", "--label-column", LABEL_NAMES)


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(path: Path) -> list[list[str]]:
    frame = read_table(path)
    return [list(frame.columns), *([str(cell) for cell in row] for row in frame.to_numpy())]


def refs_of(paths: Sequence[str]) -> list[ImageRef]:
    return [ImageRef(i, path) for i, path in enumerate(paths)]


def joined(
    table: Path,
    paths: Sequence[str],
    roots: Sequence[str] = (),
    naming: Naming | None = None,
    values: Values = TRUTH,
) -> tuple[dict[str, str], JoinReport]:
    pairs, report = join_rows(refs_of(paths), roots, table, values, naming or Naming())
    return {pair.ref.path: pair.value for pair in pairs}, report


def message_of(table: Path, paths: Sequence[str], roots: Sequence[str] = (), **naming: str) -> str:
    with pytest.raises(UsageError) as caught:
        joined(table, paths, roots, Naming(**naming))
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_delimiter_encoding_and_line_ends_are_detected(
    tmp_path: Path, delimiter: str, encoding: str, line_end: str
) -> None:
    text = line_end.join([f"path{delimiter}größe", f"café.jpg{delimiter} groß ", ""])
    path = written(tmp_path, text.encode(encoding))
    assert rows(path) == [["path", "größe"], ["café.jpg", "groß"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_line_of_excel_names_the_delimiter(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "sep=;\r\npath;a,b,c\r\nx.jpg;1,2\r\n".encode(encoding))
    assert rows(path) == [["path", "a,b,c"], ["x.jpg", "1,2"]]


def test_quotes_hold_delimiters_line_breaks_and_quotes(tmp_path: Path) -> None:
    text = 'path,label\r\n"a, b.jpg","say ""x"""\r\n"c.jpg", "two\nlines"\r\n27" tv.jpg,x\r\n'
    assert rows(written(tmp_path, text)) == [
        ["path", "label"],
        ["a, b.jpg", 'say "x"'],
        ["c.jpg", "two\nlines"],
        ['27" tv.jpg', "x"],
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.tsv", "id\tlabel\n0001\tNA\n0002\tnull\n3.0\tNone\n1e5\tnan\nTRUE\t\n"),
        (
            "t.jsonl",
            '{"id": "0001", "label": "NA"}\n{"id": "0002", "label": "null"}\n\n'
            '{"id": "3.0", "label": "None"}\n{"id": "1e5", "label": "nan"}\n'
            '{"id": "TRUE", "label": null}\n',
        ),
    ],
)
def test_texts_stay_as_they_are(tmp_path: Path, name: str, content: str) -> None:
    expected = [["0001", "NA"], ["0002", "null"], ["3.0", "None"], ["1e5", "nan"], ["TRUE", ""]]
    assert rows(written(tmp_path, content, name)) == [["id", "label"], *expected]


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "JSONL"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_lines(tmp_path: Path, suffix: str, encoding: str) -> None:
    text = (
        '{"01": "ä.jpg", "n": 1, "big": 9007199254740993, "list": ["a", "b"], "half": 0.5}\r\n'
        '{"01": "b.jpg", "n": null, "list": [], "half": 1, "more": {"x": 1}}\r\n'
    )
    assert rows(written(tmp_path, text.encode(encoding), f"t.{suffix}")) == [
        ["01", "n", "big", "list", "half", "more"],
        ["ä.jpg", "1", "9007199254740993", "a;b", "0.5", ""],
        ["b.jpg", "", "", "", "1", '{"x": 1}'],
    ]


@pytest.mark.parametrize("suffix", ["parquet", "pq"])
def test_parquet(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    pd.DataFrame(
        {
            "id": ["0001", None],
            "gaps": [1.0, None],
            "nullable": pd.array([2, None], dtype="Int64"),
            "half": [1.0, 0.5],
            "huge": [1e30, float("inf")],
            "list": [["a", "b"], None],
            "kind": pd.Categorical(["NA", "None"]),
        }
    ).to_parquet(path)
    assert rows(path) == [
        ["id", "gaps", "nullable", "half", "huge", "list", "kind"],
        ["0001", "1", "2", "1.0", "1e+30", "a;b", "NA"],
        ["", "", "", "0.5", "inf", "", "None"],
    ]


def test_a_named_index_in_parquet_is_a_column(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"path": ["a.jpg"], "label": ["x"]}).set_index("path").to_parquet(path)
    assert rows(path) == [["path", "label"], ["a.jpg", "x"]]


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, b"PAR1", "t.parquet")
    for module in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=r"clipcls\[parquet\]"):
        read_table(path)


def test_cells_that_spreadsheets_fill_up_do_not_count(tmp_path: Path) -> None:
    path = written(tmp_path, "\n,path,label,\n0,a.jpg,cat,,\n1,b.jpg\n,,,\n\n")
    assert rows(path)[1:] == [["0", "a.jpg", "cat"], ["1", "b.jpg", ""]]
    assert joined(path, ["a.jpg", "b.jpg"])[0] == {"a.jpg": "cat", "b.jpg": ""}


def test_many_columns_are_read(tmp_path: Path) -> None:
    names = ["id", *(f"v{i}" for i in range(1, 513)), "glasses"]
    line = ",".join(["0.123456"] * 512)
    lines = [f"{i},{line},{i % 2}" for i in range(1, 5001)]
    frame = read_table(written(tmp_path, "\n".join([",".join(names), *lines])))
    assert frame.shape == (5000, 514)
    assert list(frame["glasses"].head(3)) == ["1", "0", "1"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", b"", "cannot be read as a table: it is empty"),
        ("t.csv", b"\n \n", "cannot be read as a table: it is empty"),
        ("t.csv", b"path,label\n", "holds no rows below its header"),
        ("t.csv", b"path,label\n,\n", "holds no rows below its header"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not a text file"),
        ("t.csv", b'path,label\n"a.jpg,cat\nb.jpg,dog\n', "unexpected end of data"),
        ("t.csv", b"path,label\na.jpg,cat,dog\n", r"t\.csv:2: 3 cells for 2 columns: put quotes"),
        ("t.csv", b"sep=,\npath,label\na,b\na,b,c\n", r"t\.csv:4: 3 cells for 2 columns"),
        ("t.csv", b"path,a,a\nx,1,2\n", "has two columns named 'a': rename one"),
        ("t.csv", b"path,a ,a\nx,1,2\n", "has two columns named 'a': rename one"),
        ("t.jsonl", b"", "holds no rows"),
        ("t.jsonl", b'{"a": 1}\n{"a":\n', "cannot be read as a table: line 2 is no JSON"),
        ("t.jsonl", b"[1, 2]\n3\n", "cannot be read as a table: line 1 is no JSON object"),
        ("t.jsonl", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not a text file"),
        ("t.parquet", b"", "cannot be read as a table: "),
        ("t.parquet", b"path,label\n", "cannot be read as a table: "),
    ],
)
def test_what_is_no_table_is_said_in_one_line(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        read_table(written(tmp_path, content, name))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_missing_file_and_a_folder_are_input_errors(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=rf"none\.{suffix}:? cannot be read: No such file"):
        read_table(tmp_path / f"none.{suffix}")
    folder = tmp_path / f"folder.{suffix}"
    folder.mkdir()
    with pytest.raises(InputError, match=rf"folder\.{suffix}"):
        read_table(folder)


# ---- names


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("x/a.jpg", "photos/x/a.jpg"),
        ("./x/a.jpg", "photos/x/a.jpg"),
        ("photos/x/a.jpg", "photos/x/a.jpg"),
        ("a.jpg", "photos/x/a.jpg"),
        ("./a.jpg", "./photos/x/a.jpg"),
        (r"x\a.jpg", "photos/x/a.jpg"),
        (r".\photos\x\a.jpg", "photos/x/a.jpg"),
        (r"C:\data\photos\x\a.jpg", "photos/x/a.jpg"),
        (r"data/photos\x\a.jpg", "photos/x/a.jpg"),
        ("/mnt/other/x/a.jpg", "photos/x/a.jpg"),
        ("https://example.org/x/a.jpg", "photos/x/a.jpg"),
        ("a", "photos/x/a.jpg"),
        ("x/a", "photos/x/a.jpg"),
        ("a.png", "photos/x/a.jpg"),
        ("IMG.1.tiff", "photos/IMG.1.jpg"),
        ("IMG.1", "photos/IMG.1.jpg"),
        ("0001", "photos/0001.jpg"),
        ("[a] (1) *.jpg", "photos/[a] (1) *.jpg"),
    ],
)
def test_a_row_names_its_image(tmp_path: Path, name: str, image: str) -> None:
    table = written(tmp_path, f"path,label\n{name},cat\nnone.jpg,dog\n")
    found, report = joined(table, [image, "photos/other.jpg"], ["photos", "./photos"])
    assert found == {image: "cat"}
    assert report.rows_without_image == ("none.jpg",)
    assert report.images_without_row == ("photos/other.jpg",)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("y/a.jpg", "photos/x/a.jpg"),
        ("y/x/a.jpg", "photos/z/x/a.jpg"),
        ("/mnt/photos/a.jpg", "photos/x/a.jpg"),
        ("1", "photos/01.jpg"),
        ("1.5", "photos/1.jpg"),
        ("A.jpg", "photos/a.jpg"),
        ("", "photos/a.jpg"),
        ("/", "photos/a.jpg"),
    ],
)
def test_a_row_of_another_folder_or_name_does_not_match(
    tmp_path: Path, name: str, image: str
) -> None:
    table = written(tmp_path, f"path,label\n{name},cat\nother.jpg,dog\n")
    found, report = joined(table, [image, "photos/other.jpg"], ["photos"])
    assert found == {"photos/other.jpg": "dog"}
    assert report.rows_without_image == (name,)
    assert report.images_without_row == (image,)


@pytest.mark.parametrize(("in_table", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_accents_match_in_either_form(
    tmp_path: Path, in_table: str, on_disk: str
) -> None:
    name, image = (unicodedata.normalize(form, "é/ö.jpg") for form in (in_table, on_disk))  # type: ignore[arg-type]
    assert joined(written(tmp_path, f"path,label\n{name},cat\n"), [image])[0] == {image: "cat"}


def test_a_backslash_in_the_name_of_an_image_is_a_character(tmp_path: Path) -> None:
    table = written(tmp_path, "path,label\na\\b.jpg,one\nb.jpg,two\n")
    found, _ = joined(table, ["photos/a\\b.jpg", "photos/b.jpg"], ["photos"])
    assert found == {"photos/a\\b.jpg": "one", "photos/b.jpg": "two"}
    assert Images(refs_of(["a\\b.jpg"]), []).below == {0: ("a\\b.jpg",)}


def test_the_same_name_in_two_folders_is_ambiguous_unless_the_table_says_the_folder(
    tmp_path: Path,
) -> None:
    images = ["photos/train/1.jpg", "photos/val/1.jpg", "photos/val/2.jpg"]
    table = written(tmp_path, "path,label\n1.jpg,cat\n2.jpg,dog\n")
    found, report = joined(table, images, ["photos"])
    assert found == {"photos/val/2.jpg": "dog"}
    assert report.ambiguous == (
        ("1.jpg", "names 2 images: photos/train/1.jpg and photos/val/1.jpg"),
    )
    table = written(tmp_path, "path,label\nval/1.jpg,cat\ntrain/1.jpg,dog\n")
    found, report = joined(table, images, ["photos"])
    assert found == {"photos/val/1.jpg": "cat", "photos/train/1.jpg": "dog"}
    assert report.ambiguous == ()


def test_a_relative_path_means_the_image_that_has_no_more_to_its_path(tmp_path: Path) -> None:
    images = ["photos/x/a.jpg", "photos/y/x/a.jpg", "photos/a.jpg"]
    table = written(tmp_path, "path,label\nx/a.jpg,one\ny/x/a.jpg,two\na.jpg,three\n")
    found, report = joined(table, images, ["photos"])
    assert list(found.values()) == ["one", "two", "three"]
    assert list(found) == images
    assert report.ambiguous == ()


def test_a_table_of_several_sets_is_of_the_set_whose_folder_is_given(tmp_path: Path) -> None:
    lines = ["train/1.jpg,dog", "val/1.jpg,cat", "train/2.jpg,dog", "test/3.jpg,cow"]
    table = written(tmp_path, "\n".join(["path,label", *lines]))
    images = ["data/val/1.jpg", "data/val/2.jpg"]
    found, report = joined(table, images, ["data/val"])
    assert found == {"data/val/1.jpg": "cat"}
    assert report.rows_without_image == ("train/1.jpg", "train/2.jpg", "test/3.jpg")
    assert report.images_without_row == ("data/val/2.jpg",)
    assert report.ambiguous == ()
    # Where no row has the folder's name, it was renamed.
    found, _ = joined(table, ["mine/2.jpg", "mine/3.jpg"], ["mine"])
    assert found == {"mine/2.jpg": "dog", "mine/3.jpg": "cow"}


def test_the_exact_name_wins_over_the_stem(tmp_path: Path) -> None:
    table = written(tmp_path, "path,label\na.jpg,one\na.png,two\nb,three\nc,four\nd.1,five\n")
    images = ["a.jpg", "a.png", "b.jpg", "c.jpg", "d.jpg", "d.1.jpg"]
    found, report = joined(table, images)
    assert found == {
        "a.jpg": "one",
        "a.png": "two",
        "b.jpg": "three",
        "c.jpg": "four",
        "d.1.jpg": "five",
    }
    assert "images are matched without their extensions" in report.notes


def test_a_stem_of_two_images_is_ambiguous(tmp_path: Path) -> None:
    table = written(tmp_path, "path,label\na,one\nb,two\n")
    found, report = joined(table, ["a.jpg", "a.png", "b.jpg"])
    assert found == {"b.jpg": "two"}
    assert [name for name, _ in report.ambiguous] == ["a"]


def test_a_row_twice_counts_once_and_with_two_truths_not_at_all(tmp_path: Path) -> None:
    table = written(
        tmp_path, "path,label\na.jpg,cat\n./a.jpg,cat\nb.jpg,cat\nb.jpg,dog\nc.jpg,dog\n"
    )
    found, report = joined(table, ["a.jpg", "b.jpg", "c.jpg"])
    assert found == {"a.jpg": "cat", "c.jpg": "dog"}
    assert report.ambiguous == (("b.jpg", "is cat and dog in the table"),)
    assert report.images_without_row == ()


def test_an_image_given_twice_is_one(tmp_path: Path) -> None:
    table = written(tmp_path, "path,label\na.jpg,cat\n")
    pairs, _ = join_rows(refs_of(["x/a.jpg", "x/a.jpg"]), ["x"], table, TRUTH, Naming())
    assert [(pair.ref.index, pair.value) for pair in pairs] == [(0, "cat")]


# ---- columns


SAMPLED = "path,label,chosen_by\na.jpg,cat,chance\nb.jpg,dog,queue\nc.jpg,cat,person\n"


def test_of_a_table_that_a_report_made_the_random_sample_counts(tmp_path: Path) -> None:
    """What was chosen is told apart from images without a row."""
    table = written(tmp_path, SAMPLED)
    found, report = joined(table, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    assert found == {"a.jpg": "cat"}
    assert (report.not_by_chance, report.images_without_row) == (2, ("d.jpg",))
    assert any("drawn at random" in line and "2 rows" in line for line in report.lines())


def test_without_a_random_sample_all_rows_count_and_that_is_said(tmp_path: Path) -> None:
    table = written(tmp_path, SAMPLED.replace("chance", "person"))
    found, report = joined(table, ["a.jpg", "b.jpg", "c.jpg"])
    assert len(found) == 3
    assert report.not_by_chance == 0
    assert "no row was drawn at random" in " ".join(report.notes)


def test_a_column_of_that_name_with_other_words_means_nothing(tmp_path: Path) -> None:
    table = written(tmp_path, SAMPLED.replace("queue", "anna"))
    found, report = joined(table, ["a.jpg", "b.jpg", "c.jpg"])
    assert len(found) == 3
    assert "random" not in " ".join(report.notes)


def test_a_name_that_is_not_utf_8_is_found_as_outputs_write_it(tmp_path: Path) -> None:
    table = written(tmp_path, "path,label\ncaf\\udce9.jpg,cat\nb.jpg,dog\n")
    found, _ = joined(table, ["caf\udce9.jpg", "b.jpg"])
    assert found == {"caf\udce9.jpg": "cat", "b.jpg": "dog"}


def test_the_image_column_is_guessed_by_content(tmp_path: Path) -> None:
    table = written(tmp_path, "number,what,label\n7,a.jpg,cat\n8,b.jpg,dog\n")
    found, report = joined(table, ["x/a.jpg", "x/b.jpg"])
    assert found == {"x/a.jpg": "cat", "x/b.jpg": "dog"}
    assert report.notes[0] == "images are named by the column 'what'"


def test_of_two_columns_with_the_names_a_usual_one_is_taken(tmp_path: Path) -> None:
    table = written(tmp_path, "copy,filename,label\na.jpg,a.jpg,cat\n")
    assert joined(table, ["a.jpg"])[1].notes[0] == "images are named by the column 'filename'"


@pytest.mark.parametrize("header", ["file,label", "path,split,class", "photo_ref,species"])
def test_a_truth_that_is_by_chance_the_stem_of_an_image_does_not_name_it(
    tmp_path: Path, header: str
) -> None:
    between = ",train" * (header.count(",") - 1)
    table = written(tmp_path, f"{header}\nx.jpg{between},cat\ny.jpg{between},dog\n")
    message = message_of(table, ["cat.jpg", "dog.jpg"])
    assert f"no column of {table} names the images" in message


@pytest.mark.parametrize(
    "content",
    [
        "label,kind\ncat,animal\n",  # called so, but nothing else could name the image
        "file,label\nanimal,cat.jpg\n",  # a whole name is no chance
        "code,original,species\ncat,IMG_1.jpg,animal\n",
        "title,id\nanimal,cat\n",
    ],
)
def test_a_stem_names_the_image_where_it_can_be_nothing_else(tmp_path: Path, content: str) -> None:
    column = None if "species" not in content else "species"
    values = Values("truth", "--label-column", LABEL_NAMES, column)
    assert joined(written(tmp_path, content), ["cat.jpg"], values=values)[0] == {
        "cat.jpg": "animal"
    }


def test_several_columns_with_the_names_must_be_chosen_from(tmp_path: Path) -> None:
    table = written(tmp_path, "one,two,label\na.jpg,a.jpg,cat\n")
    message = message_of(table, ["a.jpg"])
    assert "the columns 'one', 'two' all name the images: choose one with --image-column" in message
    assert joined(table, ["a.jpg"], naming=Naming("two"))[0] == {"a.jpg": "cat"}


@pytest.mark.parametrize(
    ("header", "column", "values"),
    [
        ("path,size,Label", "Label", TRUTH),
        ("path,size,class", "class", TRUTH),
        ("path,kind", "kind", TRUTH),
        (
            "path,size,kind",
            "kind",
            Values("truth", "--label-column", LABEL_NAMES, labels=make_labels("cat,no-glasses")),
        ),
    ],
)
def test_the_label_column_is_guessed(
    tmp_path: Path, header: str, column: str, values: Values
) -> None:
    width = header.count(",")
    table = written(
        tmp_path,
        f"{header}\na.jpg,{'3,' * (width - 1)}cat\nb.jpg,{'3,' * (width - 1)}No Glasses\n",
    )
    found, report = joined(table, ["a.jpg", "b.jpg"], values=values)
    assert found == {"a.jpg": "cat", "b.jpg": "No Glasses"}
    assert f"the truth is the column '{column}'" in report.notes


def test_an_empty_column_is_not_the_truth(tmp_path: Path) -> None:
    values = Values("truth", "--label-column", LABEL_NAMES, labels=make_labels("cat,dog"))
    table = written(tmp_path, "path,remark,kind\na.jpg,,cat\n")
    assert joined(table, ["a.jpg"], values=values)[0] == {"a.jpg": "cat"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,a,b\na.jpg,1,2\n", "choose one with --label-column: 'a', 'b'"),
        ("path,label,class\na.jpg,1,2\n", "choose one with --label-column: 'label', 'class'"),
        ("path,1,2,3,4,5,6,7,8,9,10\na.jpg" + ",x" * 10, "'8' and 2 more"),
    ],
)
def test_a_label_column_that_cannot_be_guessed_is_asked_for(
    tmp_path: Path, content: str, message: str
) -> None:
    assert message in message_of(written(tmp_path, content), ["a.jpg"])


def test_columns_that_are_not_there_are_refused_with_those_that_are(tmp_path: Path) -> None:
    table = written(tmp_path, "path,label\na.jpg,cat\n")
    there = "has no column 'file'; its columns are 'path', 'label'"
    message = message_of(table, ["a.jpg"], image_column="file")
    assert message == f"--image-column: {table} {there}"
    with pytest.raises(OptionError, match=rf"--label-column: .* {there}"):
        joined(table, ["a.jpg"], values=Values("truth", "--label-column", LABEL_NAMES, "file"))


# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "image"),
    [
        ("face-{id}.png", "faces/face-7.png"),
        ("face-{id:05}.png", "faces/face-00007.png"),
        ("face-{id:5d}.png", "faces/face-00007.png"),
        ("face-{id}", "faces/face-7.png"),
        ("{set}/face-{id}-{id:03}.png", "b/face-7-007.png"),
        ("{set}-{odd}-{id}.png", "b-{id}-7.png"),
        ("50%s-{id}.png", "50%s-7.png"),
        ("{odd}{id}.png", "{id}7.png"),
        ("{back}.png", r"faces/\1\g<0>.png"),
        (r"{set}\{id}.png", "b/7.png"),
    ],
)
def test_a_pattern_makes_the_name_of_columns(tmp_path: Path, pattern: str, image: str) -> None:
    table = written(
        tmp_path,
        "id,set,odd,back,label\n7,b,{id},\\1\\g<0>,cat\n8,c,{id},x,dog\n",
    )
    found, report = joined(table, [image], naming=Naming(image_pattern=pattern))
    assert found == {image: "cat"}
    assert len(report.rows_without_image) == 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("face-{nr}.png", "--image-pattern: .* has no column 'nr'; its columns are 'id', 'label'"),
        ("face-id.png", r"has no slot: write a column in braces, such as \{id\}"),
        ("", "has no slot"),
    ],
)
def test_a_pattern_that_cannot_be_filled(tmp_path: Path, pattern: str, message: str) -> None:
    table = written(tmp_path, "id,label\n7,cat\n")
    with pytest.raises(OptionError, match=message):
        joined(table, ["face-7.png"], naming=Naming(image_pattern=pattern))


def test_a_pattern_and_a_column_contradict_each_other() -> None:
    with pytest.raises(OptionError, match="--image-column and --image-pattern contradict"):
        Naming("path", "{id}.png")


# ---- nothing joins


def test_when_nothing_joins_both_sides_are_shown(tmp_path: Path) -> None:
    table = written(tmp_path, "path,label\nx/7.jpg,cat\n")
    message = message_of(table, ["photos/y/9.jpg"], ["photos"], image_column="path")
    assert "'x/7.jpg'" in message
    assert "'y/9.jpg'" in message
    assert "--image-pattern" in message
    message = message_of(table, ["photos/y/9.jpg"], ["photos"])
    assert "its first row is path=x/7.jpg, label=cat, the first image is y/9.jpg" in message
    assert "--image-column names the column, --image-pattern builds the name" in message


def test_when_a_number_gives_the_pattern_away_it_is_proposed(tmp_path: Path) -> None:
    table = written(tmp_path, "number,kind\n7,cat\n9,dog\n")
    images = ["photos/photo-8.jpg", "photos/photo-9.jpg"]
    message = message_of(table, images, ["photos"])
    assert "perhaps --image-pattern 'photo-{number}.jpg'" in message
    naming = Naming(image_pattern="photo-{number}.jpg")
    assert joined(table, images, naming=naming)[0] == {"photos/photo-9.jpg": "dog"}


@pytest.mark.parametrize("naming", [{}, {"image_column": "path"}])
@pytest.mark.parametrize("name", ["1.jpg", "1"])
def test_when_everything_is_ambiguous_the_first_is_shown(
    tmp_path: Path, name: str, naming: dict[str, str]
) -> None:
    table = written(tmp_path, f"path,label\n{name},cat\n")
    message = message_of(table, ["p/a/1.jpg", "p/b/1.jpg"], ["p"], **naming)
    assert message == f"no row of {table} means one image: {name} names 2 images: p/a/1.jpg and p/b/1.jpg"  # fmt: skip  # noqa: E501


# ---- the report


_folders = st.lists(st.sampled_from(["x", "y"]), max_size=2)
_names = st.sampled_from(["1.jpg", "2.jpg", "1.png", "1.1.jpg", "3.jpg"])
_row_names = st.sampled_from(["1.jpg", "2.jpg", "1.png", "1", "3", "1.1", "2.png", "9.jpg"])
_paths = st.builds(lambda folders, name: "/".join([*folders, name]), _folders, _names)
_cells = st.builds(lambda folders, name: "/".join([*folders, name]), _folders, _row_names)


@settings(max_examples=150, deadline=None)
@given(
    paths=st.lists(_paths, min_size=1, max_size=6, unique=True),
    cells=st.lists(st.tuples(_cells, st.sampled_from(["cat", "dog"])), min_size=1, max_size=6),
)
def test_every_row_and_every_image_is_accounted_for_once(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], cells: list[tuple[str, str]]
) -> None:
    images = [f"root/{path}" for path in paths]
    lines = [f"{name},{value}" for name, value in cells]
    table = written(tmp_path_factory.mktemp("t"), "\n".join(["path,label", *lines]))
    try:
        pairs, report = join_rows(refs_of(images), ["root"], table, TRUTH, Naming("path"))
    except InputError:
        return
    matched = [pair.ref.path for pair in pairs]
    contested = [name for name, why in report.ambiguous if why.startswith("is ")]
    assert sorted([*matched, *contested, *report.images_without_row]) == sorted(images)
    unclear = [name for name, why in report.ambiguous if why.startswith("names ")]
    rest = Counter(name for name, _ in cells) - Counter([*unclear, *report.rows_without_image])
    assert len(unclear) + len(report.rows_without_image) + sum(rest.values()) == len(cells)
    for pair in pairs:
        own = pair.ref.path.rsplit("/", 1)[1]
        names = {own, own.rsplit(".", 1)[0]}
        rows_of_it = [
            name
            for name, value in cells
            if value == pair.value and name in rest and fits(name.rsplit("/", 1)[-1], names)
        ]
        assert rows_of_it


def fits(last: str, names: set[str]) -> bool:
    return bool({last, last.rsplit(".", 1)[0]} & names)


def test_the_report_is_one_line_each_and_names_the_first_three() -> None:
    report = JoinReport(
        notes=("a guess",),
        rows_without_image=("1", "2", "3", "4"),
        images_without_row=("a\nb.jpg",),
        ambiguous=(("1.jpg", "names 2 images: x and y"),),
        unknown_values={"cow": 2},
        without_truth=("c.jpg", "d.jpg"),
        left_out=1234,
    )
    assert list(report.lines()) == [
        "a guess",
        "4 rows without an image, left out: 1, 2, 3, ...",
        r"1 image without a row, left out: a\nb.jpg",
        "1 ambiguous match, left out: 1.jpg names 2 images: x and y",
        "2 images without a label, left out: c.jpg, d.jpg",
        "1 label that is not ours, left out: cow (2)",
        "1,234 labelled images left out, as asked",
    ]


# ---- images in archives


@pytest.mark.parametrize("scheme", ["tar", "zip"])
@pytest.mark.parametrize("archive", ["s.tar", "x/s.tar", "s3://bucket/s.tar"])
def test_an_archive_is_like_a_folder(tmp_path: Path, scheme: str, archive: str) -> None:
    images = [f"{scheme}://{name}::{archive}" for name in ("./cat/1.jpg", "dog/1.jpg", "2.jpg")]
    truth = dict(zip(images, ("a", "b", "c"), strict=True))
    for names in (
        ("cat/1.jpg", "dog/1.jpg", "2.jpg"),
        ("cat/1", "dog/1", "2"),
        (f"{archive}/cat/1.jpg", f"{archive}/dog/1.jpg", f"{archive}/2.jpg"),
    ):
        table = "".join(f"{name},{label}\n" for name, label in zip(names, "abc", strict=True))
        found, report = joined(written(tmp_path, f"file,label\n{table}"), images)
        assert found == truth
        assert not report.images_without_row
    # So are its folders classes.
    classes = Images(refs_of(images), ["elsewhere"])
    assert [classes.below[place][0] for place in classes.places] == ["cat", "dog", "2.jpg"]


def test_several_shards_of_the_same_names_are_told_apart(tmp_path: Path) -> None:
    images = ["tar://1.jpg::s-0.tar", "tar://1.jpg::s-1.tar"]
    table = written(tmp_path, "file,label\ns-1.tar/1.jpg,b\ns-0.tar/1.jpg,a\n")
    assert joined(table, images)[0] == {images[0]: "a", images[1]: "b"}
    both = written(tmp_path, "file,label\n1.jpg,a\n")
    assert "names 2 images" in message_of(both, images, image_column="file")


def test_a_row_may_name_the_key_of_a_sample(tmp_path: Path) -> None:
    images = ["tar://d/1.input.jpg::s.tar", "tar://d/2.input.jpg::s.tar"]
    table = written(tmp_path, "id,label\n1,a\nd/2,b\n")
    assert list(joined(table, images)[0].values()) == ["a", "b"]
