"""Images in object stores and archives, through fsspec: `s3://`, `gs://`, `az://`, `hf://`, `zip://`.

Credentials and endpoints come from where the store's own library looks for them. No other scheme of
fsspec is taken: some would open a connection that nobody checks, and a list may be a stranger's.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
import weakref
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from concurrent.futures import wait
from functools import cache
from threading import Event, Lock
from typing import Any, BinaryIO
from zipfile import BadZipFile

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.exceptions import FSTimeoutError

from clipcls.errors import DecodeError, InputError, MissingExtraError
from clipcls.inputs.patterns import name_order
from clipcls.inputs.refs import PART_BYTES
from clipcls.inputs.urls import (
    ARCHIVE,
    is_archive,
    is_store,
    is_tar,
    is_web,
    member_of,
    redacted,
)
from clipcls.options import RemoteOptions
from clipcls.text import visible

_SAY = {
    "Credential": "no credentials",
    "Connection": "connection lost",
    "Payload": "connection lost",
}
"""Part of the name of a library's error -> what it means."""

_PAGE = 1000
_POLL_SECONDS = 0.1
_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}


class Stores:
    """The stores that a run reads; safe in any thread.

    Args:
        options: Limits.

    Attributes:
        options: As given.
    """

    def __init__(self, options: RemoteOptions) -> None:
        self.options = options
        self._lock = Lock()
        self._open: dict[str, Any] = {}

    def fetch(self, url: str, stopped: Event) -> bytes:
        """Return what is at an address.

        Args:
            url: The address.
            stopped: As for a download; what is in an archive is read to its end.

        Raises:
            DecodeError: It cannot be had within the limits; the message is the reason.
        """
        limit = int(self.options.max_megabytes * 1e6)
        try:
            system, path = self._system(url)
            data = self._called(system, "cat_file", path, stopped=stopped, start=0, end=limit + 1)
        except MissingExtraError as error:
            raise DecodeError(str(error)) from error
        except Exception as error:  # each store's library has errors of its own
            # Of an empty object there is no range.
            if "range" not in str(error).lower():
                raise DecodeError(reason_of(error)) from error
            data = b""
        if len(data) > limit:
            raise DecodeError(f"download failed: {self.options.too_large}")
        return bytes(data)

    def parts(self, url: str, stopped: Event) -> Generator[bytes, None, None]:
        """Yield what is at an address in pieces, each within the time for an image.

        Raises:
            DecodeError: It cannot be had, or not further.
        """
        start, part = 0, b"-"
        while part and not stopped.is_set():
            try:
                system, path = self._system(url)
                end = start + PART_BYTES
                part = self._called(system, "cat_file", path, stopped=stopped, start=start, end=end)
            except MissingExtraError:
                raise
            except Exception as error:  # as above
                if "range" not in str(error).lower():
                    raise DecodeError(reason_of(error)) from error
                return
            start += len(part)
            yield bytes(part)

    def open(self, url: str) -> BinaryIO:
        """Open a file, to be read in parts.

        Raises:
            MissingExtraError: The store needs a package that is not installed.
            Exception: Whatever the store's library raises, then and while it is read; see
                `reason_of`.
        """
        system, path = self._system(url)
        stream: BinaryIO = system.open(path, "rb")
        return stream

    def entries(self, url: str) -> list[str]:
        """Return the names in a folder in natural order, those of folders with a slash behind.

        Raises:
            OSError: It cannot be listed, or is not there.
            MissingExtraError: The store needs a package that is not installed.
        """
        try:
            system, path = self._system(url)
            names = self._listed(system, path.strip("/"), url)
        except (OSError, MissingExtraError):
            raise
        except Exception as error:  # as above
            raise OSError(reason_of(error)) from error
        names.sort(key=name_order)
        return names

    def _listed(self, system: Any, path: str, url: str) -> list[str]:
        """List a folder; of S3 in pages, as fsspec's description of a file takes a kilobyte."""
        if not url.lower().startswith("s3://") or not path:
            found = self._called(system, "ls", path, detail=True)
            return list(_names(found, path))
        bucket, key, _ = system.split_path(path)
        pages = system._iterdir(bucket, prefix=f"{key}/" if key else "")
        names: list[str] = []
        try:
            while page := sync(system.loop, _page, pages, timeout=self._limit):
                names += _names(page, path)
        except Exception as error:
            from s3fs.errors import translate_boto_error

            raise translate_boto_error(error) from error
        return names

    def _system(self, url: str) -> tuple[Any, str]:
        """Return the file system of an address and its path there."""
        scheme, _, path = url.partition("://")
        scheme = scheme.lower()
        if scheme != ARCHIVE:
            with self._lock:
                if scheme not in self._open:
                    self._open[scheme] = _class_of(scheme)(
                        skip_instance_cache=True, use_listings_cache=False, **self._limits(scheme)
                    )
            return self._open[scheme], path
        inner, _, archive = path.rpartition("::")
        with self._lock:
            if archive not in self._open:
                self._open[archive] = self._archive(archive)
        return self._open[archive], inner

    def _archive(self, archive: str) -> Any:
        if is_store(archive):
            scheme, _, path = archive.partition("://")
            outer = _class_of(scheme)(skip_instance_cache=True, **self._limits(scheme))
            stream: Any = outer.open(path, "rb")
        else:
            stream = open(archive, "rb")  # noqa: SIM115  read until the end of the run
        try:
            opened = _class_of(ARCHIVE)(stream, skip_instance_cache=True)
        except Exception:
            stream.close()
            raise
        weakref.finalize(opened, stream.close)
        return opened

    def _limits(self, scheme: str) -> dict[str, Any]:
        if scheme != "s3":
            return {}
        silence = min(10.0, self.options.timeout)
        config = {
            "connect_timeout": silence,
            "read_timeout": silence,
            "retries": {"max_attempts": self.options.retries, "mode": "standard"},
            "max_pool_connections": self.options.downloads,
        }
        return {"config_kwargs": config}

    def _called(
        self, system: Any, method: str, path: str, *, stopped: Event | None = None, **more: Any
    ) -> Any:
        """Call a method of a file system, where that is possible within the time-out.

        Raises:
            InterruptedError: Nobody wants the answer any more.
        """
        if not (isinstance(system, AsyncFileSystem) and system.async_impl):
            return getattr(system, method)(path, **more)
        call = getattr(system, f"_{method}")(path, **more)
        answer = asyncio.run_coroutine_threadsafe(call, system.loop)
        ends = time.monotonic() + self._limit
        while wait([answer], _POLL_SECONDS).not_done:
            if time.monotonic() > ends or (stopped is not None and stopped.is_set()):
                answer.cancel()
                raise TimeoutError if time.monotonic() > ends else InterruptedError
        return answer.result()

    @property
    def _limit(self) -> float:
        """Seconds for an answer of a store, whose library makes the further attempts itself."""
        return self.options.timeout * (self.options.retries + 1)


