"""A web server on loopback that behaves as badly as it is asked to."""

from __future__ import annotations

import io
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image


def picture(colour: str) -> bytes:
    """Return a PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(stream, "PNG")
    return stream.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers `/BEHAVIOUR/COLOUR` with an image of a colour, in one of several ways."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        behaviour, _, rest = path[1:].partition("/")
        self.server.asked[path] += 1
        self.server.clients.add(self.client_address)
        self.server.headers_of[path] = self.headers
        self.server.targets.append(self.path)
        with suppress(OSError):
            getattr(self, behaviour)(rest)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def good(self, colour: str) -> None:
        self._answer(200, picture(colour))

    def file(self, name: str) -> None:
        """Answer with all of a file."""
        self._answer(200, self.server.files[name])

    def parts(self, name: str) -> None:
        """Answer with the part of a file that is asked for; the first time, it is busy."""
        data, tag = self.server.files[name], f'"{hash(self.server.files[name])}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = map(int, asked.groups()) if asked else (0, len(data))
        part = data[first : last + 1]
        place = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        if self.server.asked[f"/parts/{name}"] == 1:
            self._answer(503, b"")
        elif first >= len(data):
            self._answer(416, b"")
        else:
            self._answer(206, part, None, ETag=tag, **{"Content-Range": place})

    def changing(self, name: str) -> None:
        """Answer like `parts`, with another version each time."""
        self.server.files[name] += b"\0"
        self.server.asked[f"/parts/{name}"] = 2
        self.parts(name)

    def once_busy(self, colour: str) -> None:
        first = self.server.asked[f"/once_busy/{colour}"] == 1
        self._answer(503 if first else 200, b"" if first else picture(colour))

    def status(self, number: str) -> None:
        self._answer(int(number), b"no")

    def dropped(self, rest: str) -> None:
        self.close_connection = True

    def torn(self, colour: str) -> None:
        """Declare more than what comes."""
        data = picture(colour)
        self._answer(200, data, length=len(data) + 100)
        self.close_connection = True

    def short(self, colour: str) -> None:
        """Declare less than what comes."""
        data = picture(colour)
        self._answer(200, data, length=len(data) - 30)
        self.close_connection = True

    def stalled(self, rest: str) -> None:
        self._answer(200, b"", length=1000)
        self._sleep()

    def dripping(self, where: str) -> None:
        """Send a byte now and then: in a header, or in a body of no declared length."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: " + (b"\r\n\r\n" if where == "body" else b""))
        while not self.server.ended:
            self.wfile.write(b"a")
            time.sleep(0.05)

    def endless(self, rest: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.server.ended:
            self.wfile.write(b"\0" * 65536)

    def declared(self, size: str) -> None:
        self._answer(200, b"", length=int(size))

    def redirect(self, target: str) -> None:
        self._answer(302, b"", Location=target)

    def loop(self, rest: str) -> None:
        self._answer(302, b"", Location=self.path)

    def chunked(self, colour: str) -> None:
        data = picture(colour)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(data), 20):
            piece = data[start : start + 20]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self, status: int, data: bytes, length: int | None = None, **more: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _sleep(self) -> None:
        while not self.server.ended:
            time.sleep(0.05)


class Server(ThreadingHTTPServer):
    """A server that remembers.

    Attributes:
        asked: Path -> how often it was asked for.
        headers_of: Path -> the headers of the last request.
        targets: Paths with their queries, as they came.
        clients: Where the connections came from.
        files: What is served under `file`, `parts` and `changing`.
        ended: Whether it is over, so that no answer goes on.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.headers_of: dict[str, Message] = {}
        self.targets: list[str] = []
        self.clients: set[tuple[str, int]] = set()
        self.files: dict[str, bytes] = {}
        self.ended = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""

    def url(self, path: str, *, host: str = "127.0.0.1", login: str = "") -> str:
        return f"http://{login}{host}:{self.server_port}/{path}"


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server until the end of the block."""
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.ended = True
            server.shutdown()
            thread.join()
