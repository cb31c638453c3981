"""The part of an image that a model sees, from what its `prepare` makes of coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from clipcls.explaining.seen import seen_of
from clipcls.testing import FakeEncoder

SIDE = 64
SIZES = [(64, 64), (640, 480), (480, 640), (3000, 1000), (20, 15), (5, 50)]


class Cropping(FakeEncoder):
    """Sees the middle square, as most models do."""

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        fitted = ImageOps.fit(image, self.image_size[::-1], Image.Resampling.BICUBIC)
        return np.asarray(fitted).transpose(2, 0, 1)


class Padding(FakeEncoder):
    """Sees the whole image with a border of grey."""

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        padded = ImageOps.pad(image, self.image_size[::-1], color=(128, 128, 128))
        return np.asarray(padded).transpose(2, 0, 1)


@pytest.mark.parametrize("size", SIZES)
def test_a_squashed_image_is_seen_whole(size: tuple[int, int]) -> None:
    encoder = FakeEncoder(image_size=(SIDE, SIDE))
    assert seen_of(size, encoder) == pytest.approx((0, 0, 1, 1), abs=0.01)


@given(st.tuples(st.integers(2, 4000), st.integers(2, 4000)).filter(lambda s: max(s) < 9 * min(s)))
def test_of_a_cropped_image_the_middle_square_is_seen(size: tuple[int, int]) -> None:
    seen = seen_of(size, Cropping(image_size=(SIDE, SIDE)))
    for low, high, length in ((seen.left, seen.right, size[0]), (seen.top, seen.bottom, size[1])):
        shown = min(size) / length
        assert (low, high) == pytest.approx((0.5 - shown / 2, 0.5 + shown / 2), abs=0.02)


def test_a_border_lies_outside_of_the_image() -> None:
    seen = seen_of((200, 100), Padding(image_size=(SIDE, SIDE)))
    assert seen == pytest.approx((0, -0.5, 1, 1.5), abs=0.02)
