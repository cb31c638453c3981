"""What must cost nothing: a finished output, and a row whose source has fallen silent."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Program, command

PHOTOS = ROOT / "examples" / "photos"
PROGRAM = """
import json, sys
from clipcls.cli import main
try:
    main()
except SystemExit as end:
    heavy = {"torch", "open_clip", "pandas", "pyarrow", "matplotlib", "urllib3"}
    print(json.dumps([end.code, sorted(heavy & set(sys.modules))]))
"""


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_complete_output_is_resumed_without_torch(
    program: Program, tmp_path: Path, name: str
) -> None:
    job = ["classify", PHOTOS, "--labels", "cat,dog", "--device", "cpu", "-o", tmp_path / name]
    assert program(*job, "--model", "mini").returncode == 0
    before = (tmp_path / name).read_bytes()
    for extra in ([], ["--device", "auto"], ["--batch-size", "7"]):
        again = [*map(str, job), "--model", "mini", "--resume", *extra]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *again], capture_output=True, text=True, timeout=300
        )
        assert json.loads(done.stdout.splitlines()[-1]) == [0, []], done.stderr
    assert (tmp_path / name).read_bytes() == before


def test_a_run_whose_every_part_is_known_loads_no_torch(program: Program, tmp_path: Path) -> None:
    job = ["classify", PHOTOS, "--labels", "cat,dog", "--model", "mini"]
    cache = ["--cache-dir", tmp_path / "cache"]
    assert program(*job, *cache, "-o", tmp_path / "first.csv").returncode == 0
    # The program ends without taking its objects down, yet nothing is left in SQLite's journal.
    assert [path.suffix for path in (tmp_path / "cache").glob("*.sqlite*")] == [".sqlite"]
    again = [*map(str, (*job, *cache)), "-o", str(tmp_path / "second.csv")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *again], capture_output=True, text=True, timeout=300
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []], done.stderr
    assert "12 from the cache" in done.stderr
    assert (tmp_path / "second.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()


def test_a_report_is_made_without_torch(program: Program, tmp_path: Path) -> None:
    out, page = tmp_path / "out.csv", tmp_path / "page.html"
    job = ["classify", PHOTOS, "--labels", "cat,dog", "--model", "mini", "-o", out]
    assert program(*job).returncode == 0
    again = ["report", str(out), "-o", str(page), "--single-file"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *again], capture_output=True, text=True, timeout=300
    )
    code, heavy = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    assert not {"torch", "open_clip", "matplotlib"} & set(heavy)
    assert page.stat().st_size > 50_000


def test_a_complete_output_of_another_model_is_refused_without_torch(
    program: Program, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    job = ["classify", PHOTOS, "--labels", "cat,dog", "--device", "cpu", "-o", out]
    assert program(*job, "--model", "mini").returncode == 0
    other = program(*job, "--model", checkpoint, "--resume")
    assert other.returncode == 2
    assert b"cannot resume" in other.stderr
    assert b"the model (--model) was" in other.stderr


def test_a_row_does_not_wait_for_a_source_that_has_fallen_silent(checkpoint: Path) -> None:
    with subprocess.Popen(
        command("classify", "-", "--labels", "cat,dog", "--model", checkpoint, "--quiet"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for name in ("cat.jpg", "rocket.jpg"):
            running.stdin.write(f"{PHOTOS / name}\n".encode())
            running.stdin.flush()
            if name == "cat.jpg":
                assert running.stdout.readline().startswith(b"path,")
            # The source stays open and says nothing; 32 images would be a full batch.
            [row] = csv.reader([running.stdout.readline().decode()])
            assert row[0] == str(PHOTOS / name)
        running.stdin.close()
        assert running.wait(timeout=300) == 0
