"""Bytes -> an upright RGB image of 8 bits per channel, or a reason why not.

`load_image` raises `DecodeError` and nothing else, whatever the bytes are. It may run in many
threads at once, so it changes no setting of Pillow: neither `LOAD_TRUNCATED_IMAGES` nor
`MAX_IMAGE_PIXELS` is touched, and warnings are silenced for the decoding thread only.

Reasons are short, stable and free of paths, so that a summary can count them.
"""

from __future__ import annotations

import io
import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

from PIL import (
    ExifTags,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
)

from clipcls.errors import DecodeError
from clipcls.inputs.files import open_file, os_reason
from clipcls.inputs.formats import (
    as_rgb,
    check_supported,
    declares_no_alpha,
    jpeg_frame,
    scale_colour_key,
    unsupported,
)
from clipcls.inputs.pillow import formats, quiet_pillow, register_heif
from clipcls.inputs.recognize import (
    PREFIX_BYTES,
    REFUSED_SIGNATURES,
    is_heif,
    missing_codec,
    not_an_image,
    signature,
)
from clipcls.options import DecodeOptions, Decoding, Truncated

Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image"

TRUNCATED_NOTE = "truncated image, scored from what is there"

LARGE_PIXELS = 40_000_000
"""Above this, images are decoded one at a time: each takes 8 to 20 bytes per pixel meanwhile."""

REDUCED_SIDES = 2
"""A JPEG that is decoded at a part of its size keeps this many times the side that is needed."""

_SCALABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive DCT. A lossless JPEG has no smaller size to be decoded at, and
asking for one would cost the image."""

_JPEG_END = b"\xff\xd9"

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the image upright (EXIF 2.32, tag 0x0112)."""

_SAYS_TRUNCATED = re.compile(r"truncated|not enough image data|unexpected end of file")
_SAYS_OUT_OF_MEMORY = re.compile(r"out of memory")
_SAYS_UNSUPPORTED = re.compile(r"unsupported|not supported|unimplemented|not implemented|available")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One decoded image.

    Attributes:
        image: Upright, mode RGB, 8 bits per channel.
        note: Empty, or what the reader of the result must know.
    """

    image: Image.Image
    note: str = ""


def load_image(source: Source, options: DecodeOptions, side: int | None = None) -> Decoded:
    """Decode one image: turned upright, alpha flattened over white, first frame.

    Args:
        source: A path, the bytes of a file, a binary stream (read from where it stands, left open)
            or a Pillow image (left as it is; returned itself when it is upright RGB already).
        options: What is taken for an image.
        side: Pixels, the longer side of what the image will be brought to. Unless decoding is to
            be exact, a JPEG may then come at 1/2, 1/4 or 1/8 of its size, both sides at least
            `REDUCED_SIDES` times as long. None is the whole size.

    Raises:
        DecodeError: The image cannot be used; the message is the reason.
    """
    with quiet_pillow(), _explained("image", options):
        if isinstance(source, Image.Image):
            return _finished(source, options)
        with _opened(source) as stream, _identified(stream, options) as image:
            scale_colour_key(image)
            return _finished(image, options, side if options.decoding is Decoding.FAST else None)


# ---- reasons ----


@contextmanager
def _explained(kind: str, options: DecodeOptions) -> Iterator[None]:
    """Turn whatever is raised inside into a `DecodeError`; `kind` names the format in it."""
    try:
        yield
    except DecodeError:
        raise
    # Format plugins meet hostile bytes with anything from struct.error to RecursionError.
    except Exception as error:
        raise DecodeError(_reason(error, kind, options)) from error


def _reason(error: Exception, kind: str, options: DecodeOptions) -> str:
    text = str(error).lower()
    if isinstance(error, Image.DecompressionBombError):
        return _bomb_reason(text, options)
    if isinstance(error, OSError) and error.errno is not None:
        return os_reason(error.errno)
    if isinstance(error, MemoryError) or _SAYS_OUT_OF_MEMORY.search(text):
        return "not enough memory to decode it"
    if _is_truncation(error):
        return _truncation_reason(options)
    if isinstance(error, NotImplementedError) or _SAYS_UNSUPPORTED.search(text):
        return f"not supported: this kind of {kind}"
    return _corrupt(kind)


def _corrupt(kind: str) -> str:
    return f"corrupt: damaged or incomplete {kind} data"


def _is_truncation(error: Exception) -> bool:
    return isinstance(error, EOFError) or bool(_SAYS_TRUNCATED.search(str(error).lower()))


def _truncation_reason(options: DecodeOptions) -> str:
    if options.truncated is Truncated.ACCEPT:
        return "truncated: too little of it is there"
    return "truncated: the file ends too early (--truncated accept)"


def _megapixels(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _bomb_reason(text: str, options: DecodeOptions) -> str:
    """Word Pillow's own refusal, whose message carries the number of pixels."""
    found = re.search(r"\((\d+) pixels\)", text)
    size = int(found[1]) / 1e6 if found else float("inf")
    if size > options.max_megapixels:
        return _too_large(size, options)
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    return (
        f"too large: {_megapixels(size)} megapixels, Pillow itself is limited to"
        f" {_megapixels(limit)} (clipcls.inputs.pillow.lift_pillow_limit)"
    )


