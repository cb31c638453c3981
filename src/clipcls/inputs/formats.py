"""What the numbers in a file mean: from what Pillow reads to RGB as a viewer shows it.

- Up to 8 bits a channel (RGB, grey, palette, CMYK, Lab), and 16 bits RGB(A): as Pillow reads it.
- Alpha: over white, unless the file says that its last channel is none (TIFF, TGA, BMP).
- 16 bits grey: 0 to 65535, or to what the file declares (12 bits packed, MaxSampleValue); where no
  value needs more than 14 bits, to the smallest of 8, 10, 12 and 14 bits, with a note.
- 32 bits grey, whole numbers or floats: on the smallest usual scale that is used, else from the
  lowest to the highest value, with a note.
- White is zero: turned round, at every depth.
- NaN, infinite values, GDAL's no-data value: left out of the range, drawn as the lowest value.
- Signed 8 bits, separate planes beyond 8 bits, declared 9 to 15 bits in RGB: "not supported",
  because Pillow would show them wrong. Other depths of TIFF, colour PFM: "not supported", because
  Pillow does not read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from clipcls.errors import DecodeError

# Tags of TIFF 6.0, and GDAL's own.
_WIDTH, _BITS, _PHOTOMETRIC, _OFFSETS, _COUNTS = 256, 258, 262, 273, 279
_MAX_VALUE, _PLANAR, _SAMPLE_FORMAT, _MAX_SAMPLE_VALUE = 281, 284, 339, 341
_EXTRA_SAMPLES, _GDAL_NODATA = 338, 42113
_SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}


def check_supported(image: Image.Image) -> None:
    """Refuse what Pillow opens and would show wrong.

    Raises:
        DecodeError: Naming the property.
    """
    tags = _tags(image)
    bits: tuple[int, ...] = tags.get(_BITS, (1,))
    if 2 in tags.get(_SAMPLE_FORMAT, ()) and max(bits) == 8:
        raise DecodeError("not supported: TIFF with signed 8-bit samples")
    if tags.get(_PLANAR) == 2 and 1 in tags.get(_EXTRA_SAMPLES, ()):
        raise DecodeError("not supported: TIFF with separate planes and premultiplied alpha")
    if len(bits) > 1 and max(bits) > 8:
        if tags.get(_PLANAR) == 2:
            raise DecodeError(f"not supported: TIFF with separate planes of {max(bits)} bits")
        declared = _declared_white(tags)
        if declared is not None and declared < 65535:
            raise DecodeError(f"not supported: {max(bits)}-bit RGB TIFF with values to {declared}")


def unsupported(kind: str | None, stream: BinaryIO) -> str | None:
    """Return what Pillow does not know about a file of a kind, None where the file is damaged."""
    if kind == "JPEG":
        _, bits = jpeg_frame(stream)
        return f"not supported: JPEG with {bits} bits" if bits in (12, 16) else None
    return _unsupported_tiff(stream) if kind == "TIFF" else None


def _unsupported_tiff(stream: BinaryIO) -> str | None:
    stream.seek(0)
    with suppress(Exception):  # whatever a damaged header leads to
        header = stream.read(8)
        # BigTIFF counts in 64 bits.
        header += stream.read(8) if 43 in (header[2], header[3]) else b""
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        stream.seek(directory.next)
        directory.load(stream)
        size = stream.seek(0, 2)
        ends = zip(directory[_OFFSETS], directory[_COUNTS], strict=True)
        if directory[_WIDTH] and all(start + count <= size for start, count in ends):
            bits = directory.get(_BITS, (1,))
            numbers = _SAMPLE_FORMATS.get(directory.get(_SAMPLE_FORMAT, (1,))[0], "unknown")
            return (
                f"not supported: TIFF with {len(bits)} x {bits[0]}-bit {numbers} samples,"
                f" photometric interpretation {directory.get(_PHOTOMETRIC)}"
            )
    return None


def scale_colour_key(image: ImageFile.ImageFile) -> None:
    """Bring the transparent grey of a PNG of 2 or 4 bits to the 8 bits that Pillow scales it to."""
    key = image.info.get("transparency")
    if image.format == "PNG" and isinstance(key, int) and image.tile:
        image.info["transparency"] = key * {"L;2": 85, "L;4": 17}.get(str(image.tile[0].args), 1)


def declares_no_alpha(image: Image.Image) -> bool:
    """Return whether a TGA of 32 bits says in its header that none of them are alpha."""
    file = image.fp if isinstance(image, ImageFile.ImageFile) else None
    if image.format != "TGA" or file is None:
        return False
    place = file.tell()
    file.seek(17)
    descriptor = file.read(1)
    file.seek(place)
    return not descriptor[0] & 15


def jpeg_frame(stream: IO[bytes]) -> tuple[int, int]:
    """Return a JPEG's kind of frame (0xC0 to 0xCF) and its bits per sample.

    Zeros where what comes before the frame is not in order. Markers are as in ITU T.81, table B.1.
    """
    stream.seek(2)
    while len(head := stream.read(5)) == 5 and head[0] == 0xFF:
        marker, size = head[1], int.from_bytes(head[2:4], "big")
        # Those that fall between the frames' are tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker, head[4]
        # Markers without a length are not read as having one: a frame could hide in it.
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or marker == 0xFF or size < 2:
            break
        stream.seek(size - 3, 1)
    return 0, 0


def as_rgb(image: Image.Image, *, opaque: bool) -> tuple[Image.Image, str]:
    """Return a decoded image in RGB, and a note where a range of values was chosen.

    Args:
        image: As Pillow has loaded it.
        opaque: Whether the file says that what looks like alpha is none.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        scaled, note = _eight_bits(image)
        return Image.fromarray(scaled).convert("RGB"), note
    if image.has_transparency_data and not opaque:
        return _over_white(image), ""
    return (image if image.mode == "RGB" else image.convert("RGB")), ""


