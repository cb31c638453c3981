"""Large JPEGs at a part of their size: never below what the model needs, never another picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clipcls.errors import DecodeError
from clipcls.inputs.decode import TRUNCATED_NOTE, load_image
from clipcls.inputs.formats import jpeg_frame
from clipcls.options import DecodeOptions, Decoding, Truncated

FAST = DecodeOptions()
EXACT = DecodeOptions(decoding=Decoding.EXACT)
SIDE = 64


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Soft colours with shapes of several sizes, in each corner another."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 8, height // 8, width // 3, height // 3), fill=(250, 220, 30))
    draw.rectangle((width // 2, height // 2, width - 9, height // 2 + 40), fill=(10, 90, 30))
    return image.convert(mode)


def jpeg(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **{"quality": 92, **options})
    return stream.getvalue()


def lossless_jpeg(width: int, height: int) -> bytes:
    """A grey image in process 14 of ITU T.81, which knows no DCT: each pixel equals the one before.

    The only Huffman code is a zero, for a difference of zero.
    """
    frame = b"\xff\xc3\x00\x0b\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big")
    table = b"\xff\xc4\x00\x14\x00" + bytes([1, *[0] * 15]) + b"\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00"
    return (
        b"\xff\xd8" + frame + b"\x01\x01\x11\x00" + table + scan + bytes(width * height // 8)
    ) + b"\xff\xd9"


def distance(data: bytes, side: int = SIDE) -> float:
    """Mean difference in steps of 1/255 between both ways, once brought to a model's size."""
    fast, exact = (
        load_image(data, options, side).image.resize((side, side), Image.Resampling.BICUBIC)
        for options in (FAST, EXACT)
    )
    return float(np.abs(np.asarray(fast, float) - np.asarray(exact, float)).mean())


@pytest.mark.parametrize(
    ("size", "reduced"),
    [
        ((2 * SIDE, 2 * SIDE), (128, 128)),
        ((4 * SIDE - 1, 4 * SIDE), (255, 256)),  # one side would be 127.5
        ((4 * SIDE, 4 * SIDE), (128, 128)),
        ((1000, 600), (250, 150)),
        ((600, 1000), (150, 250)),
        ((1024, 1024), (128, 128)),
        ((4000, 3000), (500, 375)),
        ((4000, 140), (4000, 140)),
        ((20, 30), (20, 30)),
    ],
)
def test_both_sides_keep_twice_the_models(size: tuple[int, int], reduced: tuple[int, int]) -> None:
    data = jpeg(scene(*size))
    assert load_image(data, FAST, SIDE).image.size == reduced
    assert load_image(data, EXACT, SIDE).image.size == size
    assert load_image(data, FAST).image.size == size, "no side, no reduction"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}], ids=str
)
@pytest.mark.parametrize("size", [(700, 500), (601, 1203), (2048, 2048)])
def test_the_picture_stays_the_same(
    mode: str, options: dict[str, object], size: tuple[int, int]
) -> None:
    data = jpeg(scene(*size, mode), **options)
    assert min(load_image(data, FAST, SIDE).image.size) < min(size)
    assert distance(data) < 2


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_image_on_its_side_is_reduced_and_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(scene(1200, 700), exif=exif)
    found = load_image(data, FAST, SIDE).image
    assert found.size == ((300, 175) if orientation < 5 else (175, 300))
    assert distance(data) < 2


def test_a_lossless_jpeg_is_left_whole() -> None:
    data = lossless_jpeg(1024, 512)
    assert jpeg_frame(io.BytesIO(data)) == (0xC3, 8)
    found = load_image(data, FAST, SIDE).image
    assert found.size == (1024, 512)
    assert found.getextrema() == ((128, 128),) * 3


def test_multi_picture_files_are_reduced_like_jpegs() -> None:
    stream = io.BytesIO()
    scene(1024, 768).save(stream, "MPO", save_all=True, append_images=[scene(320, 240)])
    found = load_image(stream.getvalue(), FAST, SIDE).image
    assert found.size == (256, 192)
    assert distance(stream.getvalue()) < 2


def test_other_formats_are_never_reduced() -> None:
    for format in ("PNG", "WEBP", "TIFF"):
        stream = io.BytesIO()
        scene(800, 600).save(stream, format)
        assert load_image(stream.getvalue(), FAST, SIDE).image.size == (800, 600)


@pytest.mark.parametrize("progressive", [False, True])
def test_what_is_there_of_a_truncated_jpeg_is_reduced_too(progressive: bool) -> None:
    data = jpeg(scene(1600, 1200), progressive=progressive)
    cut = data[: 2 * len(data) // 3]
    found = load_image(cut, DecodeOptions(truncated=Truncated.ACCEPT), SIDE)
    assert (found.image.size, found.note) == ((200, 150), TRUNCATED_NOTE)


def test_a_picture_in_memory_is_the_users_own() -> None:
    image = Image.open(io.BytesIO(jpeg(scene(800, 600))))
    assert load_image(image, FAST, SIDE).image.size == (800, 600)
    assert image.size == (800, 600)


def test_the_limit_of_megapixels_is_that_of_the_file() -> None:
    with pytest.raises(DecodeError, match="too large"):
        load_image(jpeg(scene(2000, 1000)), DecodeOptions(max_megapixels=1.9), SIDE)