async def _page(entries: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take the next entries; none at the end."""
    page = []
    async for entry in entries:
        page.append(entry)
        if len(page) == _PAGE:
            break
    return page


def _names(entries: Iterable[dict[str, Any]], folder: str) -> Iterator[str]:
    for entry in entries:
        name = entry["name"].rstrip("/")
        # A store may list the folder itself, as an empty object.
        if name.strip("/") != folder:
            yield name.rpartition("/")[2] + ("/" if entry["type"] == "directory" else "")


@cache
def _class_of(scheme: str) -> Any:
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise MissingExtraError(f"reading {scheme}://", _EXTRAS[scheme]) from error


def check_store(url: str) -> None:
    """Refuse an address that nothing here can open now.

    Raises:
        InputError: The archive is not there.
        MissingExtraError: The store needs a package that is not installed.
    """
    if not is_tar(url):
        _class_of(url.partition("://")[0].lower())
    archive = member_of(url)[1] if is_archive(url) else ""
    if is_store(archive):
        check_store(archive)
    elif archive and not is_web(archive) and not os.path.isfile(archive):
        raise InputError(f"no such archive: {visible(redacted(archive))}")


def reason_of(error: Exception) -> str:
    """Return why a file cannot be had, free of its name."""
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, FSTimeoutError)):
        return "download failed: timed out"
    if isinstance(error, InterruptedError):
        return "download failed: interrupted"
    if isinstance(error, BadZipFile):
        return "corrupt: damaged or incomplete zip archive"
    if isinstance(error, RuntimeError) and "password" in str(error):
        return "not supported: encrypted zip archive"
    if isinstance(error, OSError) and error.errno == errno.EBUSY:
        return "download failed: store busy"
    name = type(error).__name__
    for part, reason in _SAY.items():
        if part in name:
            return f"download failed: {reason}"
    # The text of the error may have addresses and keys in it.
    return f"download failed: {name}"
