import io
import os
import socket
import struct
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile
from PIL.PngImagePlugin import PngInfo

from clipcls.errors import DecodeError
from clipcls.inputs import decode
from clipcls.inputs.decode import TRUNCATED_NOTE, load_image
from clipcls.inputs.formats import as_rgb
from clipcls.inputs.pillow import lift_pillow_limit, register_heif
from clipcls.options import DecodeOptions, Truncated
from tests.inputs.images import HEIGHT, LEFT, RIGHT, WIDTH, encoded, noise, two_tone

STRICT = DecodeOptions()
ACCEPT = DecodeOptions(truncated=Truncated.ACCEPT)


def decoded(source: decode.Source, options: DecodeOptions = STRICT) -> Image.Image:
    image = load_image(source, options).image
    assert image.mode == "RGB"
    return image


def reason(source: decode.Source, options: DecodeOptions = STRICT) -> str:
    with pytest.raises(DecodeError) as caught:
        load_image(source, options)
    return str(caught.value)


def colours(image: Image.Image) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The colours in the middle of the left and of the right half."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    left, right = pixels[height // 2, width // 4], pixels[height // 2, width * 3 // 4]
    return tuple(map(int, left)), tuple(map(int, right))


def assert_two_tone(image: Image.Image, tolerance: int = 12) -> None:
    assert image.size == (WIDTH, HEIGHT)
    np.testing.assert_allclose(colours(image), (LEFT, RIGHT), atol=tolerance)


# ---- formats and modes


@pytest.mark.parametrize(
    "format",
    ["AVIF", "BMP", "DDS", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF"]
    + ["WEBP"],
)
def test_every_common_format_is_decoded_whatever_its_name(tmp_path: Path, format: str) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(two_tone(), format))
    assert_two_tone(decoded(str(path)))


def test_content_decides_and_not_a_wrong_name(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encoded(two_tone(), "PNG"))
    assert_two_tone(decoded(path), tolerance=0)


@pytest.mark.parametrize(
    ("mode", "format"),
    [("P", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("CMYK", "TIFF")],
)
def test_modes_become_rgb(mode: str, format: str) -> None:
    assert_two_tone(decoded(encoded(two_tone(mode), format)))


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "CMYK", "RGBX", "P"])
def test_modes_in_memory_become_rgb(mode: str) -> None:
    assert_two_tone(decoded(two_tone(mode)))


def test_grey_and_one_bit_become_rgb() -> None:
    stripes = Image.new("L", (WIDTH, HEIGHT), 255)
    stripes.paste(0, (WIDTH // 2, 0, WIDTH, HEIGHT))
    for mode in ("L", "1"):
        image = decoded(encoded(stripes.convert(mode), "PNG"))
        assert colours(image) == ((255, 255, 255), (0, 0, 0))


def test_inverted_cmyk_of_adobe_jpegs() -> None:
    """Adobe writes 255 for no ink, and says so in an APP14 segment."""
    pixels = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95)
    assert b"Adobe" in pixels
    red, green, blue = colours(decoded(pixels))[0]
    assert red < 30
    assert min(green, blue) > 200


def test_lab_becomes_rgb() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(two_tone(), srgb, lab, outputMode="LAB")
    assert image is not None
    assert_two_tone(decoded(encoded(image, "TIFF")))


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for format, tolerance in (("GIF", 0), ("PNG", 0), ("WEBP", 4), ("TIFF", 0)):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(colours(decoded(data))[0], (255, 0, 0), atol=tolerance)


def test_formats_without_a_mark_cannot_claim_a_file_that_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def claim(*_: object) -> None:
        pytest.fail("a format without a mark was asked first")

    Image.init()
    monkeypatch.setitem(Image.OPEN, "IM", (claim, None))
    assert_two_tone(decoded(encoded(two_tone(), "WEBP")))


# ---- deep pictures


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for format in ("PNG", "TIFF"):
        image = decoded(encoded(Image.fromarray(ramp), format))
        assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_big_endian_sixteen_bits() -> None:
    raw = np.array([[0, 65535], [32896, 257]], dtype=">u2").tobytes()
    image = decoded(Image.frombytes("I;16B", (2, 2), raw))
    assert np.asarray(image)[..., 0].tolist() == [[0, 255], [128, 1]]


def test_sixteen_bit_pgm_keeps_its_scale_when_it_is_dark() -> None:
    image = decoded(b"P5\n2 1\n65535\n" + struct.pack(">2H", 0, 200))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 25700.0, 65535.0], [0, 100, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([1e6, 2e6, 3e6], [0, 128, 255]),
        ([0.0, float("nan"), 1.0], [0, 0, 255]),
        ([7e5, 7e5, 7e5], [0, 0, 0]),
    ],
)
def test_float_tiff_is_read_on_a_scale_that_holds_it(
    values: list[float], expected: list[int]
) -> None:
    pixels = Image.fromarray(np.array([values], dtype=np.float32))
    image = decoded(encoded(pixels, "TIFF"))
    np.testing.assert_allclose(np.asarray(image)[0, :, 0], expected, atol=1)


