"""Images at web addresses: downloaded whole, within limits, or a reason why not.

A list of addresses may come from a stranger, so an address must not reach into the user's own
network: the check is made on the addresses that a connection is opened to, each time one is opened.
A name that is looked up again and now means something else, or a redirect, changes nothing.
"""

from __future__ import annotations

import random
import re
import socket
import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from threading import Event, Timer, local
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3 import exceptions as http
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection

from clipcls.errors import DecodeError
from clipcls.inputs.addresses import is_public
from clipcls.inputs.refs import PART_BYTES
from clipcls.inputs.urls import is_web
from clipcls.options import RemoteOptions

MOST_REDIRECTS = 5
_CHUNK_BYTES = 1 << 16
_SILENCE_SECONDS = 10.0
"""How long a connection may take to open, or be silent."""
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 10.0
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that another attempt may better."""


class _FailedError(Exception):
    """A download has failed; the message is the reason.

    Attributes:
        passing: Whether another attempt may succeed.
        wait: Seconds that the server asks to wait before.
    """

    def __init__(self, reason: str, *, passing: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.passing = passing
        self.wait = wait


class Downloader:
    """Fetches files from web addresses, over connections that are kept open; safe in any thread.

    Args:
        options: Limits, and whether private addresses are allowed.

    Attributes:
        options: As given.
    """

    def __init__(self, options: RemoteOptions) -> None:
        self.options = options
        silence = min(_SILENCE_SECONDS, options.timeout)
        self._pools = urllib3.PoolManager(
            maxsize=options.downloads,
            retries=False,
            timeout=urllib3.Timeout(connect=silence, read=silence),
            headers={"User-Agent": f"clipcls/{version('clipcls')}", "Accept-Encoding": "identity"},
        )
        private = {"allow_private": options.allow_private}
        self._pools.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": type("_C", (made,), private)})
            for scheme, pool, made in (
                ("http", urllib3.HTTPConnectionPool, _Http),
                ("https", urllib3.HTTPSConnectionPool, _Https),
            )
        }

    def fetch(self, url: str, stopped: Event) -> bytes:
        """Return what is at a web address.

        Args:
            url: `http://` or `https://`, with user and password if need be.
            stopped: Set when nobody wants it any more.

        Raises:
            DecodeError: It cannot be had within the limits; the message is the reason.
        """
        return self._fetched(url, stopped).data

    def parts(self, url: str, stopped: Event) -> Generator[bytes, None, None]:
        """Yield what is at a web address in pieces, for each of which the limits of time hold.

        A server that gives no pieces is asked for all of it, to which the limit of size applies.

        Args:
            url: As for `fetch`.
            stopped: As for `fetch`.

        Raises:
            DecodeError: It cannot be had, or not further; the message is the reason.
        """
        start, version = 0, None
        while True:
            part = self._fetched(url, stopped, start)
            if start and part.data and part.version != version:
                raise DecodeError("download failed: changed during the download")
            yield part.data
            start, version = start + len(part.data), part.version
            if part.is_last:
                return

    def _fetched(self, url: str, stopped: Event, start: int | None = None) -> _Part:
        """Return all that is at an address or, from a place on, a piece of it."""
        attempt = 0
        while True:
            try:
                with _explained(), _limited(self.options.timeout):
                    return self._followed(url, stopped, start)
            except _FailedError as error:
                failed = DecodeError(f"download failed: {error}")
                if not error.passing or attempt == self.options.retries:
                    raise failed from error
                # Not all at the same time, or the server is overrun once more.
                back_off = _FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.5, 1.0)
                if stopped.wait(min(max(error.wait, back_off), _LONGEST_WAIT_SECONDS)):
                    raise failed from error
                attempt += 1

    def _followed(self, url: str, stopped: Event, start: int | None) -> _Part:
        """Make one attempt, through redirects."""
        given = urlsplit(url)
        login = unquote(given.netloc.rpartition("@")[0])
        for _ in range(MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            if not (is_web(url) and parts.hostname):
                raise _FailedError("not a web address")
            headers = dict(self._pools.headers)
            if start is not None:
                headers["Range"] = f"bytes={start}-{start + PART_BYTES - 1}"
            # Another host gets no password; a plain connection none that was meant for TLS.
            if login and (parts.scheme, parts.hostname, parts.port) == (
                *(given.scheme, given.hostname, given.port),
            ):
                headers |= urllib3.util.make_headers(basic_auth=login)
            address = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
            response = self._pools.urlopen(
                "GET", address, headers=headers, redirect=False, preload_content=False
            )
            with response:
                location = response.get_redirect_location()
                if not location:
                    return _part(response, start, self._body(response, stopped, start))
                url = urljoin(url, location)
        raise _FailedError("too many redirects")

    def _body(self, response: urllib3.BaseHTTPResponse, stopped: Event, start: int | None) -> bytes:
        in_part = start is not None and response.status == 206
        if start and response.status == 416:  # it ended exactly there
            return b""
        if response.status != 200 and not in_part:
            asked = urllib3.Retry().get_retry_after(response)
            passing = response.status in _PASSING
            raise _FailedError(f"HTTP {response.status}", passing=passing, wait=asked or 0.0)
        limit = PART_BYTES if in_part else self.options.max_megabytes * 1e6
        chunks, size = [], response.length_remaining or 0
        if size <= limit:
            size = 0
            for chunk in response.stream(_CHUNK_BYTES):
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    break
                if stopped.is_set():
                    raise _FailedError("interrupted")
        if size > limit:
            raise _FailedError(self.options.too_large)
        return b"".join(chunks)


class _Part(NamedTuple):
    """A piece of a file, whether nothing comes after it, and what tells versions of it apart."""

    data: bytes
    is_last: bool
    version: tuple[str, str] | None


_range = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+|\*)").fullmatch


def _part(response: urllib3.BaseHTTPResponse, start: int | None, data: bytes) -> _Part:
    if response.status != 206:
        return _Part(data, True, None)
    found = _range(response.headers.get("Content-Range", ""))
    if start is None or not found or int(found["start"]) != start:
        raise _FailedError("another part than was asked for")
    total = found["total"]
    is_last = len(data) < PART_BYTES if total == "*" else start + len(data) >= int(total)
    return _Part(data, is_last or not data, (total, response.headers.get("ETag", "")))


# ---- connections ----


class _Attempt:
    """What can be ended from another thread.

    Attributes:
        expired: Whether it was ended.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.expired = False

    def watch(self, handle: socket.socket) -> None:
        """Take what leads to the connection; a copy, as both are closed at times of their own."""
        self.close()
        self._socket = handle.dup()

    def hang_up(self) -> None:
        """End the attempt; whoever waits for the connection finds it closed."""
        self.expired = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._socket.close()


