"""Deep, packed, inverted and odd formats: drawn as a viewer would, or refused by their property.

Files are written by tifffile or by hand, and what is expected is computed from the numbers that
were written, or read back by tifffile, never by Pillow.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from clipcls.errors import DecodeError
from clipcls.inputs.decode import load_image
from clipcls.options import DecodeOptions

RAMP = np.linspace(0, 1, 64).reshape(8, 8)
COLOUR = np.stack([RAMP, RAMP[::-1], np.zeros_like(RAMP)], axis=-1)


def tiff(samples: NDArray[Any], **settings: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **settings)
    return file.getvalue()


def filled(kind: str, shape: NDArray[np.float64] = RAMP) -> NDArray[Any]:
    """Return the shape in a sample format, over the whole of its positive range."""
    # A float64 cannot hold the highest number of 64 bits, and casting the next one is undefined.
    top = min(np.iinfo(kind).max, 2**53) if kind[0] in "iu" else 1
    return (shape * top).astype(kind)


def drawn(data: bytes) -> tuple[NDArray[np.uint8], str]:
    decoded = load_image(data, DecodeOptions())
    return np.asarray(decoded.image), decoded.note


def check(data: bytes, expected: NDArray[np.float64]) -> str:
    """Compare with what is expected from 0 to 1, (8, 8) or (8, 8, 3), and return the note."""
    pixels, note = drawn(data)
    target = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=-1)
    np.testing.assert_allclose(pixels, 255 * target, atol=1.5)
    return note


def reason(data: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        load_image(data, DecodeOptions())
    return str(caught.value)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_of_every_depth_is_bright_where_it_should_be(kind: str, photometric: str) -> None:
    data = tiff(filled(kind), photometric=photometric)
    written = tifffile.imread(io.BytesIO(data))
    bright = written / (np.iinfo(kind).max if kind[0] == "u" else 1.0)
    assert check(data, 1 - bright if photometric == "miniswhite" else bright) == ""


@pytest.mark.parametrize("kind", ["uint32", "int16", "int32"])
def test_numbers_without_a_white_are_drawn_over_their_range_and_it_is_told(kind: str) -> None:
    note = check(tiff(filled(kind), photometric="minisblack"), RAMP)
    assert note == f"range 0..{np.iinfo(kind).max} scaled to 0..255"


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_colour_of_16_bits_is_that_of_8(kind: str) -> None:
    assert check(tiff(filled(kind, COLOUR), photometric="rgb"), COLOUR) == ""


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
@pytest.mark.parametrize("tag", [281, 341])
def test_declared_values_in_16_bits_are_taken_as_declared(bits: int, tag: int) -> None:
    half = (0.5 * RAMP * (2**bits - 1)).astype("uint16")
    extra = [(tag, "H", 1, 2**bits - 1, True)]
    assert check(tiff(half, photometric="minisblack", extratags=extra), 0.5 * RAMP) == ""
    inverted = tiff(half, photometric="miniswhite", extratags=extra)
    assert check(inverted, 1 - 0.5 * RAMP) == ""


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_few_bits_in_16_without_a_word_are_found_and_told(bits: int) -> None:
    top = 2**bits - 1
    data = tiff((RAMP * top).astype("uint16"), photometric="minisblack")
    assert check(data, RAMP) == f"range 0..{top} scaled to 0..255"


def test_values_beyond_14_bits_use_all_16() -> None:
    assert check(tiff((RAMP * 20000).astype("uint16")), RAMP * 20000 / 65535) == ""


def test_twelve_bits_packed() -> None:
    values = (RAMP * 4095).astype(int).ravel()
    packed = "".join(f"{value:012b}" for value in values)
    pixels = bytes(int(packed[i : i + 8], 2) for i in range(0, len(packed), 8))
    tags = [
        *[(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 12), (259, 3, 1, 1)],
        *[(262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 8)],
        (279, 4, 1, len(pixels)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
    data = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + bytes(4)
    assert check(data, RAMP) == ""


@pytest.mark.parametrize("overshoot", [1.0, 1.0000001, 1.0005])
def test_floats_that_overshoot_by_rounding_stay_on_their_scale(overshoot: float) -> None:
    assert check(tiff((RAMP * overshoot).astype("float32")), RAMP) == ""
    assert check(tiff((RAMP * 255 * overshoot).astype("float32")), RAMP) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1.2), (0, 4), (-0.5, 0.5), (0, 90), (-40, 3000)])
def test_floats_of_no_usual_scale_are_drawn_over_their_range(low: float, high: float) -> None:
    note = check(tiff((low + RAMP * (high - low)).astype("float32")), RAMP)
    assert note == f"range {low:g}..{high:g} scaled to 0..255"


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_no_part_of_the_range(missing: float) -> None:
    heights = (RAMP * 1700).astype("float32")
    heights[0, 1] = missing
    pixels, note = drawn(tiff(heights))
    assert note == "range 0..1700 scaled to 0..255"
    assert pixels[0, 1].tolist() == [0, 0, 0]
    assert pixels[-1, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["int16", "float32", "int32"])
def test_no_data_of_a_height_map_is_no_part_of_the_range(kind: str) -> None:
    heights = (100 + RAMP * 1600).astype(kind)
    heights[3, 3] = -9999
    data = tiff(heights, extratags=[(42113, "s", 0, "-9999", True)])
    pixels, note = drawn(data)
    assert note == "range 100..1700 scaled to 0..255"
    assert pixels[3, 3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_fourth_channel_is_alpha_only_if_the_file_says_so(extra: int, kind: str) -> None:
    samples = np.concatenate([filled(kind, COLOUR), np.zeros((8, 8, 1), kind)], axis=-1)
    data = tiff(samples, photometric="rgb", extrasamples=[extra])
    assert check(data, np.ones_like(COLOUR) if extra else COLOUR) == ""


@pytest.mark.parametrize(("attributes", "expected"), [(0, (200, 0, 0)), (8, (255, 255, 255))])
def test_tga_says_whether_its_fourth_byte_is_alpha(
    attributes: int, expected: tuple[int, int, int]
) -> None:
    header = bytes([0, 0, 2, *bytes(9)]) + struct.pack("<HH", 8, 8) + bytes([32, attributes])
    pixels, _ = drawn(header + bytes([0, 0, 200, 0]) * 64)
    assert {tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()} == {expected}


def test_the_fourth_byte_of_a_plain_bmp_is_padding() -> None:
    body = bytes([0, 0, 200, 0]) * 64
    info = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 32, 0, len(body), 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + info + body
    assert drawn(data)[0][0, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pfm_in_grey(order: str) -> None:
    scale = -1.0 if order == "<" else 1.0
    rows = RAMP[::-1].astype(f"{order}f4").tobytes()  # from bottom to top
    assert check(f"Pf\n8 8\n{scale}\n".encode() + rows, RAMP) == ""


def png(samples: NDArray[Any], colour: int, bits: int = 16, key: int | None = None) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        size, check_sum = struct.pack(">I", len(body)), struct.pack(">I", zlib.crc32(name + body))
        return size + name + body + check_sum

    numbers = samples.astype(int).reshape(8, -1)
    texts = ("".join(f"{number:0{bits}b}" for number in row) for row in numbers)
    rows = (int(text, 2).to_bytes(len(text) // 8, "big") for text in texts)
    header = struct.pack(">IIBBBBB", 8, 8, bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    transparent = b"" if key is None else chunk(b"tRNS", struct.pack(">H", key))
    chunks = chunk(b"IHDR", header) + transparent + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_png_of_16_bits() -> None:
    assert check(png(RAMP * 65535, 0), RAMP) == ""
    assert check(png(COLOUR * 65535, 2), COLOUR) == ""
    assert check(png(RAMP * 1023, 0), RAMP) == "range 0..1023 scaled to 0..255"


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_grey_of_a_png_is_white_at_every_depth(bits: int) -> None:
    top = 2**bits - 1
    greys = np.arange(64).reshape(8, 8) % (top + 1)
    key = min(top, 1)
    assert check(png(greys, 0, bits, key), np.where(greys == key, 1.0, greys / top)) == ""


def jpeg(marker: int, bits: int) -> bytes:
    """Return a JPEG with nothing but a sound frame header of a kind."""
    frame = struct.pack(">BBHBHHB", 0xFF, marker, 11, bits, 8, 8, 1) + b"\1\x11\0"
    return b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(16) + b"\xff\xd9"


REFUSED = [
    (lambda: tiff(filled("int8"), photometric="minisblack"), "signed 8-bit"),
    (lambda: tiff(filled("float16"), photometric="minisblack"), "1 x 16-bit float"),
    (lambda: tiff(filled("float64"), photometric="minisblack"), "1 x 64-bit float"),
    (lambda: tiff(filled("uint64"), photometric="minisblack"), "1 x 64-bit unsigned"),
    (lambda: tiff(filled("int16"), photometric="miniswhite"), "photometric interpretation 0"),
    (lambda: tiff(filled("uint32"), photometric="miniswhite"), "photometric interpretation 0"),
    (lambda: tiff(filled("float32", COLOUR), photometric="rgb"), "3 x 32-bit float"),
    (lambda: tiff(filled("uint32", COLOUR), photometric="rgb"), "3 x 32-bit unsigned"),
    (
        lambda: tiff(
            np.moveaxis(filled("uint16", COLOUR), -1, 0), photometric="rgb", planarconfig="separate"
        ),
        "separate planes of 16 bits",
    ),
    (
        lambda: tiff(
            (COLOUR * 4095).astype("uint16"),
            photometric="rgb",
            extratags=[(281, "H", 3, (4095,) * 3, True)],
        ),
        "values to 4095",
    ),
    (
        lambda: tiff(
            np.moveaxis(filled("uint8", np.dstack([COLOUR, RAMP])), -1, 0),
            photometric="rgb",
            planarconfig="separate",
            extrasamples=[1],
        ),
        "premultiplied",
    ),
    (lambda: jpeg(0xC1, 12), "JPEG with 12 bits"),
    (lambda: jpeg(0xC2, 12), "JPEG with 12 bits"),
    (lambda: b"PF\n8 8\n-1.0\n" + bytes(768), "PFM in colour"),
]


@pytest.mark.parametrize(("make", "property_"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_would_be_drawn_wrong_is_refused_by_its_property(make: Any, property_: str) -> None:
    said = reason(make())
    assert said.startswith("not supported: ")
    assert property_ in said


def test_a_damaged_file_of_an_unsupported_kind_is_damaged() -> None:
    data = tiff(filled("float64"), photometric="minisblack")
    assert reason(data[:-200]).startswith(("corrupt", "truncated"))