def test_integers_of_32_bits_that_hold_bytes_stay_as_they_are() -> None:
    for values in ([0, 90, 255], [0, 1, 1]):
        pixels = Image.fromarray(np.array([values], dtype=np.int32))
        image = decoded(encoded(pixels, "TIFF"))
        assert np.asarray(image)[0, :, 0].tolist() == values


def deep_tiff(values: list[float], type: str, **tags: object) -> bytes:
    """A TIFF of one row, written field by field, as Pillow cannot write all of these."""
    pixels = np.array([values], dtype=type)
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    nodata = str(tags.get("nodata", "")).encode() + b"\0"
    fields = [
        (256, 4, len(values)), (257, 4, 1), (258, 3, pixels.itemsize * 8), (259, 3, 1),
        (262, 3, tags.get("photometric", 1)), (273, 4, 8), (277, 3, 1), (278, 4, 1),
        (279, 4, pixels.nbytes), (339, 3, kind),
    ]  # fmt: skip
    ifd = b"".join(struct.pack("<HHII", tag, type, 1, value) for tag, type, value in fields)
    offset = 8 + pixels.nbytes
    count = len(fields) + ("nodata" in tags)
    if "nodata" in tags:
        ifd += struct.pack("<HHII", 42113, 2, len(nodata), offset + 2 + 12 * count + 4)
    head = struct.pack("<2sHI", b"II", 42, offset)
    return head + pixels.tobytes() + struct.pack("<H", count) + ifd + b"\0" * 4 + nodata


@pytest.mark.parametrize(
    ("data", "expected", "note"),
    [
        (deep_tiff([0, 65535], "<u2", photometric=0), [255, 0], ""),
        (deep_tiff([0, 1], "<f4", photometric=0), [255, 0], ""),
        (deep_tiff([0, 0.5, 1.0000001], "<f4"), [0, 128, 255], ""),
        (deep_tiff([-1e-5, 0.5, 1], "<f4"), [0, 128, 255], ""),
        (deep_tiff([0, 2**31, 2**32 - 1], "<u4"), [0, 128, 255], "range 0..4294967295"),
        (deep_tiff([12, 1700, -9999], "<f4", nodata=-9999), [0, 255, 0], "range 12..1700"),
        (deep_tiff([12, 1700, -9999], "<i4", nodata=-9999), [0, 255, 0], "range 12..1700"),
        (deep_tiff([-9999, 1700, -np.inf], "<f4"), [0, 255, 0], "range -9999..1700"),
    ],
)
def test_deep_tiff_is_drawn_as_it_says(data: bytes, expected: list[int], note: str) -> None:
    result = load_image(data, STRICT)
    assert np.asarray(result.image)[0, :, 0].tolist() == expected
    assert result.note == (f"{note} scaled to 0..255" if note else "")


# ---- transparency


def half_transparent(mode: str) -> Image.Image:
    image = two_tone("RGBA")
    image.putalpha(Image.new("L", image.size, 255))
    image.paste((0, 0, 0, 0), (WIDTH // 2, 0, WIDTH, HEIGHT))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "format"),
    [("RGBA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP"), ("LA", "PNG"), ("RGBA", "GIF")],
)
def test_transparent_pixels_become_white(mode: str, format: str) -> None:
    left, right = colours(decoded(encoded(half_transparent(mode), format)))
    assert right == (255, 255, 255)
    assert max(left) < 220


@pytest.mark.parametrize("mode", ["PA", "La", "RGBa"])
def test_transparent_pixels_of_rare_modes_become_white(mode: str) -> None:
    between = {"PA": "P", "La": "LA", "RGBa": "RGBA"}[mode]
    image = half_transparent("RGBA")
    if mode == "PA":
        alpha = image.getchannel("A")
        image = image.convert("RGB").convert(between).convert("PA")
        image.putalpha(alpha)
    else:
        image = image.convert(between).convert(mode)
    assert image.mode == mode
    left, right = colours(decoded(image))
    assert right == (255, 255, 255)
    assert max(left) < 220


def test_half_covering_alpha_is_mixed_with_white() -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert colours(decoded(encoded(image, "PNG")))[0] == (127, 127, 127)


def test_palette_with_alpha_per_entry_and_no_warning() -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2, 0])
    pixels = np.asarray(decoded(encoded(image, "PNG", transparency=b"\xff\x00\x80")))[0].tolist()
    assert pixels == [[255, 0, 0], [255, 255, 255], [127, 127, 255], [255, 0, 0]]


