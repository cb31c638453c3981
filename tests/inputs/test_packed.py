"""References come out of little memory as they went in."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from clipcls.inputs.packed import PackedRefs
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.remote import Remote, RemoteImage
from clipcls.inputs.urls import redacted
from clipcls.options import RemoteOptions

remote = Remote(RemoteOptions())


def make(index: int, address: str) -> ImageRef:
    return ImageRef(index, redacted(address), remote.source(address))


@dataclass(frozen=True)
class Elsewhere:
    """A source that no address leads to."""

    concurrency: int = 1

    def read(self, stopped: Event) -> bytes:
        return b""


@given(st.lists(st.one_of(st.text(), st.just("\udcff/a"), st.just("s3://b/a.jpg")), max_size=30))
def test_what_goes_in_comes_out(addresses: list[str]) -> None:
    # Places may be left out, as for a shard.
    refs = [make(7 * i, address) for i, address in enumerate(addresses)]
    with patch("clipcls.inputs.packed._BLOCK", 4):
        packed = PackedRefs(make)
        for ref in refs:
            packed.append(ref)
        assert (len(packed), list(packed), list(packed)) == (len(refs), refs, refs)


def test_secrets_and_what_is_more_than_an_address_are_kept() -> None:
    refs = [
        make(0, "https://user:pw@h/a.jpg?sig=s3cret"),
        ImageRef(1, "row 5", Elsewhere()),
        make(2, "b.jpg"),
    ]
    packed = PackedRefs(make)
    for ref in refs:
        packed.append(ref)
    assert list(packed) == refs
    [first, *_] = packed
    assert isinstance(first.source, RemoteImage)
    assert first.source.url == "https://user:pw@h/a.jpg?sig=s3cret"
