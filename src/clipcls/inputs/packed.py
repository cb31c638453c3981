"""A long list of images in little memory."""

from __future__ import annotations

import marshal
import zlib
from array import array
from collections.abc import Callable, Iterator

from clipcls.inputs.refs import ImageRef
from clipcls.inputs.remote import RemoteImage

_BLOCK = 1024


class PackedRefs:
    """References in the order in which they came, of which places and addresses are kept.

    Neighbours are alike, so that a block of addresses shrinks to a tenth: about 20 bytes for each
    reference, which are 200 as objects.

    Args:
        make: Returns the reference of a place and an address.
    """

    def __init__(self, make: Callable[[int, str], ImageRef]) -> None:
        self._make = make
        self._places = array("Q")
        self._blocks: list[bytes] = []
        self._last: list[str] = []
        self._whole: dict[int, ImageRef] = {}

    def __len__(self) -> int:
        return len(self._places)

    def append(self, ref: ImageRef) -> None:
        """Add a reference to the end."""
        address = ref.source.url if isinstance(ref.source, RemoteImage) else ref.path
        if self._make(ref.index, address) != ref:  # it is more than its address
            self._whole[len(self)] = ref
        self._places.append(ref.index)
        self._last.append(address)
        if len(self._last) == _BLOCK:
            self._blocks.append(zlib.compress(marshal.dumps(self._last), 1))
            self._last = []

    def __iter__(self) -> Iterator[ImageRef]:
        for number, block in enumerate([*self._blocks, b""]):
            addresses = marshal.loads(zlib.decompress(block)) if block else self._last
            for i, address in enumerate(addresses, number * _BLOCK):
                yield self._whole.get(i) or self._make(self._places[i], address)
