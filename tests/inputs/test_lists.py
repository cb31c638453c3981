import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipcls.errors import InputError
from clipcls.inputs.walk import (
    Discovery,
)
from clipcls.options import DiscoveryOptions

from .discovering import by_name, discover, paths

Tree = Callable[..., None]


@pytest.mark.parametrize(
    "text",
    [b"b.jpg\na.jpg\n", b"b.jpg\na.jpg", b"b.jpg\r\n\r\na.jpg\r\n", b"\xef\xbb\xbfb.jpg\n\na.jpg"],
)
def test_lists_of_lines(tree: Tree, text: bytes) -> None:
    tree("a.jpg", "b.jpg")
    Path("list.txt").write_bytes(text)
    assert paths(discover(["@list.txt"])) == ["b.jpg", "a.jpg"]
    assert paths(discover(["-"], stdin=text)) == ["b.jpg", "a.jpg"]


def test_lists_separated_by_nul_hold_any_name(tree: Tree) -> None:
    text = b"new\nline.jpg\0 spaces .jpg\0end\r\0"
    Path("list").write_bytes(text)
    expected = ["new\nline.jpg", " spaces .jpg", "end\r"]
    assert paths(discover(["@list"], null=True)) == expected
    assert paths(discover(["-"], null=True, stdin=text)) == expected


def test_missing_files_in_lists_are_yielded_to_become_failures(tree: Tree) -> None:
    tree("a.jpg")
    assert paths(discover(["-"], stdin=b"gone.jpg\na.jpg\n")) == ["gone.jpg", "a.jpg"]


def test_folders_in_lists_are_searched(tree: Tree) -> None:
    tree("d/a.jpg", "d/notes.txt")
    assert paths(discover(["-"], stdin=b"d\n")) == ["d/a.jpg"]


def test_paths_in_lists_are_literal(tree: Tree) -> None:
    stdin = b"*.jpg\n@list\n-\n"
    assert paths(discover(["-"], stdin=stdin)) == ["*.jpg", "@list", "-"]


def test_a_picture_whose_name_begins_with_at(tree: Tree) -> None:
    tree("@home.jpg")
    assert paths(discover(["./@home.jpg"])) == ["./@home.jpg"]


def test_standard_input_is_streamed() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin, os.fdopen(write_end, "wb", buffering=0) as writer:
        options = DiscoveryOptions()
        refs = iter(Discovery(["-"], options, is_image=by_name, stdin=stdin))
        got: list[str] = []
        for name in ("a.jpg", "b.jpg"):
            writer.write(f"{name}\n".encode())
            reader = threading.Thread(target=lambda: got.append(next(refs).path), daemon=True)
            reader.start()
            reader.join(timeout=10)
        assert got == ["a.jpg", "b.jpg"]


def test_a_pipe_that_does_not_block_is_read_to_its_end() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)

    def write_slowly() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as writer:
            for name in (b"a.jpg\n", b"b.jpg\n"):
                time.sleep(0.1)
                writer.write(name)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    with os.fdopen(read_end, "rb", buffering=0) as stdin:
        discovery = Discovery(["-"], DiscoveryOptions(), is_image=by_name, stdin=stdin)
        assert paths(discovery) == ["a.jpg", "b.jpg"]
    writer.join()


WAITING = """
import threading, time
from clipcls.inputs.walk import Discovery
from clipcls.options import DiscoveryOptions

refs = iter(Discovery(["-"], DiscoveryOptions(), is_image=bool))
print(next(refs).path, flush=True)
threading.Thread(target=next, args=(refs,), daemon=True).start()
time.sleep(0.3)
"""


def test_python_can_exit_while_a_thread_waits_for_standard_input() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write(b"a.jpg\n")
        process.stdin.flush()
        # Standard input stays open until the process has ended.
        code = process.wait(timeout=300)
        assert process.stdout is not None
        assert process.stderr is not None
        assert (code, process.stdout.read(), process.stderr.read()) == (0, b"a.jpg\n", b"")


def test_closed_standard_input_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stdin in (None, io.StringIO("a.jpg"), closed):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(InputError, match=r"standard input \(-\) is closed"):
            Discovery(["-"], DiscoveryOptions(), is_image=by_name)
    assert paths(discover(["-"], stdin=b"a.jpg\n")) == ["a.jpg"]


def test_streams_tells_whether_the_total_is_knowable(tree: Tree) -> None:
    tree("a.jpg", "list")
    assert discover(["a.jpg", "-"]).streams
    assert not discover(["a.jpg", "@list"]).streams
    os.mkfifo("pipe")
    assert discover(["@pipe"]).streams


@given(
    names=st.lists(
        st.binary(min_size=1, max_size=12).filter(
            lambda name: b"\0" not in name and b"/" not in name
        ),
        min_size=1,
        unique=True,
    ),
    chunk=st.integers(1, 9),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nul_lists_round_trip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[bytes], chunk: int
) -> None:
    monkeypatch.setattr("clipcls.inputs.lists._CHUNK_BYTES", chunk)
    listed = [b"missing/" + name for name in names if name not in (b".", b"..")] or [b"x"]
    found = paths(discover(["-"], null=True, stdin=b"\0".join([*listed, b""])))
    assert [os.fsencode(path) for path in found] == listed


