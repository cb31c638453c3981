"""One tar archive: which images are in it, and their bytes.

Of a local one the headers are read once, and then each image where it lies. One that is packed or
comes over a network is gone through once, from start to end, and its images are put into a file
without a name, which is gone when nobody holds the archive any more.

Members are found by their names alone and nothing is unpacked, so that no name, link or device in
an archive can reach anything outside of it.
"""

from __future__ import annotations

import errno
import gzip
import io
import math
import os
import tarfile
import tempfile
import weakref
from abc import ABC, abstractmethod
from array import array
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from threading import Lock
from typing import BinaryIO

import numpy as np

from clipcls.errors import ClipclsError, DecodeError
from clipcls.inputs.files import os_reason
from clipcls.inputs.recognize import has_image_name
from clipcls.options import RemoteOptions

Parts = Generator[bytes, None, None]
"""What an archive consists of, in pieces; raises `DecodeError`."""

_CORRUPT = "corrupt: damaged or incomplete tar archive"
_GZIP = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 16
_DIGEST = "S16"
_MOST_EXTENSION_BYTES = 1 << 20


def opened_tar(path: str, options: RemoteOptions) -> Archive:
    """Return an archive of this machine; nothing of it has been gone through.

    Raises:
        DecodeError: It cannot be read.
    """
    with _explained(), open(path, "rb") as stream:
        packed = stream.read(len(_GZIP)) == _GZIP
    return CopiedArchive(options, _read(path)) if packed else IndexedArchive(options, path)


class Archive(ABC):
    """What is known of the images in one archive.

    Attributes:
        complete: Whether all of it has been gone through.
        unread: How many images were listed and not read yet.
    """

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options
        self.complete = False
        self.unread = 0

    def scan(self) -> Generator[tuple[str, bool], None, None]:
        """Go through it once; yield the name of all but folders, and whether it is an image.

        Raises:
            DecodeError: It cannot be read, or not further.
        """
        try:
            with _explained():
                yield from self._scanned()
        except DecodeError:
            self._end()
            raise
        self._end()

    def scan_all(self, wanted: str) -> None:
        """Go through it, whatever is wrong with it behind the wanted image.

        Raises:
            DecodeError: It cannot be read that far.
        """
        try:
            for _ in self.scan():
                pass
        except DecodeError:
            if self._place(wanted) is None:
                raise

    def may_read(self, name: str) -> bool:
        """Return whether an image is known or, as all is known, is not there."""
        return self.complete or self._place(name) is not None

    def read(self, name: str) -> bytes:
        """Return the bytes of an image.

        Raises:
            DecodeError: It is not there, or too large.
        """
        place = self._place(name)
        if place is None:
            raise DecodeError("file not found")
        if place[1] > self._options.max_megabytes * 1e6:
            raise DecodeError(f"download failed: {self._options.too_large}")
        with _explained():
            return self._read(*place)

    @abstractmethod
    def _scanned(self) -> Iterator[tuple[str, bool]]:
        """Yield the name of each member, and whether it is an image, whose place is then known."""

    def _end(self) -> None:
        self.complete = True

    @abstractmethod
    def _place(self, name: str) -> tuple[int, int] | None:
        """Return where an image begins and how many bytes it has."""

    @abstractmethod
    def _read(self, start: int, size: int) -> bytes:
        """Return so many bytes from there."""