def _too_large(megapixels: float, options: DecodeOptions) -> str:
    return (
        f"too large: {_megapixels(megapixels)} megapixels,"
        f" the limit is {options.max_megapixels:g} (--max-megapixels)"
    )


def _check_size(image: Image.Image, options: DecodeOptions) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > options.max_megapixels:
        raise DecodeError(_too_large(megapixels, options))


# ---- opening and identifying ----


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes | BinaryIO) -> Iterator[BinaryIO]:
    """Give a seekable stream at its beginning; only files that were opened here are closed."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        with open_file(source) as stream:
            yield stream
    else:
        yield io.BytesIO(source.read())


def _identified(stream: BinaryIO, options: DecodeOptions) -> ImageFile.ImageFile:
    """Read the header. Content decides on the format, never the name."""
    prefix = stream.read(PREFIX_BYTES)
    if not prefix:
        raise DecodeError("empty file")
    for offset, mark, reason in REFUSED_SIGNATURES:
        if prefix.startswith(mark, offset):
            raise DecodeError(reason)
    if is_heif(prefix) and not register_heif():
        raise DecodeError("HEIC image: pip install 'clipcls[heif]'")
    kind = signature(prefix)
    with _explained(kind or "image", options):
        try:
            if kind == "PNG":
                stream.seek(0)
                stream = io.BytesIO(_without_long_texts(stream.read()))
            return Image.open(stream, formats=formats())
        except UnidentifiedImageError as error:
            unknown = unsupported(kind, stream)
            why = unknown or (_corrupt(kind) if kind else missing_codec(prefix))
            raise DecodeError(why or not_an_image(prefix, getattr(stream, "name", ""))) from error


def _without_long_texts(png: bytes) -> bytes:
    """Leave out compressed texts and profiles that Pillow would refuse the whole image for."""
    kept, start, room = [png[:8]], 8, PngImagePlugin.MAX_TEXT_MEMORY // 4
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        name = png[start + 4 : start + 8]
        if name in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            size = _text_size(name, png[start + 8 : end - 4])
            room -= size
            if size >= PngImagePlugin.MAX_TEXT_CHUNK or room < 0:
                start = end
                continue
        kept.append(png[start:end])
        start = end
    return b"".join(kept)


def _text_size(name: bytes, chunk: bytes) -> int:
    """Return how long the text of a chunk is, counting no further than Pillow's limit."""
    body = chunk.partition(b"\0")[2]
    if name == b"tEXt" or (name == b"iTXt" and body[:1] != b"\1"):
        return len(body)
    # Compression flag (iTXt alone) and method; then iTXt has a language and a translated keyword.
    packed = body[2:].split(b"\0", 2)[-1] if name == b"iTXt" else body[1:]
    with suppress(zlib.error):
        return len(zlib.decompressobj().decompress(packed, PngImagePlugin.MAX_TEXT_CHUNK))
    return len(body)