def test_nul_separated_input_without_the_flag_names_the_flag() -> None:
    with pytest.raises(InputError, match="standard input, line 2: a NUL byte.*--null"):
        paths(discover(["-"], stdin=b"a.jpg\nb.jpg\0c.jpg\0"))


def test_a_list_without_separators_does_not_fill_the_memory() -> None:
    with pytest.raises(InputError, match="standard input holds no list of paths"):
        paths(discover(["-"], null=True, stdin=b"x" * (1 << 21)))


LINES = "b.jpg\r\nÄ/日本 1.jpg\n\n  \na.jpg"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 16])
def test_lists_are_read_in_the_encodings_that_systems_write(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, encoding: str, chunk: int
) -> None:
    monkeypatch.setattr("clipcls.inputs.lists._CHUNK_BYTES", chunk)
    text = LINES.encode(encoding)
    Path("list.txt").write_bytes(text)
    assert paths(discover(["@list.txt"])) == ["b.jpg", "Ä/日本 1.jpg", "a.jpg"]
    assert paths(discover(["-"], stdin=text)) == ["b.jpg", "Ä/日本 1.jpg", "a.jpg"]


def test_a_list_in_big_endian_utf16_with_its_mark(tree: Tree) -> None:
    text = b"\xfe\xff" + LINES.encode("utf-16-be")
    assert paths(discover(["-"], stdin=text)) == ["b.jpg", "Ä/日本 1.jpg", "a.jpg"]


def test_utf16_that_is_torn_still_yields_every_line(tree: Tree) -> None:
    text = "a.jpg\n\ud800.jpg\nb.jpg".encode("utf-16", "surrogatepass") + b"x"
    assert len(paths(discover(["-"], stdin=text))) == 3


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-8"])
def test_every_encoding_is_streamed(encoding: str) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin, os.fdopen(write_end, "wb", buffering=0) as writer:
        refs = iter(Discovery(["-"], DiscoveryOptions(), is_image=by_name, stdin=stdin))
        got: list[str] = []
        first, second = "a.jpg\n".encode(encoding), "b.jpg\n".encode(encoding)
        for data in (first, second.removeprefix(b"\xff\xfe").removeprefix(b"\xef\xbb\xbf")):
            writer.write(data)
            reader = threading.Thread(target=lambda: got.append(next(refs).path), daemon=True)
            reader.start()
            reader.join(timeout=10)
        assert got == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("text", ["a.jpg\n", "a.jpg\nb.jpg", "a.jpg\n" * 50_000])
def test_null_on_a_list_of_lines_is_refused_before_anything_is_found(
    tree: Tree, text: str, encoding: str
) -> None:
    tree("a.jpg")
    Path("list").write_bytes(text.encode(encoding))
    message = "list holds lines and no NUL: leave out --null"
    with pytest.raises(InputError, match=message):
        discover(["a.jpg", "@list"], null=True)
    refs = iter(discover(["-"], null=True, stdin=text.encode(encoding)))
    with pytest.raises(InputError, match="standard input holds lines and no NUL"):
        next(refs)


def test_one_path_needs_no_separator(tree: Tree) -> None:
    assert paths(discover(["-"], stdin=b"a.jpg")) == ["a.jpg"]
    assert paths(discover(["-"], null=True, stdin=b"a.jpg")) == ["a.jpg"]


def test_one_letter_names_are_not_taken_for_utf16() -> None:
    assert paths(discover(["-"], null=True, stdin=b"a\0b\0")) == ["a", "b"]


@pytest.mark.parametrize("text", [b"a.jpg\0b.jpg\0", b"a.jpg\0", b"ab.jpg\0cd.jpg\0"])
def test_a_list_file_separated_by_nul_is_refused_at_once_without_the_flag(
    tree: Tree, text: bytes
) -> None:
    Path("list").write_bytes(text)
    with pytest.raises(InputError, match="list, line 1: a NUL byte.*--null"):
        discover(["@list"])


def test_an_image_whose_name_begins_with_at_is_suggested(tree: Tree) -> None:
    tree("@home.jpg", "@eaDir/a.jpg")
    for name in ("@home.jpg", "@eaDir"):
        with pytest.raises(InputError, match=rf"{name} itself is given as \./{name}"):
            discover([name])


@pytest.mark.parametrize("failing", ["open", "read"])
def test_a_list_that_cannot_be_read_is_one_line(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    class Broken(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    def broken_open(path: str, mode: str) -> io.BytesIO:
        if failing == "open":
            raise PermissionError(13, "Permission denied")
        return Broken()

    tree("list")
    monkeypatch.setattr("builtins.open", broken_open)
    with pytest.raises(InputError, match=r"^list cannot be read: (Perm|Input)[\w /]+$"):
        discover(["@list"])
    monkeypatch.undo()
    found = Discovery(["-"], DiscoveryOptions(), is_image=by_name, stdin=Broken())
    with pytest.raises(InputError, match="^standard input cannot be read: Input/output error$"):
        paths(found)