@pytest.mark.parametrize(
    ("mode", "key"), [("RGB", (20, 60, 210)), ("L", 90), ("I;16", 90), ("1", 0)]
)
def test_colour_keys_become_white(mode: str, key: tuple[int, ...] | int) -> None:
    image = Image.new(mode, (4, 4), key)
    assert colours(decoded(encoded(image, "PNG", transparency=key)))[0] == (255, 255, 255)


def test_colour_key_of_16_bit_colour_png() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    key = struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
        + chunk(b"tRNS", key)
        + chunk(b"IDAT", zlib.compress(b"\0" + key))
        + chunk(b"IEND", b"")
    )
    assert colours(decoded(png))[0] == (255, 255, 255)


# ---- orientation


def exif_with(orientation: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(format: str, orientation: int) -> None:
    upright = two_tone()
    upright.paste((0, 0, 0), (0, 0, WIDTH // 2, HEIGHT // 2))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright
    if orientation > 1:
        stored = upright.transpose(Image.Transpose(undo[orientation]))
    image = decoded(encoded(stored, format, exif=exif_with(orientation)))
    assert image.size == upright.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(upright)).mean() < 8


def test_orientation_in_xmp_is_applied() -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    assert decoded(encoded(two_tone(), "PNG", pnginfo=info)).size == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0" * 9,
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\x01\x02\0\x04\0\0\0abc\0",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\x01\x03\0\1\0\0\0\x63\0\0\0",
    ],
)
def test_broken_exif_does_not_cost_a_good_picture(
    exif: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_two_tone(decoded(encoded(two_tone(), "JPEG", exif=exif)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP", "many"])
def test_long_texts_do_not_cost_a_good_png(kind: str) -> None:
    info = PngInfo()
    text = "a" * (900_000 if kind == "many" else 5_000_000)
    for number in range(100 if kind == "many" else 1):
        if kind == "iTXt":
            info.add_itxt("Comment", text, zip=True)
        elif kind != "iCCP":
            info.add_text(f"Comment {number}", text, zip=True)
    options = {"icc_profile": text.encode()} if kind == "iCCP" else {}
    assert_two_tone(decoded(encoded(two_tone(), "PNG", pnginfo=info, **options)), tolerance=0)


# ---- sources


def test_sources_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    two_tone().save(path)
    data = path.read_bytes()
    with path.open("rb") as stream:
        for source in (str(path), path, data, stream, two_tone()):
            assert_two_tone(decoded(source), tolerance=0)
        assert not stream.closed


def test_a_picture_in_memory_is_left_as_it_is() -> None:
    image = two_tone("RGBA")
    image.info["exif"] = exif_with(6).tobytes()
    before = image.tobytes()
    assert decoded(image).size == (HEIGHT, WIDTH)
    assert (image.mode, image.size, image.tobytes()) == ("RGBA", (WIDTH, HEIGHT), before)


def test_streams_are_read_from_where_they_stand() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation("seek")

    assert_two_tone(decoded(Pipe(encoded(two_tone(), "PNG"))))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files through /proc")
def test_files_are_closed(tmp_path: Path) -> None:
    good, bad, torn = tmp_path / "good.gif", tmp_path / "bad.png", tmp_path / "torn.tif"
    good.write_bytes(encoded(two_tone(), "GIF", save_all=True, append_images=[noise()]))
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    torn.write_bytes(encoded(noise(), "TIFF")[:2000])
    before = len(os.listdir("/proc/self/fd"))
    for path in (good, bad, torn):
        with suppress(DecodeError):
            load_image(path, ACCEPT)
    assert len(os.listdir("/proc/self/fd")) == before


# ---- reasons


def test_reasons_of_files_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert reason(tmp_path / "gone.jpg") == "file not found"
    assert reason(empty / "below") == "file not found"
    assert reason("nul\0.jpg") == "file not found"
    assert reason(tmp_path) == "is a folder"
    assert reason(empty) == "empty file"
    assert reason(b"") == "empty file"

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert reason(empty) == "permission denied"


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs files that refuse reading")
def test_files_that_refuse_to_be_read_say_so() -> None:
    assert reason("/proc/self/mem") == "cannot be read: Input/output error"


def test_failing_disks_are_named() -> None:
    class Broken(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(5, "Input/output error")

    assert reason(Broken()) == "cannot be read: Input/output error"


def test_pipes_sockets_and_devices_are_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The address of a socket has room for about a hundred bytes only.
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jpg")
    assert reason("pipe.jpg") == "is a named pipe"
    assert reason("/dev/zero") == "is a device"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert reason("s.jpg") == "is a socket"


@pytest.mark.parametrize("data", [b"hello, world\n", b"\0" * 500, b"%PDF-1.7\n", b"<svg/>"])
def test_what_is_no_picture(data: bytes) -> None:
    assert reason(data) == "not an image"


def test_what_is_read_otherwise_says_how(tmp_path: Path) -> None:
    for name, data, why in (
        ("t.CSV", b"image\na.png\n", "not an image but a table (classify --image-column NAME)"),
        ("list.txt", b"a.png\n", "not an image but a text (@FILE)"),
        ("p", b"PK\x03\x04" + b"x" * 200, "not an image but an archive (zip://FILE)"),
    ):
        (tmp_path / name).write_bytes(data)
        assert reason(tmp_path / name) == why


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS image: not decoded"),
        (b"\xd7\xcd\xc6\x9a\0\0" + b"\0" * 40, "WMF drawing"),
        (b"\1\0\0\0" + b"\0" * 36 + b" EMF" + b"\0" * 40, "EMF drawing"),
        (b"\x00\x00\x01\xb3" + b"\x10" * 40, "MPEG video"),
        (b"BUFR" + b"\0" * 40, "BUFR weather data"),
        (b"GRIB" + b"\0" * 40, "GRIB weather data"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "HDF5 data"),
    ],
)
def test_formats_that_pillow_hands_over_have_their_own_reason(data: bytes, start: str) -> None:
    assert reason(data).startswith(start)


def test_eps_never_reaches_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    def fail(*_: object, **__: object) -> None:
        pytest.fail("a program was started")

    data = encoded(two_tone(), "EPS")
    monkeypatch.setattr(subprocess, "Popen", fail)
    assert reason(data).startswith("EPS image")


def test_damage_names_the_format() -> None:
    png = bytearray(encoded(noise(), "PNG"))
    png[200] ^= 0xFF
    assert reason(bytes(png)) == "corrupt: damaged or incomplete PNG data"
    jpeg = encoded(noise(), "JPEG").replace(b"\xff\xdb", b"\xff\xfe")
    assert reason(jpeg) == "corrupt: damaged or incomplete JPEG data"
    webp = encoded(noise(), "WEBP")
    assert reason(webp[: len(webp) // 2]) == "corrupt: damaged or incomplete WEBP data"


def test_unsupported_variants_are_not_called_corrupt() -> None:
    dds = bytearray(encoded(two_tone(), "DDS"))
    dds[80:84] = struct.pack("<I", 4)
    dds[84:88] = b"????"
    assert reason(bytes(dds)) == "not supported: this kind of DDS"


def test_what_a_plugin_has_not_implemented_is_not_called_corrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert reason(encoded(two_tone(), "BMP")) == "not supported: this kind of BMP"


def test_memory_running_out_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert reason(encoded(two_tone(), "BMP")) == "not enough memory to decode it"


@pytest.mark.parametrize(
    "error",
    [SyntaxError, struct.error, ValueError, IndexError, KeyError, zlib.error, OverflowError]
    + [TypeError, RecursionError, AttributeError, AssertionError, ZeroDivisionError],
)
def test_load_is_guarded_against_whatever_a_plugin_raises(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarding only `Image.open` ends whole runs: most damage shows in `load`."""

    def fail(*_: object) -> None:
        raise error("0x7f3a at /some/path")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert reason(encoded(two_tone(), "BMP")) == "corrupt: damaged or incomplete BMP data"


SAMPLES = {
    format: encoded(noise(), format)
    for format in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TGA", "TIFF", "WEBP", "ICO", "PCX", "SGI")
}


@given(
    format=st.sampled_from(sorted(SAMPLES)),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    keep=st.floats(0, 1),
    options=st.sampled_from([STRICT, ACCEPT]),
)
@settings(max_examples=200, deadline=None)
def test_damaged_files_raise_nothing_but_decode_errors(
    format: str, damage: list[tuple[int, int]], keep: float, options: DecodeOptions
) -> None:
    data = bytearray(SAMPLES[format])
    for place, value in damage:
        data[place % len(data)] = value
    with suppress(DecodeError):
        decoded(bytes(data[: int(len(data) * keep)]), options)


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_random_bytes_raise_nothing_but_decode_errors(data: bytes) -> None:
    with pytest.raises(DecodeError):
        load_image(data, STRICT)


# ---- truncated files


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("TIFF", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("PPM", {}),
    ],
)
def test_truncated_files_are_scored_only_when_that_was_asked_for(
    tmp_path: Path, format: str, options: dict[str, object]
) -> None:
    whole = encoded(noise(), format, **options)
    path = tmp_path / "torn"
    path.write_bytes(whole[: len(whole) * 6 // 10])
    assert reason(path) == "truncated: the file ends too early (--truncated accept)"
    result = load_image(path, ACCEPT)
    assert result.note == TRUNCATED_NOTE
    same = np.asarray(result.image).astype(int) - np.asarray(decoded(whole))
    rows = np.abs(same).mean(axis=(1, 2)) < 40
    assert rows.mean() > 0.4


def test_a_jpeg_without_its_end_marker_loses_nothing() -> None:
    whole = encoded(noise(), "JPEG")
    result = load_image(whole[:-2], ACCEPT)
    np.testing.assert_array_equal(np.asarray(result.image), np.asarray(decoded(whole)))


def test_a_truncated_file_with_no_pixels_stays_a_failure() -> None:
    bmp = encoded(noise(), "BMP")
    assert reason(bmp[:60], ACCEPT) == "truncated: too little of it is there"
    avif = encoded(noise(), "AVIF")
    assert reason(avif[:-1], ACCEPT) == "truncated: too little of it is there"


def test_accepting_truncated_files_does_not_accept_damaged_ones() -> None:
    png = bytearray(encoded(noise(), "PNG"))
    png[200] ^= 0xFF
    assert reason(bytes(png), ACCEPT) == "corrupt: damaged or incomplete PNG data"


def test_whole_pictures_carry_no_note() -> None:
    assert load_image(encoded(two_tone(), "PNG"), ACCEPT).note == ""


# ---- size


def test_the_limit_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (2000, 1000)), "PNG")

    def fail(*_: object) -> None:
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    options = DecodeOptions(max_megapixels=1.5)
    assert reason(data, options) == "too large: 2 megapixels, the limit is 1.5 (--max-megapixels)"


class Watch:
    """Counts how many pictures are decoded at the same moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._convert = as_rgb
        monkeypatch.setattr("clipcls.inputs.decode.as_rgb", self._watched)

    def _watched(self, image: Image.Image, *, opaque: bool) -> tuple[Image.Image, str]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.03)
        try:
            return self._convert(image, opaque=opaque)
        finally:
            with self._lock:
                self._now -= 1


@pytest.mark.parametrize(("limit", "alone"), [(WIDTH * HEIGHT - 1, True), (WIDTH * HEIGHT, False)])
def test_large_pictures_are_decoded_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, limit: int, alone: bool
) -> None:
    monkeypatch.setattr(decode, "LARGE_PIXELS", limit)
    watch = Watch(monkeypatch)
    data = encoded(two_tone(), "PNG")
    with ThreadPoolExecutor(4) as pool:
        for image in pool.map(decoded, [data] * 8):
            assert_two_tone(image, tolerance=0)
    assert (watch.most == 1) is alone


def test_a_large_picture_that_fails_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "LARGE_PIXELS", 1)
    data = encoded(noise(), "PNG")
    assert reason(data[: len(data) // 2]).startswith("truncated")
    assert decoded(data).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("limit", [2.0, 2.5])
def test_pictures_up_to_the_limit_are_decoded(limit: float) -> None:
    data = encoded(Image.new("1", (2000, 1000)), "PNG")
    assert decoded(data, DecodeOptions(max_megapixels=limit)).size == (2000, 1000)


@pytest.mark.usefixtures("small_pillow_limit")
def test_pillows_bomb_warning_is_neither_printed_nor_a_failure(
    capfd: pytest.CaptureFixture[str],
) -> None:
    data = encoded(Image.new("1", (1500, 1000)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoded(data).size == (1500, 1000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("small_pillow_limit")
def test_pillows_own_limit_is_worded_like_ours() -> None:
    data = encoded(Image.new("1", (4000, 1000)), "PNG")
    options = DecodeOptions(max_megapixels=3)
    assert reason(data, options) == "too large: 4 megapixels, the limit is 3 (--max-megapixels)"
    assert reason(data) == (
        "too large: 4 megapixels, Pillow itself is limited to 2"
        " (clipcls.inputs.pillow.lift_pillow_limit)"
    )


@pytest.mark.usefixtures("small_pillow_limit")
def test_lifting_pillows_limit() -> None:
    data = encoded(Image.new("1", (4000, 1000)), "PNG")
    lift_pillow_limit(4.0)
    assert decoded(data).size == (4000, 1000)
    lift_pillow_limit(1.0)
    assert decoded(data).size == (4000, 1000)
    lift_pillow_limit()
    assert Image.MAX_IMAGE_PIXELS is None
    lift_pillow_limit(1.0)
    assert Image.MAX_IMAGE_PIXELS is None


# ---- the user's process


def test_no_setting_of_pillow_is_changed() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    during: list[bool] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            during.append(ImageFile.LOAD_TRUNCATED_IMAGES)
            return super().read(size)

    load_image(Watched(encoded(noise(), "JPEG")[:-500]), ACCEPT)
    assert not any([*during, ImageFile.LOAD_TRUNCATED_IMAGES])
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.usefixtures("small_pillow_limit")
def test_the_users_own_warnings_stay_loud_during_decoding() -> None:
    decoding, done = threading.Event(), threading.Event()
    data = encoded(Image.new("1", (1500, 1000)), "PNG")

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            decoding.set()
            done.wait(10)
            return super().read(size)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(load_image, Slow(data), STRICT)
        assert decoding.wait(10)
        # Pytest's own filter turns every warning into an error.
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(io.BytesIO(data))
        done.set()
        assert future.result(10).image.size == (1500, 1000)
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data))


@pytest.mark.usefixtures("small_pillow_limit")
def test_many_threads_decode_at_once() -> None:
    warned = encoded(Image.new("1", (1500, 1000)), "PNG")
    sources = [warned, encoded(noise(), "JPEG")[:-900], b"nothing"] * 40

    def outcome(data: bytes) -> str:
        try:
            return load_image(data, ACCEPT).note
        except DecodeError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, sources)) == ["", TRUNCATED_NOTE, "not an image"] * 40


def test_an_unreadable_picture_is_never_replaced_by_its_neighbour(tmp_path: Path) -> None:
    for name, data in {
        "a.png": encoded(Image.new("RGB", (4, 4), "red"), "PNG"),
        "b.png": encoded(noise(), "PNG")[:300],
        "c.png": encoded(Image.new("RGB", (4, 4), "blue"), "PNG"),
    }.items():
        (tmp_path / name).write_bytes(data)
    assert colours(decoded(tmp_path / "a.png"))[0] == (255, 0, 0)
    assert reason(tmp_path / "b.png").startswith("truncated")
    assert colours(decoded(tmp_path / "c.png"))[0] == (0, 0, 255)


# ---- HEIF


def heic_header(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands)
    return struct.pack(">I", len(body) + 4) + body + b"\0" * 100


@pytest.fixture
def no_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register_heif.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    yield
    register_heif.cache_clear()


@pytest.mark.usefixtures("no_pillow_heif")
@pytest.mark.parametrize("brands", [(b"heic", b"mif1"), (b"mif1", b"heic"), (b"hevc",)])
def test_heic_without_the_extra_names_the_extra(brands: tuple[bytes, ...]) -> None:
    assert reason(heic_header(*brands)) == "HEIC image: pip install 'clipcls[heif]'"


@pytest.mark.usefixtures("no_pillow_heif")
def test_avif_needs_no_extra() -> None:
    assert_two_tone(decoded(encoded(two_tone(), "AVIF")))
    assert reason(heic_header(b"mif1", b"avif")) == "corrupt: damaged or incomplete AVIF data"


def test_heic_with_the_extra(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "phone.heic"
    pillow_heif.from_pillow(two_tone()).save(path)
    assert_two_tone(decoded(path))
    assert reason(heic_header(b"heic")).endswith("damaged or incomplete HEIF data")
