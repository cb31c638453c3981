"""Terminals, pipes and disks that are not as one would wish: never a traceback."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.cells import cell_len

from tests.e2e.conftest import command

COMMANDS = {
    "--version": ["--version"],
    "--help": ["--help"],
    "classify --help": ["classify", "--help"],
    "models": ["models"],
    "models show": ["models", "show", "mini"],
    "prompts": ["prompts"],
    "prompts NAME": ["prompts", "openai80"],
    "prompts show": ["prompts", "show", "--labels", "a,b", "--model", "mini"],
}
every_command = pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
LABELS = ("--labels", "眼鏡,café,cat", "--model", "mini", "--device", "cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "ü 眼鏡.png"
    Image.new("RGB", (30, 20), "teal").save(path)
    return path


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command(*arguments), timeout=120, **pipes)  # type: ignore[call-overload,no-any-return]


def shell(redirection: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run the program in a shell that redirects its output."""
    line = f'set -o pipefail; "$0" "$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", line, *command(*arguments)], capture_output=True, timeout=120
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@every_command
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == b"Error: cannot write to standard output: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_rows_on_a_full_disk_end_in_one_line(photo: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("classify", photo, *LABELS, "--quiet", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: cannot write ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_diagnostics_that_cannot_be_written_cost_no_rows(photo: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("classify", photo, *LABELS, stderr=full)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "| true"])
@every_command
def test_closed_streams_and_broken_pipes_are_silent(redirection: str, arguments: list[str]) -> None:
    done = shell(redirection, *arguments)
    assert done.returncode in (0, 141)
    assert done.stderr == b""


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX pipe")
def test_tables_end_quietly_where_the_reader_has_gone(photo: Path, tmp_path: Path) -> None:
    out, truth = tmp_path / "out.csv", tmp_path / "truth.csv"
    out.write_text(f"path,prediction,probability,a,b,note,error\n{photo},a,0.9,0.9,0.1,,\n")
    truth.write_text(f"file,label\n{photo.name},a\n")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("evaluate", "--predictions", out, truth, "--quiet", stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "cp1252"])
def test_a_listing_shows_what_the_encoding_lacks_as_question_marks(encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    listing = run("prompts", "show", "--labels", "眼鏡,cat", "--model", "RN50:openai", env=env)
    assert listing.returncode == 0, listing.stderr
    assert b"??\ta photo of a ??" in listing.stdout
    slip = run("models", "show", "眼鏡", env=env)
    assert (slip.returncode, slip.stdout) == (2, b"")
    assert slip.stderr.count(b"\n") == 1
    assert b"??" in slip.stderr


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii:strict"}, {"LC_ALL": "C"}])
def test_rows_are_utf_8_whatever_the_terminal_is(photo: Path, environment: dict[str, str]) -> None:
    env = {**os.environ, **environment}
    rows = run("classify", photo, *LABELS, "--verbose", env=env)
    assert rows.returncode == 0, rows.stderr
    header, row = csv.reader(rows.stdout.decode("utf-8").splitlines())
    assert {"眼鏡", "café"} <= set(header)
    assert row[0] == str(photo)
    assert b"Traceback" not in rows.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX terminal")
@pytest.mark.parametrize(("columns", "encoding"), [(30, "utf-8"), (80, "ascii")])
def test_one_image_on_a_real_terminal(photo: Path, columns: int, encoding: str) -> None:
    import pty

    parent, child = pty.openpty()
    environment = {
        "COLUMNS": str(columns),
        "PYTHONIOENCODING": encoding,
        "TERM": "dumb",
        "NO_COLOR": "1",
    }
    done = run("classify", photo, *LABELS, "-q", stdout=child, env={**os.environ, **environment})
    os.close(child)
    shown = os.read(parent, 1 << 16).decode(encoding)
    os.close(parent)
    assert (done.returncode, done.stderr) == (0, b"")
    assert ("█" if encoding == "utf-8" else "#") in shown
    assert max(cell_len(line) for line in shown.splitlines()) <= columns


def test_help_comes_at_once() -> None:
    """No rich, no numpy: under 0.4 s on two cores; what it imports is tested, not the clock."""
    code = "import sys; sys.argv = ['clipcls', '--help']; from clipcls.cli import main\n"
    code += "try: main()\nexcept SystemExit: print(sorted({'rich', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.rstrip().endswith(b"[]"), done.stdout[-100:]
