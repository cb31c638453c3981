"""Decoding, text files, and what terminals and tables can take."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.errors import LabelError, UsageError
from clipcls.text import (
    content_lines,
    encoding_of,
    is_writable,
    printable_path,
    read_file,
    read_text,
    visible,
)

TEXT = "label,prompt\r\ncafé,“x” €\nкот,猫 🐈\n"
CHARACTERS = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"],
)
@pytest.mark.parametrize("text", [TEXT, "cat", "é", "кот\nпёс", "", "猫 🐈\r\n犬\r\n"])
def test_unicode(text: str, encoding: str) -> None:
    if text in ("é", "") and encoding == "utf-16-be":
        return  # two bytes without a line end are no evidence
    assert read_text(text.encode(encoding)) == text


@given(st.text(CHARACTERS))
def test_marked_text_and_utf8_are_read_whatever_they_hold(text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        data = text.encode(encoding)
        if encoding != "utf-8" or not text.startswith("\ufeff"):
            assert read_text(data) == text


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=2))
def test_latin_text_in_utf16_gives_itself_away(text: str) -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        assert read_text(text.encode(encoding)) == text
        assert read_text(f"{text}\r\n".encode(encoding)) == f"{text}\r\n"


@given(st.text(st.characters(codec="cp1252", exclude_categories=["Cc"])))
def test_windows_1252(text: str) -> None:
    data = f"é{text}".encode("cp1252")
    if encoding_of(data) == "cp1252":
        assert read_text(data) == f"é{text}"
    else:
        assert data.decode(encoding_of(data))


def test_bytes_that_windows_1252_leaves_open() -> None:
    assert read_text(b"caf\xe9 \x81\x8d\x8f\x90\x9d") == "café \x81\x8d\x8f\x90\x9d"


@given(st.binary())
def test_all_bytes_are_some_text(data: bytes) -> None:
    assert isinstance(read_text(data), str)


@pytest.mark.parametrize("data", [b"AB\x01\0\x02\0\n\0", b"\0A\0\x1b\0B", b"\0\0\0\0"])
def test_numbers_are_not_taken_for_utf16(data: bytes) -> None:
    assert "\0" in read_text(data)


@pytest.mark.parametrize("names", [["cat", "dog"], ["a.jpg", "bc.jpg", "é.jpg"], ["é", "è"]])
@pytest.mark.parametrize("end", ["", "\0"])
def test_names_separated_by_nuls_are_not_taken_for_utf16(names: list[str], end: str) -> None:
    text = "\0".join(names) + end
    assert read_text(text.encode()) == text


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("a\r\nb\rc\n".encode("utf-16"))
    assert read_file(path, LabelError) == (str(path), "a\nb\nc\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\r\n")))
    assert read_file(Path("-"), LabelError) == ("standard input", "a\n")


@pytest.mark.parametrize("error", [UsageError, LabelError])
def test_files_that_are_no_text(tmp_path: Path, error: type[UsageError]) -> None:
    (tmp_path / "image").write_bytes(b"GIF89a\x01\0\x01\0\0\0\0;")
    for name in ("image", "missing", "."):
        with pytest.raises(error) as caught:
            read_file(tmp_path / name, error)
        assert type(caught.value) is error
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("a")
    path.chmod(0)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        read_file(path, UsageError)


def test_guesses_are_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    for number, encoding in enumerate(("utf-8", "utf-16", "utf-16-le", "cp1252")):
        path = tmp_path / f"{number}.txt"
        path.write_bytes("é\ncat\n".encode(encoding))
        assert read_file(path, UsageError, notes) == (str(path), "é\ncat\n")
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path / '3.txt'}: read as Windows-1252")


def test_lines_that_count() -> None:
    text = "# pets\n\n  cat \n#dog\nbig # bird\n\x0b\n"
    assert list(content_lines(text, "f")) == [("f:3", "cat"), ("f:5", "big # bird")]


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "\x1b[0m", "\u2028", "\udcff", "\x85"])
def test_what_no_table_and_no_terminal_can_take(text: str) -> None:
    assert not is_writable(text)
    assert visible(text).isprintable()
    printable_path(text).encode()


@given(st.text(CHARACTERS))
def test_other_text_is_left_alone(text: str) -> None:
    assert is_writable(text)
    assert printable_path(text) == text