# ---- pixels ----


def _finished(image: Image.Image, options: DecodeOptions, side: int | None = None) -> Decoded:
    kind = image.format or "image"
    _check_size(image, options)
    with _turn_of(image), _explained(kind, options):
        check_supported(image)
        opaque = declares_no_alpha(image)
        image, note = _loaded(image, options, side)
        # Icons and other containers know their size only now.
        _check_size(image, options)
        rgb, scale_note = as_rgb(image, opaque=opaque)
        return Decoded(_upright(rgb, image), "; ".join(filter(None, (note, scale_note))))


_turn_of_large = threading.Lock()


def _turn_of(image: Image.Image) -> AbstractContextManager[object]:
    """Wait until no other large image is being decoded, if this is one.

    A small file can be a huge image, and a decode thread per core would hold one each.
    """
    return _turn_of_large if image.width * image.height > LARGE_PIXELS else nullcontext()


def _loaded(
    image: Image.Image, options: DecodeOptions, side: int | None
) -> tuple[Image.Image, str]:
    """Decode the pixels; `Image.open` has read no more than the header."""
    try:
        _scale_down(image, side)
        image.load()
    except Exception as error:
        if options.truncated is Truncated.ACCEPT and _is_truncation(error):
            return _salvaged(image, options, side), TRUNCATED_NOTE
        raise
    return image, ""


def _scale_down(image: Image.Image, side: int | None) -> None:
    """Let libjpeg compute a JPEG at 1/2, 1/4 or 1/8 of its size, if that leaves enough.

    An inverse DCT of 4, 2 or 1 values in place of 8: most of the work is never done.
    """
    if side is None or not isinstance(image, JpegImagePlugin.JpegImageFile) or image.fp is None:
        return
    if jpeg_frame(image.fp)[0] in _SCALABLE_FRAMES:
        # A square, so that an image that lies on its side is scaled like one that stands.
        image.draft(None, (REDUCED_SIDES * side, REDUCED_SIDES * side))


def _salvaged(image: Image.Image, options: DecodeOptions, side: int | None) -> Image.Image:
    """Return what a truncated file holds, after `load()` has failed on it."""
    nothing = DecodeError(_truncation_reason(options))
    if not isinstance(image, ImageFile.ImageFile):
        raise nothing
    try:
        rest = _without_tail(image)
        _scale_down(rest, side)
        rest.load()
    except Exception as error:
        raise nothing from error
    if _is_blank(rest):
        raise nothing
    return rest


def _without_tail(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    """Make Pillow content with the part of the image that came.

    Pillow draws a progressive JPEG only when all of it is there; with an end marker behind it, the
    scans that came are decoded, and a baseline JPEG down to its last whole block. The rest is grey.
    """
    if image.format in ("JPEG", "MPO") and image.fp is not None:
        image.fp.seek(0)
        return Image.open(io.BytesIO(image.fp.read() + _JPEG_END), formats=("JPEG",))
    # With no tiles left to decode, `load()` keeps the pixels that are there.
    image.tile = []
    return image


def _is_blank(image: Image.Image) -> bool:
    """Return whether all pixels are equal: nothing was decoded into the prepared canvas."""
    return all(low == high for low, high in (band.getextrema() for band in image.split()))


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the orientation that the original's EXIF or XMP data asks for."""
    try:
        orientation = original.getexif().get(ExifTags.Base.Orientation, 1)
        method = _UPRIGHT.get(orientation)
    except Exception:  # noqa: BLE001  broken EXIF data must not cost a good image
        return rgb
    return rgb if method is None else rgb.transpose(method)
