"""Images in tar archives, such as the shards of webdataset, on this machine or elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event, Lock
from typing import TYPE_CHECKING

from clipcls.errors import DecodeError
from clipcls.inputs.tar import Archive, CopiedArchive, Parts, opened_tar
from clipcls.inputs.urls import is_url, key_of, member_of
from clipcls.options import RemoteOptions

if TYPE_CHECKING:
    from clipcls.inputs.remote import Keeper

_EMPTY = "no files in the archive"
_MOST_COPIES, _MOST_COPIED_BYTES = 4, 4 << 30
"""What is copied of more archives, if it is more, goes before it was read."""


class Tars:
    """The tar archives that a run reads; safe in any thread.

    Args:
        options: Limits.
        parts: What gives an archive that is not on this machine.

    Attributes:
        options: As given.
        damage: Archive -> why it could not be listed to its end.
        streams: Whether there was one that cannot be listed without reading all of it.
    """

    def __init__(self, options: RemoteOptions, parts: Callable[[str, Event], Parts]) -> None:
        self.options = options
        self.streams = False
        self._parts = parts
        self._archives: dict[str, Archive] = {}
        self.damage: dict[str, str] = {}
        self._lock, self._scanning = Lock(), Lock()

    def below(self, url: str, keeper: Keeper) -> Iterator[str]:
        """Yield the addresses of the images in an archive, or a folder of it, in its own order.

        Names decide. What has the key of an image beside it is not even counted. An archive that
        is empty or damaged is yielded itself, after the images before the damage.
        """
        folder, path = member_of(url)
        group = _Group(keeper, path, folder)
        damage = _EMPTY
        try:
            archive = self._opened(path, Event())
            with closing(archive.scan()) as members:
                for name, image in members:
                    damage = ""
                    if group.keeps(name, image=image):
                        self._count(path, archive, 1)
                        yield f"tar://{name}::{path}"
            self._count(path, archive, 0)
        except DecodeError as error:
            damage = str(error)
        group.end()
        if damage:
            self.damage[path] = damage
            yield f"tar://::{path}"

    def fetch(self, url: str, stopped: Event) -> bytes:
        """Return an image in an archive.

        Args:
            url: Its address.
            stopped: Set when nobody wants it any more.

        Raises:
            DecodeError: It cannot be had within the limits; the message is the reason.
        """
        name, path = member_of(url)
        if not name:
            raise DecodeError(self.damage.get(path, "no image is named in the archive"))
        name = name.removeprefix("./")
        archive = self._archives.get(path)
        if archive is None or not archive.may_read(name):
            with self._scanning:
                archive = self._archives.get(path)
                if archive is None or not archive.may_read(name):
                    archive = self._opened(path, stopped)
                    archive.scan_all(name)
        try:
            return archive.read(name)
        finally:
            self._count(path, archive, -1)

    def _opened(self, path: str, stopped: Event) -> Archive:
        archive = (
            CopiedArchive(self.options, self._parts(path, stopped))
            if is_url(path)
            else opened_tar(path, self.options)
        )
        self.streams |= isinstance(archive, CopiedArchive)
        with self._lock:
            self._archives[path] = archive
            copies = {p: a for p, a in self._archives.items() if isinstance(a, CopiedArchive)}
            total = sum(copy.bytes for copy in copies.values())
            while len(copies) > _MOST_COPIES and total > _MOST_COPIED_BYTES:
                oldest = next(iter(copies))
                total -= copies.pop(oldest).bytes
                del self._archives[oldest]
        return archive

    def _count(self, path: str, archive: Archive, more: int) -> None:
        """Count the images that were listed and not read; forget a copy of which all were read."""
        with self._lock:
            archive.unread += more
            done = isinstance(archive, CopiedArchive) and archive.complete and archive.unread == 0
            if done and self._archives.get(path) is archive:
                del self._archives[path]


class _Group:
    """What of an archive is kept, one member after the other.

    Members with the same key stand side by side and are one sample: an image with what is known of
    it. Only what has no image beside it is counted as left out.
    """

    def __init__(self, keeper: Keeper, archive: str, folder: str) -> None:
        self._keeper = keeper
        self._archive = archive
        self._top = "".join(f"{part}/" for part in _parts_of(folder))
        self._folders: dict[str, bool] = {}
        self._key, self._has_image = "", False
        self._others: list[str] = []

    def keeps(self, name: str, *, image: bool) -> bool:
        """Return whether the next member is an image that is kept."""
        below = "/".join(_parts_of(name))
        if not below.startswith(self._top):
            return False
        below = below[len(self._top) :]
        if not self._in_kept_folder(below):
            return False
        key = key_of(name)
        if key != self._key:
            self.end()
            self._key = key
        if not image:
            self._others.append(name)
            return False
        self._has_image = True
        return self._keep(name, below, image=True)

    def end(self) -> None:
        """Count what stands without an image, as nothing more comes for the key."""
        if not self._has_image:
            for name in self._others:
                self._keep(name, "/".join(_parts_of(name))[len(self._top) :])
        self._has_image, self._others = False, []

    def _in_kept_folder(self, below: str) -> bool:
        for slash in re.finditer("/", below):
            folder = below[: slash.start()]
            if folder not in self._folders:
                self._folders[folder] = self._keep(self._top + folder, folder, folder=True)
            if not self._folders[folder]:
                return False
        return True

    def _keep(self, name: str, below: str, *, folder: bool = False, image: bool = False) -> bool:
        url = f"tar://{name}::{self._archive}"
        return self._keeper.keep(url, below, folder=folder, image=image)


def _parts_of(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".", "..")]
