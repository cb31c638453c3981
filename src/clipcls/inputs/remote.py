"""Inputs that are not files of this machine; nothing is imported for kinds that do not occur."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from threading import Event
from typing import TYPE_CHECKING, BinaryIO, Protocol

from clipcls.inputs.refs import Source
from clipcls.inputs.urls import is_archive, is_store, is_web
from clipcls.options import RemoteOptions

if TYPE_CHECKING:
    from clipcls.inputs.stores import Stores
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

    @property
    def concurrency(self) -> int:
        """How many images of this kind are read at once."""
        return self.fetcher.options.downloads

    def read(self, stopped: Event) -> bytes:
        """Return the bytes; see `Source`."""
        return self.fetcher.fetch(self.url, stopped)


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
        if is_store(path):
            return RemoteImage(path, self._stores)
        return None

    def opened(self, url: str) -> BinaryIO:
        """Open a file in a store, to be read in parts; see `Stores.open`."""
        return self._stores.open(url)

    def below(self, url: str, keeper: Keeper) -> Iterator[str]:
        """Yield the images below an address in a store, depth first in natural order.

        What has the name of an image is one, and no folder. Nothing is opened: names decide. What
        holds nothing, or cannot be listed, is yielded itself, and fails in its own row.
        """
        from clipcls.inputs.decode import has_image_name

        try:
            named = has_image_name(url.rpartition("::")[0] if is_archive(url) else url)
            top = [] if named else list(self._stores.entries(url))
        except OSError:
            top = []
        if not top:
            yield url
            return
        levels = [("", iter(top))]
        while levels:
            below, entries = levels[-1]
            name, address, folder = next(entries, ("", "", False))
            if not name:
                levels.pop()
            elif not keeper.keep(address, below + name, folder=folder, image=has_image_name(name)):
                continue
            elif folder:
                try:
                    listed = list(self._stores.entries(address))
                except OSError as error:
                    keeper.unreadable(address, error)
                else:
                    levels.append((f"{below}{name}/", iter(listed)))
            else:
                yield address

    @cached_property
    def _downloader(self) -> Downloader:
        from clipcls.inputs.web import Downloader

        return Downloader(self._options)

    @cached_property
    def _stores(self) -> Stores:
        from clipcls.inputs.stores import Stores

        return Stores(self._options)
