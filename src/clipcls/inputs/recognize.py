"""Which files are images: by their names, and by the marks that they begin with."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from functools import cache
from typing import BinaryIO

from PIL import Image

from clipcls.errors import DecodeError
from clipcls.inputs.files import open_file
from clipcls.inputs.pillow import formats, quiet_pillow
from clipcls.inputs.urls import ZIP, read_otherwise

PREFIX_BYTES = 64
"""Of a file, to recognise it by."""

REFUSED_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
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
    with suppress(DecodeError, OSError), open_file(path) as stream:
        prefix = stream.read(PREFIX_BYTES)
        return signature(prefix) is not None or _has_weak_header(stream)
    return False


def _accepts(name: str, prefix: bytes) -> bool | str:
    """Ask a format's plugin about the first bytes; a text says which codec Pillow lacks."""
    accept = Image.OPEN[name][1]
    with suppress(IndexError, TypeError, ValueError, struct.error):
        # Pillow shows its plugins 16 bytes.
        return accept(prefix[:16]) if accept else False
    return False


def signature(prefix: bytes) -> str | None:
    """Return the format whose unmistakable mark `prefix` carries."""
    if is_heif(prefix):
        return "HEIF"
    strong = (name for name in formats() if name not in _WEAK_SIGNATURES)
    return next((name for name in strong if _accepts(name, prefix) is True), None)


def missing_codec(prefix: bytes) -> str | None:
    """Return why Pillow lacks what would decode the image that `prefix` begins."""
    for name in formats():
        if isinstance(_accepts(name, prefix), str):
            return f"not supported: this Pillow was built without {name}"
    return None


def not_an_image(prefix: bytes, name: str) -> str:
    """Say that no format recognises a file, and how what it seems to be is given."""
    found = ZIP if prefix.startswith(_ZIP_MARK) else read_otherwise(name)
    return "not an image but {} ({})".format(*found) if found else "not an image"


def _has_weak_header(stream: BinaryIO) -> bool:
    weak = tuple(name for name in formats() if name in _WEAK_SIGNATURES)
    # A plugin that stumbles over the header has answered the question.
    with quiet_pillow(), suppress(Exception), Image.open(stream, formats=weak):
        return True
    return False


def is_heif(prefix: bytes) -> bool:
    """Return whether the leading `ftyp` box names HEIF brands and no AVIF one (ISO 14496-12)."""
    if prefix[4:8] != b"ftyp":
        return False
    size = int.from_bytes(prefix[:4], "big")
    box = prefix[8 : max(size, 12)]
    brands = {box[i : i + 4] for i in range(0, len(box), 4)}
    return box[:4] in _HEIF_BRANDS and not brands & _AVIF_BRANDS


@cache
def _image_extensions() -> frozenset[str]:
    known = frozenset(formats())
    registered = Image.registered_extensions().items()
    decoded = frozenset(extension for extension, name in registered if name in known)
    return decoded | _HEIF_EXTENSIONS | _UNDECODED_IMAGE_EXTENSIONS
