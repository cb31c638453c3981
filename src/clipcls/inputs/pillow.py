"""Pillow, as all of the process has it: its formats, its limit, its warnings and its logging."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image

_REFUSED_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow recognises but hands over to somebody else's program."""

# Where nobody set up logging, Python would print what Pillow logs about a damaged file.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def formats() -> tuple[str, ...]:
    """Return the formats that Pillow decodes itself.

    Those that have no mark to go by come last, so that they cannot claim another format's file.
    """
    Image.init()
    formats = [name for name in Image.ID if name not in _REFUSED_FORMATS]
    return tuple(sorted(formats, key=lambda name: Image.OPEN[name][1] is None))


@cache
def register_heif() -> bool:
    """Teach Pillow HEIF, in the whole process; return whether that was possible."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


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


class _ThreadState(threading.local):
    decoding = False


_thread = _ThreadState()


class _OnlyWhileDecoding(type):
    """Makes every warning a subclass of `_DecodingWarning` in threads that are decoding."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        return _thread.decoding


class _DecodingWarning(Warning, metaclass=_OnlyWhileDecoding):
    """Matches any warning raised below `quiet_pillow`, and none of the user's."""


_filter_lock = threading.Lock()


@contextmanager
def quiet_pillow() -> Iterator[None]:
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
