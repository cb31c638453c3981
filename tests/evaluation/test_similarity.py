"""Texts beside images: texts and pairs from files, the matrix, the table."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import numpy as np
import pytest

from clipcls.errors import OptionError, OutputError, UsageError
from clipcls.evaluation.join import Naming
from clipcls.evaluation.similarity import (
    Similarity,
    compare,
    finish_texts,
    read_pairs,
    read_texts,
    text_classifier,
)
from clipcls.inputs.refs import ImageRef
from clipcls.outputs.base import write_file
from clipcls.testing import FakeEncoder, save_colours


def compared(paths: list[Path], texts: list[str], *, paired: bool = False) -> Similarity:
    classifier = text_classifier(texts, model=FakeEncoder())
    refs = [ImageRef(i, str(path)) for i, path in enumerate(paths)]
    return compare(classifier, refs, paired=paired)


def pairs(file: Path, *paths: str) -> list[str]:
    refs = [ImageRef(i, path) for i, path in enumerate(paths)]
    return read_pairs(file, refs, [], Naming())


def table(similarity: Similarity) -> list[list[str]]:
    return list(csv.reader(io.StringIO(similarity.csv().decode(), newline="")))


def test_the_matrix_holds_the_cosines(tmp_path: Path) -> None:
    paths = save_colours(tmp_path, ["red", "green", "blue"])
    found = compared(paths, ["a blue door", "a red one"])
    encoder = FakeEncoder()
    images = encoder.encode_images(
        np.stack([np.full((3, 8, 8), 0, np.uint8) + np.array(c, np.uint8)[:, None, None]
                  for c in ((220, 30, 30), (30, 180, 40), (30, 60, 220))])
    )  # fmt: skip
    expected = images @ encoder.encode_texts(["blue", "red"]).T
    assert found.matrix.dtype == np.float32
    assert found.matrix == pytest.approx(expected, abs=1e-6)
    assert found.matrix[0, 1] == pytest.approx(1, abs=1e-6)
    assert found.matrix[2, 0] == pytest.approx(1, abs=1e-6)


def test_texts_are_taken_as_they_are() -> None:
    texts = ["note", "a|b", "logit:x", "x", "an <> {} apple", "50 $ or 60 $"]
    assert text_classifier(texts, model=FakeEncoder()).prompts.flat() == texts


def test_a_failure_keeps_its_row(tmp_path: Path) -> None:
    paths = save_colours(tmp_path, ["red", "green", "blue"])
    paths[1].write_bytes(b"")
    found = compared(paths, ["red", "blue"])
    assert [(f.index, f.reason) for f in found.failures] == [(1, "empty file")]
    assert np.isnan(found.matrix[1]).all()
    assert found.scored == [0, 2]
    header, *rows = table(found)
    assert header == ["path", "red", "blue", "error"]
    assert rows[1] == [str(paths[1]), "", "", "empty file"]
    assert rows[0] == [str(paths[0]), "1.000000", f"{found.matrix[0, 1]:.6f}", ""]


def test_the_own_text_is_counted_without_failures(tmp_path: Path) -> None:
    paths = save_colours(tmp_path, ["red", "green", "blue", "white"])
    paths[3].write_bytes(b"")
    found = compared(paths, ["red", "blue tree", "green leaf", "white"], paired=True)
    assert found.own_is_best() == 1


def test_a_single_text_needs_no_warning_about_its_probability(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compared(save_colours(tmp_path, ["red"]), ["red"])
    assert caught == []
    with pytest.warns(UserWarning, match="reads 77"):
        compared(save_colours(tmp_path, ["red"]), ["red " * 80])


def test_texts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("# of my own\n\n a cat \na dog, asleep\n")
    assert read_texts(file) == ["a cat", "a dog, asleep"]
    file.write_text("# nothing\n")
    with pytest.raises(OptionError, match="holds no texts"):
        read_texts(file)
    with pytest.raises(OptionError, match="cannot be read"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(OptionError, match="--pairs"):
        read_texts(tmp_path / "captions.csv")


def test_the_prefix_stands_before_each_text() -> None:
    assert finish_texts(["a cat", "a dog"], "This is ") == ("This is a cat", "This is a dog")
    assert finish_texts(["path"], "a ") == ("a path",)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", "b", "a"], "the text 'a' is there twice"),
        (["a", " "], "a text is empty"),
        (["a\tb"], "line break, tab"),
        (["path"], "fixed column"),
        (["error"], "fixed column"),
    ],
)
def test_texts_that_no_table_can_hold_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        finish_texts(texts)


@pytest.mark.parametrize(
    "content",
    [
        "path,text\nb.jpg,two\na.jpg,one\nc.jpg,three\n",
        "Image;Caption\nx/a.jpg;one\nx/b.jpg;two\n",
        "id\tdescription\tfilename\n1\tone\t./a.jpg\n2\ttwo\t/data/x/b.jpg\n\n",
    ],
)
def test_pairs_are_found_by_the_end_of_the_path(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(content)
    assert pairs(file, "/data/x/a.jpg", "/data/x/b.jpg") == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("url,alt\nx,y\n", "no column of .*pairs.csv names the images"),
        ("path,a,b\na.jpg,1,2\nb.jpg,3,4\n", "choose one with --text-column: 'a', 'b'"),
        ("path,text\nb.jpg,two\n", r"no row for 1 of 2 images \(x/a.jpg\)"),
        (
            "path,text\na.jpg,one\na.jpg,two\nb.jpg,x\n",
            "a.jpg is one and two in the table: --pairs takes one text",
        ),
        ("", "cannot be read as a table"),
    ],
)
def test_pairs_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        pairs(file, "x/a.jpg", "b.jpg")


def test_a_file_follows_links_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "there" / "out.csv")
    write_file(link, b"data")
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["out.csv"]
    with pytest.raises(OutputError, match="cannot write"):
        write_file(tmp_path / "none" / "out.csv", b"data")
