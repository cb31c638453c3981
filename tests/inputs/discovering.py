"""Discovery as the tests of this folder want it: names decide what an image is."""

import io
import os
from collections.abc import Iterable, Sequence

import pytest

from clipcls.inputs.walk import Discovery, PathStream
from clipcls.options import DiscoveryOptions


def by_name(path: str) -> bool:
    return path.endswith((".jpg", ".png"))


def discover(
    inputs: Sequence[str],
    *,
    recursive: bool = True,
    null: bool = False,
    exclude: Sequence[str] = (),
    stdin: bytes = b"",
) -> Discovery:
    options = DiscoveryOptions(recursive=recursive, null_separated=null, exclude=tuple(exclude))
    return Discovery(inputs, options, is_image=by_name, stdin=io.BytesIO(stdin))


def stream(given: Iterable[str], *, recursive: bool = True) -> PathStream:
    return PathStream(given, DiscoveryOptions(recursive=recursive), is_image=by_name)


def paths(discovery: Discovery | PathStream) -> list[str]:
    return [ref.path for ref in discovery]


def refuse_listing(monkeypatch: pytest.MonkeyPatch, folder: str, error: BaseException) -> None:
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path == folder:
            raise error
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
