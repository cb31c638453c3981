"""Bytes -> an upright RGB image of 8 bits per channel, or a reason why not.

`load_image` raises `DecodeError` and nothing else, whatever the bytes are. It may run in many
threads at once, so it changes no setting of Pillow: neither `LOAD_TRUNCATED_IMAGES` nor
`MAX_IMAGE_PIXELS` is touched, and warnings are silenced for the decoding thread only.

Reasons are short, stable and free of paths, so that a summary can count them.
"""

from __future__ import annotations

import errno
import io
import logging
import math
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
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
from clipcls.inputs.formats import (
    as_rgb,
    check_supported,
    declares_no_alpha,
    jpeg_frame,
    scale_colour_key,
    unsupported,
)
from clipcls.inputs.urls import ZIP, read_otherwise
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

_PREFIX_BYTES = 64

_REFUSED_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow recognises but hands over to somebody else's program."""

_REFUSED_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%!PS", "EPS image: not decoded, that would run Ghostscript on the file"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS image: not decoded, that would run Ghostscript on the file"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF drawing: only pixel images are decoded"),
    (40, b" EMF", "EMF drawing: only pixel images are decoded"),
    (0, b"\x00\x00\x01\xb3", "MPEG video: only images are decoded"),
    (0, b"BUFR", "BUFR weather data: only images are decoded"),
    (0, b"GRIB", "GRIB weather data: only images are decoded"),
    (0, b"PF\n", "not supported: PFM in colour"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 data: only images are decoded"),
)
"""Offset, bytes there, reason."""

_UNDECODED_IMAGE_EXTENSIONS = frozenset({".emf", ".eps", ".wmf"})
"""Images to the user's eye: inside a folder they become failures with a reason, not skips."""

_SIDECAR_EXTENSIONS = frozenset(
    [
        ".json",
        ".jsonl",
        ".txt",
        ".xmp",
        ".md",
        ".csv",
        ".tsv",
        ".xml",
        ".html",
        ".yaml",
        ".yml",
        ".toml",
        ".ini",
        ".log",
        ".py",
        ".zip",
    ]
)
"""What lies beside images by the thousand: their names say enough, so they are not opened."""

_HEIF_EXTENSIONS = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

_WEAK_SIGNATURES = frozenset(
    {"BMP", "CUR", "DIB", "FLI", "GBR", "ICO", "MCIDAS", "PCX", "PPM", "SGI", "XBM"}
)
"""Formats recognised by two bytes or so: `Pythagoras.txt` begins like PPM, `#define` like XBM."""

_ZIP_MARK = b"PK\3\4"
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

_SPECIAL_FILES = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)

_OS_REASONS = {
    errno.ENOENT: "file not found",
    errno.ENOTDIR: "file not found",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "is a folder",
}

_SAYS_TRUNCATED = re.compile(r"truncated|not enough image data|unexpected end of file")
_SAYS_OUT_OF_MEMORY = re.compile(r"out of memory")
_SAYS_UNSUPPORTED = re.compile(r"unsupported|not supported|unimplemented|not implemented|available")

# Where nobody set up logging, Python would print what Pillow logs about a damaged file.
logging.getLogger("PIL").addHandler(logging.NullHandler())


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
    with _quiet_pillow(), _explained("image", options):
        if isinstance(source, Image.Image):
            return _finished(source, options)
        with _opened(source) as stream, _identified(stream, options) as image:
            scale_colour_key(image)
            return _finished(image, options, side if options.decoding is Decoding.FAST else None)


def is_candidate(path: str) -> bool:
    """Return whether a file found inside a folder is taken for an image, by name or by content."""
    if os.path.splitext(path)[1].lower() in _SIDECAR_EXTENSIONS:
        return False
    return has_image_name(path) or looks_like_image(path)


def has_image_name(path: str) -> bool:
    """Return whether the extension of `path` is one of an image format."""
    return os.path.splitext(path)[1].lower() in _image_extensions()


def looks_like_image(path: str) -> bool:
    """Return whether the file's first bytes are those of an image format.

    Formats whose mark is only two bytes long must also have a sound header. Files that cannot be
    read, and whatever is no regular file, do not look like images.
    """
    # Files of the system may open and then refuse to be read.
    with suppress(DecodeError, OSError), _opened(path) as stream:
        prefix = stream.read(_PREFIX_BYTES)
        return _signature(prefix) is not None or _has_weak_header(stream)
    return False


def lift_pillow_limit(max_megapixels: float | None = None) -> None:
    """Let Pillow open images of more than its own 179 megapixels, in the whole process.

    Pillow's limit is a global, so decoding itself never changes it: this is for programs that own
    their process, as the command line does. A higher limit that is already set is kept.

    Args:
        max_megapixels: The new limit in millions of pixels; None removes it.
    """
    if max_megapixels is None or math.isinf(max_megapixels):
        Image.MAX_IMAGE_PIXELS = None
    elif Image.MAX_IMAGE_PIXELS is not None:
        # Pillow refuses above twice this value and only warns before.
        wanted = int(max_megapixels * 1e6 / 2) + 1
        Image.MAX_IMAGE_PIXELS = max(wanted, Image.MAX_IMAGE_PIXELS)


# ---- warnings, without touching what other threads see ----


class _ThreadState(threading.local):
    decoding = False


_thread = _ThreadState()


