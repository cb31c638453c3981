"""What a shell sees: whole runs on real files, signals and pipes included."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipcls import Classifier, Prediction, RuntimeOptions, read_results
from clipcls.testing import save_colours
from tests.e2e.conftest import ROOT, Program, command
from tests.e2e.damage import damage_all

LABELS = ("--labels", "cat,dog,no cat", "--device", "cpu")
COPIES = 12
"""How often the forty pictures stand in the crowd: seconds of work, so that a run can be stopped in
its middle."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty noisy pictures of many formats, modes and sizes."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(7)
    kinds = [("RGB", "jpg"), ("RGBA", "png"), ("L", "png"), ("P", "gif"), ("CMYK", "jpg"),
             ("1", "bmp"), ("RGB", "webp"), ("RGB", "tif")]  # fmt: skip
    for i in range(40):
        mode, extension = kinds[i % len(kinds)]
        height, width = generator.integers(20, 200, 2)
        colour = generator.integers(0, 255, 3)
        noise = generator.integers(0, 255, (height, width, 3)) // 2 + colour // 2
        picture = Image.fromarray(noise.astype(np.uint8)).convert(mode)
        picture.save(folder / f"picture {i}.{extension}")
    return folder


@pytest.fixture(scope="module")
def crowd(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The forty pictures many times over, each a file of its own (a hard link)."""
    folder = tmp_path_factory.mktemp("crowd")
    for copy in range(COPIES):
        for picture in photos.iterdir():
            os.link(picture, folder / f"{copy} {picture.name}")
    return folder


def start(arguments: Sequence[object]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(*arguments), stderr=subprocess.PIPE)


def errors_of(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end and return what the program said."""
    return process.communicate(timeout=120)[1].decode()


def stop_when(
    reached: Callable[[], bool],
    process: subprocess.Popen[bytes],
    stop: Callable[[subprocess.Popen[bytes]], None],
) -> str:
    """Stop a running program as soon as something is so, and return what it had said.

    Fails when the program ends by itself, or takes longer than two minutes.
    """
    deadline = time.monotonic() + 120
    while not reached():
        if process.poll() is not None:
            pytest.fail(f"the program ended before it could be stopped: {errors_of(process)}")
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the program does not get on: {errors_of(process)}")
        time.sleep(0.002)
    stop(process)
    return errors_of(process)


def holds(path: Path, size: int) -> Callable[[], bool]:
    """Return a question: does the file hold so many bytes by now?"""
    return lambda: path.exists() and path.stat().st_size >= size


def test_the_example_pictures_are_all_accounted_for(program: Program, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = program(
        "classify", ROOT / "examples" / "photos", "--labels-file",
        ROOT / "examples" / "labels.txt", "-o", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    frame = read_results(out)
    assert len(frame) == 12
    assert (frame["error"] == "").all()
    labels = list(frame.columns)[3:-2]
    assert len(labels) == 12
    np.testing.assert_allclose(frame[labels].sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("extension", "sizes"),
    [
        pytest.param("csv", (1, 25_000), id="csv"),
        pytest.param("jsonl", (5_000, 45_000), id="jsonl"),
        pytest.param("parquet", (2_000, 60_000), id="parquet"),
    ],
)
def test_killed_twice_and_resumed_gives_the_same_bytes(
    checkpoint: Path, crowd: Path, tmp_path: Path, extension: str, sizes: Sequence[int]
) -> None:
    """Killed as soon as the partial file holds so many bytes; a byte is less than the header."""
    whole, out = tmp_path / f"whole.{extension}", tmp_path / f"out.{extension}"
    part = out.with_name(out.name + ".part")
    job = ["classify", crowd, *LABELS, "--batch-size", "3", "--model", checkpoint]
    uninterrupted = start([*job, "-o", whole])
    resume: list[str] = []
    for size in sizes:
        process = start([*job, "-o", out, *resume])
        stop_when(holds(part, size), process, subprocess.Popen.kill)
        assert process.returncode not in (0, 1, 2, 3)
        assert not out.exists()
        resume = ["--resume"]
    last = start([*job, "-o", out, "--resume"])
    said = errors_of(last)
    assert last.returncode == 0, said
    assert "Resuming after" in said
    said = errors_of(uninterrupted)
    assert uninterrupted.returncode == 0, said
    assert out.read_bytes() == whole.read_bytes()
    assert len(read_results(out)) == 40 * COPIES
    assert counted(out) == counted(whole)
    assert not list(tmp_path.glob(f"out.{extension}.part*"))


def counted(output: Path) -> dict[str, object]:
    """Return what an output's manifest says of its content."""
    manifest = json.loads(output.with_name(output.name + ".manifest.json").read_bytes())
    return {key: manifest[key] for key in ("images", "failed", "counts", "inputs_sha256")}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_batch_and_leaves_a_resumable_file(
    program: Program, checkpoint: Path, crowd: Path, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "out.csv"
    part = out.with_name("out.csv.part")
    job = ["classify", crowd, *LABELS, "--batch-size", "4", "--model", checkpoint, "-o", out]
    process = start(job)
    said = stop_when(holds(part, 1000), process, lambda running: running.send_signal(number))
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert "Interrupted: " in said
    assert "add --resume to continue" in said
    assert not out.exists()
    with part.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert len(rows) % 4 == 1, "a batch was left unfinished"
    assert program(*job, "--resume").returncode == 0
    assert len(read_results(out)) == 40 * COPIES


def test_a_closed_pipe_ends_quietly(checkpoint: Path, crowd: Path) -> None:
    line = command("classify", crowd, *LABELS, "--batch-size", "1", "-q", "--model", checkpoint)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=300) == 0
    assert errors == b""


def test_twenty_corrupt_files_are_explained_and_the_others_scored(
    program: Program, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    sound = sorted(photos.iterdir())[::2]
    for picture in sound:
        os.link(picture, folder / picture.name)
    reasons = damage_all(folder, {p.suffix[1:]: p for p in sorted(photos.iterdir())})
    assert len(reasons) == 20
    done = program("classify", folder, *LABELS, "--batch-size", "7", "-o", tmp_path / "out.csv")
    assert done.returncode == 3, done.stderr
    assert b"Traceback" not in done.stderr

    frame = read_results(tmp_path / "out.csv")
    assert sorted(frame["path"]) == sorted([*reasons, *(str(folder / p.name) for p in sound)])
    failed = frame[frame["prediction"] == ""]
    assert set(failed["path"]) == set(reasons)
    for path, error in zip(failed["path"], failed["error"], strict=True):
        assert re.search(reasons[path], error), (path, error)
    scored = frame[frame["prediction"] != ""].set_index("path")
    assert (scored["error"] == "").all()
    assert scored["cat"].std() > 1e-3, "pictures that score alike would hide a wrong name"
    alone = Classifier(
        "cat,dog,no cat", model=str(checkpoint), runtime=RuntimeOptions("cpu", batch_size=1)
    )
    for record in alone.classify(sound):
        row = scored.loc[str(folder / Path(record.path).name)]
        assert isinstance(record, Prediction)
        assert row["prediction"] == record.prediction
        values = row[["cat", "dog", "no cat"]].astype(float)
        np.testing.assert_allclose(values, record.probabilities, rtol=0, atol=1e-5)


def test_names_with_everything_in_them_through_a_pipe(program: Program, tmp_path: Path) -> None:
    names = ["a b.png", 'comma,quote".png', "line\nbreak.png", "ünïcode 眼鏡.png", "-dash.png"]
    for name in names:
        Image.new("RGB", (30, 20), "teal").save(tmp_path / name)
    stdin = b"\0".join(os.fsencode(tmp_path / name) for name in names)
    done = program("classify", "-", "--null", *LABELS, input=stdin)
    rows = list(csv.DictReader(done.stdout.decode().splitlines(keepends=True)))
    assert [row["path"] for row in rows] == [str(tmp_path / name) for name in names]
    assert done.returncode == 0


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clipcls", "--version"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"clipcls 0.")


def test_a_parquet_table_has_the_rows_of_the_folder(program: Program, tmp_path: Path) -> None:
    paths = save_colours(tmp_path / "images", ["red", "green", "blue"])
    table = tmp_path / "t.parquet"
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    pq.write_table(pa.table({"image": [*cells, None], "id": ["a", "b", "c", "d"]}), table)
    common = ("--labels", "red,green", "--device", "cpu", "--no-cache")
    folder = program("classify", tmp_path / "images", *common)
    found = program("classify", table, "--image-column", "image", "--keep", "id", *common)
    assert (folder.returncode, found.returncode) == (0, 3)
    header, *rows, last, _ = found.stdout.decode().split("\r\n")
    assert header == "path,id,prediction,probability,red,green,note,error"
    expected = [row.partition(",")[2] for row in folder.stdout.decode().split("\r\n")[1:-1]]
    assert rows == [f"{table}#{i},{'abc'[i]},{scores}" for i, scores in enumerate(expected)]
    assert last == f"{table}#3,d,,,,,,no image in this row"
