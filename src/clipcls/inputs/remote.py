"""Inputs that are not files of this machine; nothing is imported for kinds that do not occur."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from clipcls.errors import DecodeError
from clipcls.inputs.refs import Source
from clipcls.inputs.urls import (
    archive_of,
    child,
    file_of,
    is_archive,
    is_store,
    is_tar,
    is_url,
    is_web,
    member_of,
    names_a_tar,
    place_of,
    why_unreadable,
)
from clipcls.options import RemoteOptions

if TYPE_CHECKING:
    from clipcls.inputs.stores import Stores
    from clipcls.inputs.tars import Tars
    from clipcls.inputs.web import Downloader


class Keeper(Protocol):
    """Decides what a walk keeps, and remembers what it does not."""

    def keep(self, url: str, below: str, *, folder: bool, image: bool) -> bool:
        """Return whether something that was found is kept.

        Args:
            url: Its address.
            below: Its path below the top of the walk.
            folder: Whether it is a folder.
            image: Whether its name is that of an image.
        """

    def unreadable(self, url: str, error: OSError) -> None:
        """Remember a folder that cannot be listed."""


class Fetcher(Protocol):
    """Reads whole files of one kind; safe in any thread."""

    options: RemoteOptions

    def fetch(self, url: str, stopped: Event) -> bytes:
        """Return what is at an address; see `Source`."""


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that is no local file; implements `Source`.

    Attributes:
        url: With whatever it needs to be let in.
        fetcher: What reads it.
    """

    url: str
    fetcher: Fetcher

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"  # no secret in a traceback

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process read it with what it has opened for these limits."""
        return _image, (self.url, self.fetcher.options)

    @property
    def concurrency(self) -> int:
        """How many images of this kind are read at once."""
        return self.fetcher.options.downloads

    def read(self, stopped: Event) -> bytes:
        """Return the bytes; see `Source`."""
        return self.fetcher.fetch(self.url, stopped)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What nothing can be read from, as is known before it is tried; implements `Source`.

    Attributes:
        reason: Why.
        concurrency: As there is nothing to be read, one at once.
    """

    reason: str
    concurrency: int = 1

    def read(self, stopped: Event) -> bytes:
        """Refuse; see `Source`."""
        raise DecodeError(self.reason)


class Remote:
    """What opens the inputs of a run.

    Args:
        options: Limits.
    """

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options

    def source(self, path: str) -> Source | None:
        """Return where the bytes of an input come from; None for a file of this machine."""
        if is_web(path):
            return RemoteImage(path, self._downloader)
        if why := why_unreadable(path):
            return Unreadable(f"not supported: {why}")
        if is_tar(path):
            member, archive = member_of(path)
            damage = "" if member else self._tars.damage.get(archive)
            return Unreadable(damage) if damage else RemoteImage(path, self._tars)
        if is_store(path):
            return RemoteImage(path, self._stores)
        return None

    def local(self, path: str) -> str | bytes:
        """Return an image as `load_image` takes it: of a member of a local archive, the bytes.

        Raises:
            DecodeError: The member cannot be had, or the image is not in a file of this machine.
        """
        if place := place_of(file_of(path)):
            raise DecodeError(f"no file of this machine ({place})")
        source = self.source(path) if is_archive(path) else None
        return path if source is None else source.read(Event())

    def top(self, path: str) -> str | None:
        """Return the address that an input is walked from, None if `below` is not for it."""
        if why_unreadable(path):
            return None
        if names_a_tar(path) and (is_url(path) or os.path.isfile(path)):
            return f"tar://::{path}"
        return archive_of(path) if is_archive(path) or is_store(path) else None

    def opened(self, url: str) -> BinaryIO:
        """Open a file in a store, to be read in parts; see `Stores.open`."""
        return self._stores.open(url)

    def below(self, url: str, keeper: Keeper) -> Iterator[str]:
        """Yield the images below an address in a store or an archive.

        What has the name of an image is one, and no folder. Nothing is opened: names decide. What
        holds nothing, or cannot be listed, is yielded itself, and fails in its own row. Stores and
        zip archives are walked depth first in natural order, tar archives as they are.
        """
        from clipcls.inputs.recognize import has_image_name

        named = has_image_name(member_of(url)[0] if is_archive(url) else url)
        if is_tar(url) and not named:
            yield from self._tars.below(url, keeper)
            return
        try:
            top = [] if named else self._stores.entries(url)
        except OSError:
            top = []
        if not top:
            yield url
            return
        levels = [(url, "", top[::-1])]
        while levels:
            folder, below, names = levels[-1]
            if not names:
                levels.pop()
                continue
            # From the end, so that what is done takes no memory.
            name = names.pop()
            is_folder, name = name.endswith("/"), name.rstrip("/")
            address, below = child(folder, name), below + name
            if not keeper.keep(address, below, folder=is_folder, image=has_image_name(name)):
                continue
            if not is_folder:
                yield address
                continue
            try:
                levels.append((address, f"{below}/", self._stores.entries(address)[::-1]))
            except OSError as error:
                keeper.unreadable(address, error)

    @property
    def streams(self) -> bool:
        """Whether there was an input that cannot be listed without reading all of it."""
        return "_tars" in vars(self) and self._tars.streams

    def _parts(self, archive: str, stopped: Event) -> Generator[bytes, None, None]:
        if is_web(archive):
            return self._downloader.parts(archive, stopped)
        return self._stores.parts(archive, stopped)

    @cached_property
    def _tars(self) -> Tars:
        from clipcls.inputs.tars import Tars

        return Tars(self._options, self._parts)

    @cached_property
    def _downloader(self) -> Downloader:
        from clipcls.inputs.web import Downloader

        return Downloader(self._options)

    @cached_property
    def _stores(self) -> Stores:
        from clipcls.inputs.stores import Stores

        return Stores(self._options)


@cache
def _remote(options: RemoteOptions) -> Remote:
    return Remote(options)


def _image(url: str, options: RemoteOptions) -> Source | None:
    return _remote(options).source(url)
