"""Twenty ways in which a picture on somebody's disk can be broken, each with its reason."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Damage:
    """One way to break a picture.

    Attributes:
        name: What was done, for people.
        extension: Of the picture it is done to.
        apply: The sound file's bytes -> the broken file's.
        reason: What the row must say, as a regular expression.
    """

    name: str
    extension: str
    apply: Callable[[bytes], bytes]
    reason: str


TRUNCATED = "^truncated: the file ends too early"
CORRUPT = "^corrupt: damaged or incomplete"
NO_PICTURE = "^not an image$"


def _noise(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda sound: sound[: int(len(sound) * share)]


def _head(count: int) -> Callable[[bytes], bytes]:
    return lambda sound: sound[:count]


def _noise_after(count: int) -> Callable[[bytes], bytes]:
    return lambda sound: sound[:count] + _noise(len(sound) - count)


def _always(content: bytes) -> Callable[[bytes], bytes]:
    return lambda sound: content


def _patched(offset: int, content: bytes) -> Callable[[bytes], bytes]:
    return lambda sound: sound[:offset] + content + sound[offset + len(content) :]


def _bomb(sound: bytes) -> bytes:
    """Return a PNG of a hundred bytes that asks for 2,500 megapixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return sound[:8] + header + sound[33:100]


DAMAGES = (
    Damage("emptied", "jpg", _always(b""), "^empty file$"),
    Damage("text", "png", _always(b"see attachment\n"), NO_PICTURE),
    Damage("web page", "webp", _always(b"<!DOCTYPE html><html>404</html>"), NO_PICTURE),
    Damage("noise", "jpg", _always(_noise(300)), NO_PICTURE),
    Damage("zeros", "tif", _always(bytes(2000)), NO_PICTURE),
    Damage("document", "jpg", _always(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), NO_PICTURE),
    Damage("PostScript", "jpg", _always(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "^EPS image: "),
    Damage("jpeg, first bytes", "jpg", _head(80), TRUNCATED),
    Damage("jpeg, half", "jpg", _cut(0.5), TRUNCATED),
    Damage("png, first bytes", "png", _head(20), TRUNCATED),
    Damage("png, most", "png", _cut(0.9), TRUNCATED),
    Damage("png, noise after the header", "png", _noise_after(41), CORRUPT),
    Damage("png, wrong mark", "png", _patched(0, b"\x88PNX"), NO_PICTURE),
    Damage("png, bomb", "png", _bomb, "^too large: 2500 megapixels, the limit is 179 "),
    Damage("gif, inside its palette", "gif", _head(200), CORRUPT),
    Damage("tiff, directory far away", "tif", _patched(4, b"\xff\xff\xff\x7f"), CORRUPT),
    Damage("webp, half", "webp", _cut(0.5), CORRUPT),
    Damage("webp, noise after the header", "webp", _noise_after(40), CORRUPT),
    Damage("bmp, half", "bmp", _cut(0.5), TRUNCATED),
)
"""Nineteen; the twentieth is a link that leads nowhere."""


def damage_all(folder: Path, sound: dict[str, Path]) -> dict[str, str]:
    """Put every kind of broken picture into a folder.

    Args:
        folder: Where to.
        sound: Extension -> a sound picture of that format.

    Returns:
        Path -> what its row must say, as a regular expression.
    """
    reasons = {}
    for i, damage in enumerate(DAMAGES):
        path = folder / f"picture {i} broken.{damage.extension}"
        path.write_bytes(damage.apply(sound[damage.extension].read_bytes()))
        reasons[str(path)] = damage.reason
    link = folder / f"picture {len(DAMAGES)} broken.jpg"
    link.symlink_to(folder / "moved away.jpg")
    return {**reasons, str(link): "^file not found$"}
