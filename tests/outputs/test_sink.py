"""A file of rows survives damage, links and full disks, and keeps its permissions."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from clipcls.columns import Columns
from clipcls.errors import OutputError, ResumeError
from clipcls.options import OutputFormat, OutputOptions
from clipcls.outputs import make_writer
from clipcls.outputs.manifest import COMPARED, manifest_path, read_manifest, write_manifest
from clipcls.outputs.sink import open_sink
from tests.outputs.test_formats import FORMATS, LABELS, records

MANIFEST: dict[str, Any] = {**dict.fromkeys(COMPARED, {}), "batch_size": 4}


@pytest.mark.parametrize(
    "damage",
    [b"\xff\xfe\x00\r\n", b'{"path": \n', b"[1]\n", b'{"path": "a"}\n', b'"a\r\n', b"\0" * 64],
)
@pytest.mark.parametrize("output_format", FORMATS)
def test_a_damaged_row_is_cut_like_a_torn_one(
    tmp_path: Path, output_format: OutputFormat, damage: bytes
) -> None:
    path = tmp_path / "part"
    with path.open("w+b") as stream:
        writer = make_writer(output_format, Columns(LABELS), stream)
        writer.start()
        writer.write(records(4))
        whole = stream.tell()
        stream.write(damage)
        writer.write(records(4))
        rows = list(writer.saved_rows())
    assert [row.end <= whole for row in rows] == [True] * 4


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o077, 0o600), (0o022, 0o644)])
@pytest.mark.parametrize("before", [None, 0o640, 0o604])
def test_permissions_are_those_of_the_umask_or_of_the_file_before(
    tmp_path: Path, output_format: OutputFormat, umask: int, mode: int, before: int | None
) -> None:
    path = tmp_path / f"out.{output_format}"
    if before is not None:
        path.touch()
        path.chmod(before)
    old = os.umask(umask)
    try:
        with open_sink(OutputOptions(path=path, overwrite=True), Columns(LABELS), {}) as sink:
            sink.begin(MANIFEST, 4)
            sink.write(records(4))
            sink.finish({})
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == (mode if before is None else before)


@pytest.mark.parametrize("ending", [".part", ".part.manifest.json", ".lock"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_place_of_our_own_files_is_refused(
    tmp_path: Path, ending: str, link: Any
) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    link(other, tmp_path / f"out.csv{ending}")
    options = OutputOptions(path=tmp_path / "out.csv", overwrite=True)
    with pytest.raises(OutputError, match="is a link"), open_sink(options, Columns(LABELS), {}):
        pass
    assert other.read_text() == "precious"


@pytest.mark.parametrize(
    "content",
    ["", '{"manif', "[]", "null", '{"manifest": 99}', '{"manifest": 1}', "\x00"],
)
def test_a_damaged_manifest_never_leads_to_overwriting(tmp_path: Path, content: str) -> None:
    path = tmp_path / "out.csv.manifest.json"
    path.write_text(content)
    with pytest.raises(ResumeError, match=r"the rows in .*out\.csv are intact") as caught:
        read_manifest(path)
    assert "overwrite" not in str(caught.value)


@pytest.mark.parametrize("key", [*COMPARED, "batch_size"])
def test_a_manifest_without_a_key_is_damaged(tmp_path: Path, key: str) -> None:
    path = manifest_path(tmp_path / "out.csv")
    write_manifest(path, {k: v for k, v in MANIFEST.items() if k != key})
    with pytest.raises(ResumeError, match=f"it lacks '{key}'"):
        read_manifest(path)


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("batches", [0, 1])
def test_a_full_disk_keeps_whole_batches(
    tmp_path: Path, output_format: OutputFormat, batches: int
) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    path = tmp_path / f"out.{output_format}"
    part = tmp_path / f"{path.name}.part"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with open_sink(OutputOptions(path=path), Columns(LABELS), {}) as sink:
            sink.begin(MANIFEST, 4)
            for _ in range(batches):
                sink.write(records(4))
            whole = part.read_bytes()
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, limits[1]))
            with pytest.raises(OutputError, match="File too large") as caught:
                sink.write(records(4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert ("are kept" in str(caught.value)) == (batches > 0)
    assert part.read_bytes() == whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("output_format", ["csv", "jsonl"])
def test_a_full_standard_output_fails_once_and_not_again_at_the_end(output_format: str) -> None:
    stdout = Path("/dev/full").open("wb")  # noqa: SIM115  its close is what is tested
    options = OutputOptions(format=OutputFormat(output_format))
    with open_sink(options, Columns(LABELS), {}, stdout) as sink:  # noqa: SIM117
        with pytest.raises(OutputError, match="cannot write standard output: No space left"):
            sink.write(records(4))
    stdout.close()
