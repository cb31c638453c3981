"""What a shell sees: whole runs on real files, signals and pipes included."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipcls import read_results
from tests.e2e.conftest import ROOT, Program, command

LABELS = ("--labels", "cat,dog,no cat", "--device", "cpu")


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
        noise = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).convert(mode).save(folder / f"picture {i}.{extension}")
    return folder


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
    labels = [name for name in frame.columns if name not in ("path", "prediction", "error")][1:]
    assert len(labels) == 12
    np.testing.assert_allclose(frame[labels].sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_killed_at_a_random_moment_and_resumed_gives_the_same_bytes(
    program: Program, checkpoint: Path, photos: Path, tmp_path: Path, extension: str
) -> None:
    whole, out = tmp_path / f"whole.{extension}", tmp_path / f"out.{extension}"
    shutil.copytree(photos, tmp_path / "photos")
    many = [tmp_path / "photos"]
    for copy in range(8):
        many.append(shutil.copytree(photos, tmp_path / f"copy {copy}"))
    flags = [*LABELS, "--batch-size", "4", "--model", str(checkpoint)]
    assert program("classify", *many, *flags, "-o", whole).returncode == 0
    process = subprocess.Popen(
        command("classify", *many, *flags, "-o", out), stderr=subprocess.DEVNULL
    )
    part = out.with_name(out.name + ".part")
    while process.poll() is None and not (part.exists() and part.stat().st_size > 2000):
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.2))
    process.kill()
    process.wait()
    assert not out.exists(), "the run was over before it could be killed"
    resumed = program("classify", *many, *flags, "-o", out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert b"Resuming after" in resumed.stderr
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interrupt_finishes_the_batch_and_leaves_a_resumable_file(
    program: Program, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    copies = [shutil.copytree(photos, tmp_path / f"copy {copy}") for copy in range(10)]
    flags = [*LABELS, "--batch-size", "2", "--model", str(checkpoint), "-o", str(out)]
    process = subprocess.Popen(command("classify", *copies, *flags), stderr=subprocess.PIPE)
    part = out.with_name("out.csv.part")
    while process.poll() is None and not (part.exists() and part.stat().st_size > 500):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Interrupted: " in errors
    assert "add --resume to continue" in errors
    with part.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert len(rows) % 2 == 1
    assert program("classify", *copies, *flags, "--resume").returncode == 0
    assert len(read_results(out)) == 400


def test_a_closed_pipe_ends_quietly(checkpoint: Path, photos: Path) -> None:
    copies = [str(photos / "*.jpg")] + [str(photos)]
    line = command("classify", *copies, *LABELS, "--batch-size", "1", "-q", "--model", checkpoint)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert errors == b""


def test_twenty_corrupt_files_are_explained_and_the_others_scored(
    program: Program, photos: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    jpegs = sorted(folder.glob("*.jpg"))
    damages = [b"", b"not a picture", jpegs[0].read_bytes()[:80], os.urandom(300)]
    for path, damage in zip(jpegs, damages, strict=False):
        path.write_bytes(damage)
    done = program("classify", folder, *LABELS, "-o", tmp_path / "out.csv")
    assert done.returncode == 3
    frame = read_results(tmp_path / "out.csv")
    assert len(frame) == 40
    failed = frame[frame["error"] != ""]
    assert list(failed["path"]) == [str(p) for p in sorted(jpegs[:4], key=natural)]
    assert (failed["prediction"] == "").all()


def natural(path: Path) -> int:
    return int(path.stem.split()[1])


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
