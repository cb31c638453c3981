"""`clipcls similarity`: exit code, stdout, stderr."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Invoke

RGB = ("--text", "red", "--text", "blue", "--device", "cpu")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_stdout_is_data_and_stderr_is_everything_else(invoke: Invoke, colours: Path) -> None:
    result = invoke("similarity", colours, *RGB)
    assert result.exit_code == 0
    found = rows(result.stdout)
    assert list(found[0]) == ["path", "red", "blue", "error"]
    assert [row["red"] == "1.000000" for row in found[:3]] == [True, False, False]
    assert [row["blue"] == "1.000000" for row in found[:3]] == [False, False, True]
    assert "on cpu, fp32" in result.stderr
    assert "7 images" in result.stderr
    quiet = invoke("similarity", colours, *RGB, "--quiet")
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


def test_failures_have_rows_and_an_exit_code(invoke: Invoke, colours: Path) -> None:
    (colours / "zero.png").write_bytes(b"")
    result = invoke("similarity", colours, *RGB)
    assert result.exit_code == 3
    last = rows(result.stdout)[-1]
    assert (last["red"], last["error"]) == ("", "empty file")
    assert "Failed: 1 of 8 images" in result.stderr
    assert "zero.png: empty file" in result.stderr


def test_what_a_failure_advises_can_be_done(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    result = invoke("similarity", path, *RGB)
    assert result.exit_code == 3
    assert "--truncated accept" in result.stderr
    assert invoke("similarity", path, *RGB, "--truncated", "accept").exit_code == 0
    small = invoke("similarity", path, *RGB, "--max-megapixels", "0.001")
    assert "--max-megapixels" in rows(small.stdout)[0]["error"]


def test_texts_come_from_files_and_labels_with_a_prefix(invoke: Invoke, colours: Path) -> None:
    file = colours.parent / "texts.txt"
    file.write_text("a red ball\na blue ball\n")
    given = invoke("similarity", colours, "--text", "sky", "--texts", file, "--prefix", "This is ")
    assert list(rows(given.stdout)[0]) == [
        "path", "This is sky", "This is a red ball", "This is a blue ball", "error",
    ]  # fmt: skip
    labels = invoke("similarity", colours, "--labels", "no-red=blue|a green one,old_red")
    assert list(rows(labels.stdout)[0]) == ["path", "blue", "a green one", "old red", "error"]
    piped = invoke("similarity", colours, "--texts", "-", stdin=b"red\n")
    assert list(rows(piped.stdout)[0]) == ["path", "red", "error"]
    assert "only label" not in piped.stderr


def test_each_output_has_its_file(invoke: Invoke, colours: Path, tmp_path: Path) -> None:
    table, heat = tmp_path / "sim.csv", tmp_path / "heat.SVG"
    result = invoke("similarity", colours, *RGB, "-o", heat, "-o", table)
    assert (result.exit_code, result.stdout) == (0, "")
    assert table.read_bytes().startswith(b"path,red,blue,error\r\n")
    assert b"<svg" in heat.read_bytes()
    both = invoke("similarity", colours, *RGB, "-o", heat, "-o", "-", "--overwrite")
    assert both.stdout_bytes == table.read_bytes()


def test_when_all_fail_the_numbers_are_there_and_the_heat_map_is_not(
    invoke: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "zero.png").write_bytes(b"")
    outputs = ("-o", tmp_path / "heat.png", "-o", tmp_path / "sim.csv")
    result = invoke("similarity", tmp_path / "zero.png", *RGB, *outputs)
    assert result.exit_code == 1
    assert "Error: there is nothing to draw" in result.stderr
    assert (tmp_path / "sim.csv").is_file()
    assert not (tmp_path / "heat.png").exists()


def test_pairs_say_how_often_the_own_text_is_best(
    invoke: Invoke, colours: Path, tmp_path: Path
) -> None:
    file = tmp_path / "captions.csv"
    file.write_text("file,caption\n1-green.png,a green one\n0-red.png,red\n2-blue.png,white\n")
    images = [colours / name for name in ("0-red.png", "1-green.png", "2-blue.png")]
    result = invoke("similarity", *images, "--pairs", file)
    assert list(rows(result.stdout)[0]) == ["path", "red", "a green one", "white", "error"]
    assert "own text is the most similar for 2 of 3 images" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "texts come from one place: give --text"),
        (["--text", "a", "--labels", "b"], "texts come from one place"),
        (["--text", "a", "--pairs", "p.csv"], "texts come from one place"),
        (["--text", "a", "--text", "a"], "the text 'a' is there twice"),
        (["--text", ""], "a text is empty"),
        (["--text", "path"], "the name of a fixed column"),
        (["--texts", "none.txt"], "none.txt: cannot be read"),
        (["--pairs", "none.csv"], "none.csv: cannot be read"),
        (["--pairs", "-", "--prefix", "x"], "- holds no rows"),
        (["--text", "a", "-o", "out.xlsx"], "the extension of out.xlsx says no format"),
        (["--text", "a", "-o", "none/out.csv"], "the folder none does not exist"),
        (["--text", "a", "--model", "ViT-B-33"], "ViT-B-32"),
    ],
)
def test_a_slip_is_one_line_and_exit_code_2(
    invoke: Invoke, colours: Path, arguments: list[str], message: str
) -> None:
    result = invoke("similarity", colours, *arguments, stdin=b"a,b\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_standard_input_is_read_once(invoke: Invoke) -> None:
    result = invoke("similarity", "-", "--texts", "-", stdin=b"")
    assert result.exit_code == 2
    assert "only once" in result.stderr


def test_an_output_is_not_replaced_by_chance(invoke: Invoke, colours: Path) -> None:
    out = colours.parent / "out.csv"
    out.write_text("mine")
    result = invoke("similarity", colours, *RGB, "-o", out)
    assert result.exit_code == 2
    assert f"{out} exists: --overwrite replaces it" in result.stderr
    assert invoke("similarity", colours, *RGB, "-o", out, "--overwrite").exit_code == 0
    assert out.read_text().startswith("path,")
    image = colours / "0-red.png"
    read = invoke("similarity", colours, *RGB, "-o", image, "--overwrite")
    assert read.exit_code == 2
    assert "is read by this run" in read.stderr
