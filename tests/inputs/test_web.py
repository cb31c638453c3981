"""Downloads that go wrong: each image has its bytes or its reason, in bounded time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clipcls.errors import DecodeError
from clipcls.inputs.remote import RemoteImage
from clipcls.inputs.web import Downloader
from clipcls.options import RemoteOptions
from tests.inputs.web_server import Server, picture, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def options(**changes: Any) -> RemoteOptions:
    return RemoteOptions(**{"timeout": 0.5, "retries": 1, "allow_private": True, **changes})


def fetch(url: str, **changes: Any) -> bytes:
    return Downloader(options(**changes)).fetch(url, threading.Event())


def reason(url: str, **changes: Any) -> str:
    began = time.monotonic()
    with pytest.raises(DecodeError) as caught:
        fetch(url, **changes)
    assert time.monotonic() - began < 4
    return str(caught.value).removeprefix("download failed: ")


@pytest.mark.parametrize("behaviour", ["good", "once_busy", "chunked"])
def test_a_download_is_what_the_server_has(server: Server, behaviour: str) -> None:
    assert fetch(server.url(f"{behaviour}/red")) == picture("red")


def test_one_connection_serves_several_downloads(server: Server) -> None:
    downloader = Downloader(options())
    for colour in ("red", "green", "blue"):
        assert downloader.fetch(server.url(f"good/{colour}"), threading.Event()) == picture(colour)
    assert len(server.clients) == 1


@pytest.mark.parametrize(
    ("path", "expected", "attempts"),
    [
        ("status/404", "HTTP 404", 1),
        ("status/403", "HTTP 403", 1),
        ("status/503", "HTTP 503", 2),
        ("status/429", "HTTP 429", 2),
        ("dropped/", "connection lost", 2),
        ("torn/red", "connection lost", 2),
        ("stalled/", "timed out", 2),
        ("dripping/body", "timed out", 2),
        ("dripping/header", "timed out", 2),
        ("declared/2000000", "more than 1 MB (--max-download)", 1),
        ("endless/", "more than 1 MB (--max-download)", 1),
        ("loop/", "too many redirects", 6),
        ("redirect/file:///etc/passwd", "not a web address", 1),
        ("redirect/http://[", "not a web address", 1),
    ],
)
def test_what_fails_has_a_short_reason_in_bounded_time(
    server: Server, path: str, expected: str, attempts: int
) -> None:
    assert reason(server.url(path), max_megabytes=1.0) == expected
    assert server.asked[f"/{path}"] == attempts


def test_less_declared_than_sent_ends_at_what_was_declared(server: Server) -> None:
    assert fetch(server.url("short/red")) == picture("red")[:-30]


def test_nobody_listens_and_nobody_is_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert reason(f"http://127.0.0.1:{port}/a.png") == "connection refused"


@pytest.mark.parametrize("url", ["http://", "http:///a.png", "http://[/a", "http://h:port/a.png"])
def test_what_is_no_address_fails_without_a_connection(url: str) -> None:
    assert reason(url) == "not a web address"


def test_an_end_asked_for_ends_the_waiting(server: Server) -> None:
    stopped, began = threading.Event(), time.monotonic()
    threading.Timer(0.2, stopped.set).start()
    with pytest.raises(DecodeError):
        Downloader(options(retries=50)).fetch(server.url("status/503"), stopped)
    assert time.monotonic() - began < 3


# ---- private addresses ----


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0.0.0.0"])
def test_this_machine_is_refused_by_every_name_it_has(server: Server, host: str) -> None:
    refused = "private address (--allow-private-urls)"
    assert reason(server.url("good/red", host=host), allow_private=False) == refused
    assert server.targets == []


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names lead where `answers` say, one after the other; return the names looked up."""
    asked: list[str] = []
    real, left = socket.getaddrinfo, list(answers)

    def look_up(host: str, port: int, *args: Any, **more: Any) -> Any:
        if host[0].isdigit():
            return real(host, port, *args, **more)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in left.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize(
    "ips", [["169.254.169.254"], ["10.0.0.7"], ["93.184.215.14", "192.168.1.1"]]
)
def test_a_name_that_leads_into_a_private_network_is_refused(
    monkeypatch: pytest.MonkeyPatch, ips: list[str]
) -> None:
    resolving(monkeypatch, ips)
    found = reason("http://pictures.example/a.png", allow_private=False)
    assert found == "private address (--allow-private-urls)"


def public_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the address 93.184.215.14 lead to the server, as if it stood in the public internet."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        real(self, ("127.0.0.1", address[1]) if address[0] == "93.184.215.14" else address)

    monkeypatch.setattr(socket.socket, "connect", connect)


def test_a_redirect_into_a_private_network_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    public_server(server, monkeypatch)
    resolving(monkeypatch, ["93.184.215.14"], ["93.184.215.14"])
    inside = server.url("good/red")
    url = server.url(f"redirect/{inside}", host="pictures.example")
    assert reason(url, allow_private=False) == "private address (--allow-private-urls)"
    assert server.asked == {f"/redirect/{inside}": 1}
    assert fetch(url) == picture("red")


def test_a_name_that_changes_its_mind_is_checked_for_each_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    public_server(server, monkeypatch)
    asked = resolving(monkeypatch, ["93.184.215.14"], ["127.0.0.1"])
    url = server.url("dropped/", host="rebinding.example")
    assert reason(url, allow_private=False) == "private address (--allow-private-urls)"
    # The first answer was connected to as it was checked: it was looked up once per connection.
    assert asked == ["rebinding.example"] * 2
    assert server.asked == {"/dropped/": 1}


# ---- credentials ----


def test_user_and_password_go_to_their_host_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    elsewhere = server.url("good/blue", host="elsewhere.example")
    url = server.url(f"redirect/{elsewhere}", login="us%65r:p%40ss@")
    assert fetch(url) == picture("blue")
    assert server.headers_of[f"/redirect/{elsewhere}"]["Authorization"] == "Basic dXNlcjpwQHNz"
    assert "Authorization" not in server.headers_of["/good/blue"]
    assert "p%40ss" not in "".join(server.targets)


def test_a_source_does_not_show_its_address() -> None:
    assert "secret" not in repr(RemoteImage("http://u:secret@h/a.png", Downloader(options())))