def _over_white(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        # Pillow keeps the upper 8 of 16 bits of each channel, but the whole of the colour key.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.mode == "La":
        # Pillow converts premultiplied grey to nothing but its plain form.
        image = image.convert("LA")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    # Pasting needs no copy of the whole image but the result.
    flat = Image.new("RGB", rgba.size, "white")
    flat.paste(rgba, mask=rgba)
    return flat


def _tags(image: Image.Image) -> Mapping[int, Any]:
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def _declared_white(tags: Mapping[int, Any]) -> int | None:
    """Return the highest value that a TIFF says it can have, where it says so."""
    declared = tags.get(_MAX_SAMPLE_VALUE) or tags.get(_MAX_VALUE)
    value = declared[0] if isinstance(declared, tuple) else declared
    return int(value) if value else None


def _eight_bits(image: Image.Image) -> tuple[NDArray[np.uint8], str]:
    """Scale one deep channel to (H, W) uint8; the note tells a range that was chosen."""
    tags = _tags(image)
    pixels = np.asarray(image)
    if image.mode == "I" and tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
        # Pillow reads unsigned integers of 32 bits as signed ones.
        pixels = pixels.view(np.uint32)
    missing = ~np.isfinite(pixels)
    with suppress(ValueError):
        missing |= pixels == float(str(tags.get(_GDAL_NODATA, "nan")).strip("\0 "))
    known = pixels[~missing]
    bounds = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if image.mode.startswith("I;16"):
        low, high, chosen = _scale_of_16_bits(bounds, tags)
    elif image.format == "PPM" and image.mode == "I":
        low, high, chosen = 0.0, 65535.0, False
    else:
        low, high, chosen = _scale_of_32_bits(bounds, floats=image.mode == "F")
    digits = 6 if image.mode == "F" else 10  # all of those that a whole number of 32 bits has
    note = f"range {low:.{digits}g}..{high:.{digits}g} scaled to 0..255" if chosen else ""
    scale = 255.0 / (high - low) if high > low else 0.0
    # Whole numbers of 32 bits that lie close together would be one and the same in float32.
    narrow = image.mode == "F" or high <= 65535
    values: NDArray[Any] = pixels.astype(np.float32 if narrow else np.float64)
    # In place, because each copy takes 4 bytes per pixel.
    values[missing] = low
    values -= low
    values *= scale
    scaled: NDArray[np.uint8] = (
        np.rint(values, out=values).clip(0, 255, out=values).astype(np.uint8)
    )
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero
        scaled = 255 - scaled
    key = image.info.get("transparency")
    if isinstance(key, int):
        scaled[pixels == key] = 255
    return scaled, note


def _scale_of_16_bits(
    bounds: tuple[float, float], tags: Mapping[int, Any]
) -> tuple[float, float, bool]:
    """Return the values that mean black and white, and whether they were chosen, not read."""
    declared = _declared_white(tags) or 2 ** min(tags.get(_BITS, (16,))[0], 16) - 1
    if bounds[1] <= declared < 65535:
        return 0.0, float(declared), False
    # Cameras and scanners leave 8, 10, 12 or 14 bits in 16 without a word; a viewer that took them
    # for 16 would show nearly black.
    used = next((n for n in (8, 10, 12, 14) if 0 < bounds[1] < 2**n), 16)
    return 0.0, 2.0**used - 1, used < 16


def _scale_of_32_bits(bounds: tuple[float, float], *, floats: bool) -> tuple[float, float, bool]:
    """Return the same for numbers that do not say it themselves.

    The smallest usual scale that holds all values is taken (0 to 1 for floats, 0 to 255, 0 to
    65535) if its upper half is used where a smaller one was passed over: heights, temperatures or
    light beyond white would be nearly black on it. Floats may leave a scale by a thousandth, as
    rounding does.
    """
    low, high = bounds
    scales = (1.0, 255.0, 65535.0) if floats else (255.0, 65535.0)
    for white in scales:
        bright = white == scales[0] or high > white / 2
        slack = white / 1000 if floats else 0.0
        if low >= -slack and high <= white + slack and bright:
            return 0.0, white, False
    return low, high, True
