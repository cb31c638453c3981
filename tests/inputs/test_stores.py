"""Archives: what is in them, in order, and what cannot be had; no store is asked."""

from __future__ import annotations

import pickle
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from clipcls.errors import DecodeError, InputError, MissingExtraError
from clipcls.inputs import stores
from clipcls.inputs.stores import Stores
from clipcls.inputs.urls import redacted
from clipcls.options import RemoteOptions
from tests.inputs.discovering import discover, paths
from tests.inputs.web_server import picture, serving


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive with folders, in no order, and with what is no image."""
    monkeypatch.chdir(tmp_path)
    names = ["b/img10.png", "b/img2.png", "a.png", "b/c/x.png", ".hidden/y.png", "b/notes.txt"]
    names += ["__MACOSX/._a.png", "b/thumb.png"]
    with zipfile.ZipFile("p.zip", "w") as made:
        for name in names:
            made.writestr(name, picture("red"))
    return tmp_path / "p.zip"


def fetch(url: str, **changes: float) -> bytes:
    return Stores(RemoteOptions(**changes)).fetch(url, threading.Event())  # type: ignore[arg-type]


def test_an_archive_is_walked_like_a_folder(archive: Path) -> None:
    found = discover(["zip://p.zip"], exclude=["thumb*"])
    below = ["a.png", "b/c/x.png", "b/img2.png", "b/img10.png"]
    assert paths(found) == [f"zip://{name}::p.zip" for name in below]
    assert found.skipped == {"hidden": 1, "not an image": 1, "system folder": 1, "excluded": 1}
    flat = discover(["zip://b::p.zip", "zip://a.png::p.zip"], recursive=False)
    names = ["b/img2.png", "b/img10.png", "b/thumb.png", "a.png"]
    assert paths(flat) == [f"zip://{name}::p.zip" for name in names]


def test_a_member_is_read_by_many_threads_at_once(archive: Path) -> None:
    opened, found = Stores(RemoteOptions()), []
    threads = [
        threading.Thread(
            target=lambda: found.append(opened.fetch("zip://b/img2.png::p.zip", threading.Event()))
        )
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [picture("red")] * 16


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("zip://gone.png::p.zip", "file not found"),
        ("zip://a.png::gone.zip", "file not found"),
        ("zip://a.png::no.zip", "corrupt: damaged or incomplete zip archive"),
        (
            "zip://a.png::http://127.0.0.1:1/p.zip",
            "not supported: a zip archive at a web address.*",
        ),
        ("zip://a.png::zip://p.zip", "not supported: an archive in an archive"),
        ("tar://a.png::zip://p.tar", "not supported: an archive in an archive"),
        ("zip://", r"not supported: no archive is named \(zip://FILE\)"),
        ("tar://a.png::", r"not supported: no archive is named \(tar://FILE\)"),
        ("FTP://h/a.png", "not supported: ftp:// is none of http://, https://, s3://, .*"),
        ("tar://a.png::ftp://h/p.tar", "not supported: ftp:// is none of .*"),
        ("ftp://h/p.tar", "not supported: ftp:// is none of .*"),
    ],
)
def test_what_cannot_be_had_has_a_reason(archive: Path, url: str, reason: str) -> None:
    Path("no.zip").write_bytes(b"no archive")
    # In a list it is a row.
    Path("list.txt").write_text(url, encoding="utf-8")
    [ref] = discover(["@list.txt"])
    assert ref.path == url
    with pytest.raises(DecodeError, match=f"^{reason}$"):
        ref.read()


def test_a_member_that_unpacks_to_too_much_is_refused(archive: Path) -> None:
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.png", b"\0" * 3_000_000)
    assert Path("bomb.zip").stat().st_size < 10_000
    with pytest.raises(DecodeError, match=r"more than 1 MB \(--max-download\)"):
        fetch("zip://a.png::bomb.zip", max_megabytes=1.0)


def test_what_is_not_there_or_not_taken_is_refused_at_once(archive: Path) -> None:
    for url, message in {
        "zip://gone.zip": "no such archive: gone.zip",
        "tar://a.png::gone.tar": "no such archive: gone.tar",
        "zip://a.png::http://u:pw@h/p.zip": "^zip://a.png::http://h/p.zip cannot be read: a zip",
        "zip://https://u:pw@h/p.zip": "^zip://https://h/p.zip cannot be read: a zip",
        "zip://": "^zip:// cannot be read: no archive is named",
        "ftp://u:pw@h/p.zip": "^ftp://h/p.zip cannot be read: ftp:// is none of http://, .*",
        "file:///etc": "^file:///etc cannot be read: file:// is none of http://, .*",
    }.items():
        with pytest.raises(InputError, match=message):
            discover([url])


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stores._class_of.cache_clear()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'clipcls\[gcs\]'"):
        discover(["gs://bucket/a"])
    stores._class_of.cache_clear()


def test_keys_are_shown_whole_and_credentials_are_not() -> None:
    assert redacted("s3://bucket/a#1?token=x.jpg") == "s3://bucket/a#1?token=x.jpg"
    assert redacted("s3://id:secret@bucket/a.jpg") == "s3://bucket/a.jpg"
    assert (
        redacted("zip://a@b.png::s3://id:secret@bucket/p.zip") == "zip://a@b.png::s3://bucket/p.zip"
    )
    assert redacted("hf://datasets/u/n@main/a.jpg") == "hf://datasets/u/n@main/a.jpg"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("once_busy/red", ""),
        ("status/503", "download failed: store busy"),
        ("status/403", "permission denied"),
        ("status/404", "file not found"),
        ("torn/red", "download failed: connection lost"),
        ("dropped/a", "download failed: timed out"),
        ("stalled/a", "download failed: timed out"),
        ("dripping/body", "download failed: timed out"),
    ],
)
def test_a_store_that_answers_badly_ends_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch, path: str, reason: str
) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k3yid")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with serving() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url("").rstrip("/"))
        seconds = 0.5 if "timed out" in reason else 5.0
        began = time.monotonic()
        if reason:
            with pytest.raises(DecodeError, match=f"^{reason}$"):
                fetch(f"s3://{path}", timeout=seconds, retries=1)
        else:
            assert fetch(f"s3://{path}", timeout=seconds, retries=1) == picture("red")
        assert time.monotonic() - began < 12


def test_an_image_can_be_read_in_another_process(archive: Path) -> None:
    with tarfile.open("p.tar", "w") as made:
        made.add("p.zip", "x/inner.png")
    [inner, *_] = discover(["p.tar", "zip://p.zip"])
    sent = pickle.loads(pickle.dumps(inner))
    assert (sent.index, sent.path) == (0, "tar://x/inner.png::p.tar")
    assert sent.read().read() == archive.read_bytes()
    refs = list(discover(["zip://p.zip"]))
    moved = pickle.loads(pickle.dumps(refs))
    assert [ref.read().read() for ref in moved] == [picture("red")] * len(refs)
    # They share what they have opened.
    assert len({id(ref.source.fetcher) for ref in moved}) == 1


def test_an_answer_that_nobody_wants_any_more_is_not_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k3yid")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    stopped = threading.Event()
    with serving() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url("").rstrip("/"))
        threading.Timer(0.5, stopped.set).start()
        began = time.monotonic()
        with pytest.raises(DecodeError, match="^download failed: interrupted$"):
            Stores(RemoteOptions(timeout=60.0)).fetch("s3://stalled/a", stopped)
        assert time.monotonic() - began < 8
