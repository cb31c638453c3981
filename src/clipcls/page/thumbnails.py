"""Small upright images for the gallery, and what the browser opens when one is clicked."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from clipcls.errors import DecodeError, OutputError
from clipcls.inputs.decode import load_image
from clipcls.inputs.remote import Remote
from clipcls.models.devices import usable_cpus
from clipcls.options import DecodeOptions, RemoteOptions
from clipcls.text import visible

THUMBNAIL = 256
LARGE = 1600
"""Pixels of the longer side."""
_QUALITY = 80
_HEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """What the page has of an image.

    Attributes:
        small: The thumbnail as a JPEG file; empty where there is none.
        link: Where the large view finds the image, relative to the page; empty where the browser
            has nothing but the thumbnail.
        reason: Why there is no thumbnail, or empty.
    """

    small: bytes = b""
    link: str = ""
    reason: str = ""


def thumbnails(
    paths: Sequence[str], page: Path, folder: Path | None, options: DecodeOptions
) -> Iterator[Thumbnail]:
    """Yield the thumbnail of each image, in order, made in threads.

    The large view opens the original. A format that browsers do not show (TIFF, HEIC) is converted
    to a JPEG of at most `LARGE` pixels instead.

    Args:
        paths: The images.
        page: The HTML file from which links lead.
        folder: Where converted images go; None makes none.
        options: What is taken for an image.

    Raises:
        OutputError: A converted image cannot be written.
    """
    opened = Remote(RemoteOptions()).local
    make = partial(_made, opened=opened, page=page, folder=folder, options=options)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        try:
            yield from pool.map(make, range(len(paths)), paths)
        finally:
            pool.shutdown(cancel_futures=True)


def _made(
    place: int,
    path: str,
    *,
    opened: Callable[[str], str | bytes],
    page: Path,
    folder: Path | None,
    options: DecodeOptions,
) -> Thumbnail:
    try:
        source = opened(path)
        image = load_image(source, options).image
        # A browser cannot look into an archive.
        link = _link(path, page) if source == path and _is_shown_by_browsers(path) else ""
    # The second where it has gone meanwhile.
    except (DecodeError, OSError) as error:
        return Thumbnail(reason=str(error))
    if not link and folder is not None:
        write_image(folder / _large(place), _jpeg(image, LARGE))
        link = f"{folder.name}/{_large(place)}"
    return Thumbnail(_jpeg(image, THUMBNAIL), link)


def small_name(place: int) -> str:
    """Return the name of the thumbnail of an image."""
    return f"{place:06}.jpg"


def _large(place: int) -> str:
    return f"{place:06}-large.jpg"


def copied(
    made: Sequence[Thumbnail], before: Path, paths: Sequence[str], page: Path, folder: Path
) -> Iterator[Thumbnail]:
    """Yield the thumbnails of another page of the same images, without looking at the images.

    Args:
        made: What that page has of each.
        before: Where its thumbnails and converted images lie.
        paths: The images.
        page: The HTML file from which links lead.
        folder: Where converted images go.

    Raises:
        OutputError: A converted image cannot be written.
    """
    for place, (path, thumbnail) in enumerate(zip(paths, made, strict=True)):
        small = b"" if thumbnail.reason else (before / small_name(place)).read_bytes()
        link = thumbnail.link and _link(path, page)
        if thumbnail.link == f"{before.name}/{_large(place)}":
            write_image(folder / _large(place), (before / _large(place)).read_bytes())
            link = f"{folder.name}/{_large(place)}"
        yield Thumbnail(small, link, thumbnail.reason)


def write_image(path: Path, data: bytes) -> None:
    """Write a file that nobody reads before the page is there.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(
            f"cannot write {visible(str(path))}: {error.strerror or error}"
        ) from error


def _jpeg(image: Image.Image, side: int) -> bytes:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _is_shown_by_browsers(path: str) -> bool:
    with open(path, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8"))
        or (head[:4], head[8:12]) == (b"RIFF", b"WEBP")
        or head[4:12] in (b"ftypavif", b"ftypavis")
    )


def _link(path: str, page: Path) -> str:
    """Return the relative address of an image, empty where there is none (another drive)."""
    try:
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(page.parent))
    except ValueError:
        return ""
    return quote(os.fsencode(relative.replace(os.sep, "/")))