class IndexedArchive(Archive):
    """A local archive: 32 bytes for each image."""

    def __init__(self, options: RemoteOptions, path: str) -> None:
        super().__init__(options)
        self._path = path
        self._names, self._places = bytearray(), array("Q")

    def _scanned(self) -> Iterator[tuple[str, bool]]:
        with (
            open(self._path, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as tar,
        ):
            self._stamp = _stamp(stream)
            for member in _members(tar):
                image = _is_image(member)
                if image:
                    if member.offset_data + member.size > self._stamp[0]:
                        raise tarfile.ReadError
                    self._names += _digest(member.name)
                    self._places.extend((member.offset_data, member.size))
                yield member.name, image

    def _end(self) -> None:
        names = np.frombuffer(self._names, _DIGEST)
        # Stable, so that the first of a name is found.
        order = np.argsort(names, kind="stable")
        self._sorted = names[order], np.frombuffer(self._places, np.uint64).reshape(-1, 2)[order]
        self._names, self._places = bytearray(), array("Q")
        super()._end()

    def _place(self, name: str) -> tuple[int, int] | None:
        if not self.complete:
            return None
        names, places = self._sorted
        wanted = np.frombuffer(_digest(name), _DIGEST)[0]
        found = int(np.searchsorted(names, wanted))
        if found == len(names) or names[found] != wanted:
            return None
        return int(places[found, 0]), int(places[found, 1])

    def _read(self, start: int, size: int) -> bytes:
        with open(self._path, "rb") as stream:
            if _stamp(stream) != self._stamp:
                raise DecodeError("the archive was changed during the run")
            stream.seek(start)
            return stream.read(size)


class CopiedArchive(Archive):
    """The images of an archive that comes as a stream.

    Attributes:
        bytes: How many were copied.
    """

    def __init__(self, options: RemoteOptions, parts: Parts) -> None:
        super().__init__(options)
        self.bytes = 0
        self._parts = parts
        self._places: dict[str, tuple[int, int]] = {}
        self._lock = Lock()
        self._file = tempfile.TemporaryFile(prefix="clipcls-")  # noqa: SIM115  see below
        weakref.finalize(self, self._file.close)

    def _scanned(self) -> Iterator[tuple[str, bool]]:
        stream = io.BufferedReader(_Joined(self._parts), _CHUNK_BYTES)
        packed = stream.peek(len(_GZIP)).startswith(_GZIP)
        with (
            closing(self._parts),
            gzip.GzipFile(fileobj=stream) if packed else stream as plain,
            tarfile.open(fileobj=plain, mode="r|", tarinfo=_Header) as tar,
        ):
            for member in _members(tar):
                image = _is_image(member)
                if image and member.name not in self._places:
                    self._places[member.name] = self._copied(tar, member)
                yield member.name, image

    def _copied(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[int, int]:
        content = tar.extractfile(member)
        if content is None or member.size > self._options.max_megabytes * 1e6:
            return 0, member.size
        data = content.read()
        if len(data) < member.size:
            raise tarfile.ReadError
        with self._lock:
            start = self._file.seek(0, os.SEEK_END)
            self._file.write(data)
        self.bytes += len(data)
        return start, len(data)

    def _place(self, name: str) -> tuple[int, int] | None:
        return self._places.get(name)

    def _read(self, start: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)


class _Header(tarfile.TarInfo):
    """A header that must be sound: tarfile itself takes a damaged one for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Header:
        """Read the next header."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Make one of its block, unless what it announces would not fit into memory."""
        header = super().frombuf(buf, encoding, errors)
        most = _MOST_EXTENSION_BYTES if header.type in _EXTENSIONS else math.inf
        if not 0 <= header.size <= most:
            raise tarfile.ReadError
        return header


_EXTENSIONS = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)


class _Joined(io.RawIOBase):
    """Pieces as one stream."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer from the current piece."""
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = memoryview(part)
        room = memoryview(buffer)  # type: ignore[arg-type]
        size = min(len(room), len(self._rest))
        room[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield all but folders, without the `./` that `tar -c .` puts before names."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # or it would keep them all
        member.name = member.name.removeprefix("./")
        if not member.isdir():
            yield member


def _is_image(member: tarfile.TarInfo) -> bool:
    # Of a sparse file, the bytes are not side by side.
    return member.isreg() and not member.issparse() and has_image_name(member.name)


def _read(path: str) -> Parts:
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _digest(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _stamp(stream: BinaryIO) -> tuple[int, int]:
    found = os.fstat(stream.fileno())
    return found.st_size, found.st_mtime_ns


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever reading an archive raises into its reason."""
    try:
        yield
    except ClipclsError:
        raise
    # Hostile bytes make tarfile raise anything from ValueError to RecursionError.
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DecodeError("no room for a copy of the archive (TMPDIR)") from error
        number = error.errno if isinstance(error, OSError) else None
        raise DecodeError(os_reason(number) if number else _CORRUPT) from error
