"""`clipcls sort` and `classify --sort-into`: what is said, printed, and the exit code."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from clipcls.testing import save_colours
from tests.cli.conftest import Invoke

ASKED = ("--labels", "red,green,blue,yellow", "--model", "fast", "-t", "<>")


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*") if p.suffix == ".png")


@pytest.fixture
def output(invoke: Invoke, colours: Path, tmp_path: Path) -> Path:
    (colours / "broken.png").write_bytes(b"")
    path = tmp_path / "out.csv"
    assert invoke("classify", colours, *ASKED, "-o", path).exit_code == 3
    return path


SORTED = ["blue/2-blue.png", "blue/5-blue.png", "failed/broken.png", "green/1-green.png",
          "red/0-red.png", "red/3-red.png", "red/6-red.png", "yellow/4-yellow.png"]  # fmt: skip


def test_a_dry_run_prints_the_plan_and_does_nothing(
    invoke: Invoke, output: Path, colours: Path, tmp_path: Path
) -> None:
    (colours / "5-blue.png").unlink()
    result = invoke("sort", output, tmp_path / "sorted", "--dry-run", "--top", 2)
    assert result.exit_code == 3
    assert result.stderr == ""
    header, *rows = csv.reader(result.stdout.splitlines())
    assert header == ["path", "target", "note"]
    assert rows == [
        [str(colours / name), target, note]
        for name, target, note in (
            ("0-red.png", "red/0-red.png", ""),
            ("1-green.png", "green/1-green.png", ""),
            ("2-blue.png", "blue/2-blue.png", ""),
            ("3-red.png", "red/3-red.png", ""),
            ("4-yellow.png", "yellow/4-yellow.png", ""),
            ("5-blue.png", "", "no such file"),
            ("6-red.png", "", "not among the 2 most probable of red/"),
            ("broken.png", "failed/broken.png", ""),
        )
    ]
    assert not (tmp_path / "sorted").exists()


def test_a_sort_and_an_undo_say_in_one_line_what_they_did(
    invoke: Invoke, output: Path, colours: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "sorted"
    done = invoke("sort", output, dest, "--by", "move")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == (
        f"Sorted into {dest} by move: 8 images (red 3, blue 2, green 1, yellow 1, failed 1)\n"
    )
    assert names(dest) == SORTED
    assert names(colours) == []
    assert invoke("sort", output, dest, "--by", "move", "--quiet").stderr == ""
    (dest / "red" / "0-red.png").write_bytes(b"edited")
    undone = invoke("sort", "--undo", dest)
    assert undone.exit_code == 3
    assert undone.stderr.splitlines() == [
        f"Warning: {dest}/red/0-red.png was changed or replaced since: it stays",
        "Undone: 7 images moved back, 0 copies or links removed, 1 left as they are",
    ]
    assert len(names(colours)) == 7


def test_many_images_without_a_place_are_counted(
    invoke: Invoke, output: Path, colours: Path, tmp_path: Path
) -> None:
    rows = output.read_bytes().splitlines(keepends=True)
    many = [rows[1].replace(b"0-red", b"%d-gone" % i) for i in range(25)]
    output.write_bytes(b"".join([*rows, *many]))
    result = invoke("sort", output, tmp_path / "sorted")
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert lines[0] == f"Warning: {colours}/0-gone.png: no such file"
    assert lines[20] == "Warning: ... and 5 more"
    assert lines[21].endswith(", 25 without a place")


def test_labels_become_folders_as_they_are_safe(
    invoke: Invoke, colours: Path, tmp_path: Path
) -> None:
    out, dest = tmp_path / "out.jsonl", tmp_path / "sorted"
    labels = ["--label", "../red=red", "--label", "failed=green", "--label", "NUL=blue"]
    invoke("classify", colours, *labels, "-t", "<>", "--model", "fast", "-o", out)
    assert invoke("sort", out, dest).exit_code == 0
    folders = sorted(p.name for p in dest.iterdir() if p.is_dir())
    assert folders[:3] == ["_NUL", "___red", "failed-2"]
    assert names(tmp_path) == sorted(
        [*(f"pictures/{n}" for n in names(colours)), *(f"sorted/{n}" for n in names(dest))]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name an output and a folder: clipcls sort OUT DEST"),
        (("{out}",), "name an output and a folder"),
        (("-", "{dest}"), "an output is read from a file"),
        (("{out}", "{dest}", "--undo", "{dest}"), "--undo takes the sorted folder alone"),
        (("--undo", "{dest}", "--dry-run"), "--undo takes the sorted folder alone"),
        (("--undo", "{dest}"), "nothing to undo: "),
        (("{out}", "{dest}", "--top", "0"), "--top is 0: give a whole number of 1 or more"),
        (("{out}", "{dest}", "--min-probability", "2"), "--min-probability is 2.0: give a number"),
        (("{out}", "{dest}", "--by", "magic"), "--by"),
        (("{dest}.csv", "{dest}"), "cannot be read: No such file"),
        (("{out}", "{out}"), "is no folder"),
    ],
)
def test_a_slip_costs_one_line_and_no_file(
    invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    out, dest = tmp_path / "out.csv", tmp_path / "sorted"
    out.write_text("path,prediction,probability,cat,note,error\n")
    result = invoke("sort", *(a.format(out=out, dest=dest) for a in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_classify_sorts_when_its_output_is_complete(
    invoke: Invoke, colours: Path, tmp_path: Path
) -> None:
    dest, out = tmp_path / "sorted", tmp_path / "out.rows"
    job = ("classify", colours, *ASKED, "-o", out, "--format", "jsonl", "--sort-into", dest)
    done = invoke(*job, "--sort-by", "symlink")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1].startswith(
        f"Sorted into {dest} by symlink: 7 images (red 3"
    )
    assert (dest / "red" / "0-red.png").is_symlink()
    assert invoke("sort", out, dest, "--format", "jsonl", "--by", "symlink").exit_code == 0
    # A failed image is sorted too, but the run is one with failures.
    save_colours(colours, ["red"])[0].write_bytes(b"")
    again = invoke(*job, "--sort-by", "symlink", "--overwrite")
    assert again.exit_code == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--sort-into", "{0}/sorted"), "--sort-into needs the rows in a file: give -o FILE"),
        (("--sort-into", "{0}/sorted", "-o", "/dev/null"), "--sort-into needs the rows in a file"),
        (("--sort-by", "move", "-o", "{0}/out.csv"), "--sort-by needs the folder"),
        (("--sort-into", "{0}/no/sorted", "-o", "{0}/out.csv"), "does not exist: make it first"),
    ],
)
def test_classify_refuses_a_sort_that_could_not_follow(
    invoke: Invoke, colours: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    result = invoke("classify", colours, *ASKED, *(flag.format(tmp_path) for flag in flags))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]