class _OnlyWhileDecoding(type):
    """Makes every warning a subclass of `_DecodingWarning` in threads that are decoding."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        return _thread.decoding


class _DecodingWarning(Warning, metaclass=_OnlyWhileDecoding):
    """Matches any warning raised below `load_image`, and none of the user's."""


_filter_lock = threading.Lock()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence warnings in this thread, also under `-W error`.

    `warnings.catch_warnings` swaps a list that all threads share, and a plain "ignore" filter would
    silence Pillow for the rest of the user's program, its bomb warning included. A filter whose
    category asks for the current thread does neither.
    """
    with _filter_lock:
        if not warnings.filters or warnings.filters[0][2] is not _DecodingWarning:
            warnings.simplefilter("ignore", _DecodingWarning)
    before = _thread.decoding
    _thread.decoding = True
    try:
        yield
    finally:
        _thread.decoding = before


# ---- reasons ----


def os_reason(number: int) -> str:
    """Return why a file cannot be read, by the number of the system's error."""
    return _OS_REASONS.get(number, f"cannot be read: {os.strerror(number)}")


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
        f" {_megapixels(limit)} (clipcls.inputs.decode.lift_pillow_limit)"
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
        with _opened_file(source) as stream:
            yield stream
    else:
        yield io.BytesIO(source.read())


def _opened_file(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        # Opening a named pipe would wait for its writer, for ever.
        for is_special, reason in _SPECIAL_FILES:
            if is_special(mode):
                raise DecodeError(reason)
        return open(path, "rb")
    except OSError as error:
        raise DecodeError(os_reason(error.errno or 0)) from error
    except ValueError as error:  # a NUL in the name, or one that no file system can hold
        raise DecodeError("file not found") from error


def _identified(stream: BinaryIO, options: DecodeOptions) -> ImageFile.ImageFile:
    """Read the header. Content decides on the format, never the name."""
    prefix = stream.read(_PREFIX_BYTES)
    if not prefix:
        raise DecodeError("empty file")
    for offset, mark, reason in _REFUSED_SIGNATURES:
        if prefix.startswith(mark, offset):
            raise DecodeError(reason)
    if _is_heif(prefix) and not _register_heif():
        raise DecodeError("HEIC image: pip install 'clipcls[heif]'")
    kind = _signature(prefix)
    with _explained(kind or "image", options):
        try:
            if kind == "PNG":
                stream.seek(0)
                stream = io.BytesIO(_without_long_texts(stream.read()))
            return Image.open(stream, formats=_formats())
        except UnidentifiedImageError as error:
            unknown = unsupported(kind, stream)
            why = unknown or (_corrupt(kind) if kind else _missing_codec(prefix))
            raise DecodeError(why or _no_image(prefix, getattr(stream, "name", ""))) from error


def _no_image(prefix: bytes, name: str) -> str:
    """Say that no format recognises a file, and how what it seems to be is given."""
    found = ZIP if prefix.startswith(_ZIP_MARK) else read_otherwise(name)
    return "not an image but {} ({})".format(*found) if found else "not an image"


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


def _formats() -> tuple[str, ...]:
    """Return the formats that Pillow decodes itself.

    Those that have no mark to go by come last, so that they cannot claim another format's file.
    """
    Image.init()
    formats = [name for name in Image.ID if name not in _REFUSED_FORMATS]
    return tuple(sorted(formats, key=lambda name: Image.OPEN[name][1] is None))


@cache
def _image_extensions() -> frozenset[str]:
    formats = frozenset(_formats())
    registered = Image.registered_extensions().items()
    known = frozenset(extension for extension, name in registered if name in formats)
    return known | _HEIF_EXTENSIONS | _UNDECODED_IMAGE_EXTENSIONS


def _accepts(name: str, prefix: bytes) -> bool | str:
    """Ask a format's plugin about the first bytes; a text says which codec Pillow lacks."""
    accept = Image.OPEN[name][1]
    with suppress(IndexError, TypeError, ValueError, struct.error):
        # Pillow shows its plugins 16 bytes.
        return accept(prefix[:16]) if accept else False
    return False


def _signature(prefix: bytes) -> str | None:
    """Return the format whose unmistakable mark `prefix` carries."""
    if _is_heif(prefix):
        return "HEIF"
    strong = (name for name in _formats() if name not in _WEAK_SIGNATURES)
    return next((name for name in strong if _accepts(name, prefix) is True), None)


def _missing_codec(prefix: bytes) -> str | None:
    for name in _formats():
        if isinstance(_accepts(name, prefix), str):
            return f"not supported: this Pillow was built without {name}"
    return None


def _has_weak_header(stream: BinaryIO) -> bool:
    formats = tuple(name for name in _formats() if name in _WEAK_SIGNATURES)
    # A plugin that stumbles over the header has answered the question.
    with _quiet_pillow(), suppress(Exception), Image.open(stream, formats=formats):
        return True
    return False


def _is_heif(prefix: bytes) -> bool:
    """Return whether the leading `ftyp` box names HEIF brands and no AVIF one (ISO 14496-12)."""
    if prefix[4:8] != b"ftyp":
        return False
    size = int.from_bytes(prefix[:4], "big")
    box = prefix[8 : max(size, 12)]
    brands = {box[i : i + 4] for i in range(0, len(box), 4)}
    return box[:4] in _HEIF_BRANDS and not brands & _AVIF_BRANDS


@cache
def _register_heif() -> bool:
    """Teach Pillow HEIF, in the whole process; return whether that was possible."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


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
