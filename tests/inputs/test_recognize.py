import os
from pathlib import Path

import pytest
from PIL import Image

from clipcls.inputs.recognize import has_image_name, is_candidate, looks_like_image
from tests.inputs.images import encoded, noise, two_tone


@pytest.mark.parametrize(
    "name", ["a.jpg", "b/A.JPEG", "c.webp", "d.avif", "e.HEIC", "f.tiff", "g.eps", "h.tga"]
)
def test_picture_names(name: str) -> None:
    assert has_image_name(name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", "b.pdf", "c.mpg", "d.h5", "e.csv", ".jpg", "f."])
def test_other_names(name: str) -> None:
    assert not has_image_name(name)


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM", "ICO"]
)
def test_pictures_are_recognised_by_content(tmp_path: Path, format: str) -> None:
    path = tmp_path / "no-extension"
    path.write_bytes(encoded(two_tone(), format))
    assert looks_like_image(str(path))
    assert is_candidate(str(path))


@pytest.mark.parametrize(
    "data",
    [b"", b"Python notes", b"P.S.", b"BMW and others", b"#define X 1\n", b"/* c */", b"\0" * 99]
    + [b"\1\0\0\0 some binary", b"PK\x03\x04", b"%PDF-1.4", b"\x0a\x05\x01\x08 hm", b"II", b"\xff"],
)
def test_other_content_is_not_taken_for_a_picture(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(data)
    assert not looks_like_image(str(path))


@pytest.mark.usefixtures("small_pillow_limit")
def test_large_pictures_are_recognised_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "large"
    Image.new("1", (1500, 1000)).save(path, "BMP")
    assert looks_like_image(str(path))


def test_a_torn_picture_still_looks_like_one(tmp_path: Path) -> None:
    path = tmp_path / "torn"
    path.write_bytes(encoded(noise(), "JPEG")[:30])
    assert looks_like_image(str(path))


def test_pipes_and_missing_files_do_not_look_like_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "gone", "."):
        assert not looks_like_image(str(tmp_path / name))


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs files that refuse reading")
def test_files_that_refuse_to_be_read_do_not_look_like_pictures() -> None:
    assert not is_candidate("/proc/self/mem")


def test_sidecar_files_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.JSON"
    path.write_bytes(encoded(two_tone(), "PNG"))
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("opened"))
    assert not is_candidate(str(path))