class _Thread(local):
    attempt = _Attempt()


_thread = _Thread()


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Let an attempt last no longer, however slowly something comes.

    Time-outs of sockets begin anew with every byte, so they end no connection that drips.
    """
    attempt = _thread.attempt = _Attempt()
    timer = Timer(seconds, attempt.hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if attempt.expired:
            raise _FailedError("timed out", passing=True) from error
        raise
    finally:
        timer.cancel()
        attempt.close()
    if attempt.expired:  # what has no declared length seems to be complete
        raise _FailedError("timed out", passing=True)


class _Checked(HTTPConnection):
    """A connection that is opened to public addresses only, and can be ended at any time."""

    allow_private = False
    _handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        """Open the connection to one of the very addresses that were checked."""
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _FailedError("no such host", passing=True) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self.allow_private and not all(map(is_public, addresses)):
            raise _FailedError("private address (--allow-private-urls)")
        reason = "timed out"
        for address in addresses:
            if _thread.attempt.expired:
                break
            try:
                opened = create_connection(
                    (address, self.port), self.timeout, socket_options=self.socket_options
                )
            except OSError as error:
                refused = isinstance(error, ConnectionRefusedError)
                late = isinstance(error, TimeoutError)
                reason = "connection refused" if refused else "timed out" if late else "no route"
                continue
            # TLS takes over the socket itself.
            self._handle = opened.dup()
            _thread.attempt.watch(self._handle)
            return opened
        raise _FailedError(reason, passing=True)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        """Wait for the answer."""
        if self._handle is not None:
            _thread.attempt.watch(self._handle)
        return super().getresponse()

    def close(self) -> None:
        """Close the connection."""
        super().close()
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class _Http(_Checked):
    pass


class _Https(_Checked, HTTPSConnection):
    pass


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever a download raises into its reason."""
    try:
        yield
    except _FailedError:
        raise
    except http.SSLError as error:
        certificate = isinstance(error.args[0], ssl.SSLCertVerificationError)
        reason = "certificate not valid" if certificate else "no secure connection"
        raise _FailedError(reason, passing=not certificate) from error
    except (http.TimeoutError, TimeoutError) as error:
        raise _FailedError("timed out", passing=True) from error
    except (http.DecodeError, http.LocationParseError, ValueError) as error:
        garbled = isinstance(error, http.DecodeError)
        reason = "damaged on the way" if garbled else "not a web address"
        raise _FailedError(reason, passing=garbled) from error
    except (http.HTTPError, OSError) as error:
        raise _FailedError("connection lost", passing=True) from error
