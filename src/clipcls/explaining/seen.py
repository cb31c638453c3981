"""Which part of an image a model sees: found by showing it an image of coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from clipcls.models.base import Encoder
    from clipcls.scoring import Float64

_EDGE = 2
"""Pixels at a border that a resampling filter bends."""


class Box(NamedTuple):
    """A part of an upright image, in shares of its width and height from its upper left corner.

    Below 0 and above 1 lies the border of `--fit pad`.
    """

    left: float
    top: float
    right: float
    bottom: float


def seen_of(size: tuple[int, int], encoder: Encoder) -> Box:
    """Return which part of an image of that (width, height) the model's pixels show.

    How a model resizes and crops is known to its `prepare` alone. So it is given an image of the
    same shape whose red grows from left to right and whose green grows from top to bottom, and what
    comes out tells where it came from.
    """
    # Twice the model's size: enough for a fine scale, however small or large the image is.
    scale = 2 * max(encoder.image_size) / min(size)
    width, height = (round(side * scale) for side in size)
    ramps = np.full((height, width, 3), 255, dtype=np.uint8)
    ramps[..., 0] = _ramp(width)[None, :]
    ramps[..., 1] = _ramp(height)[:, None]
    red, green, blue = encoder.prepare(Image.fromarray(ramps)).astype(np.float64)
    # The border of `--fit pad` is of another colour than full blue.
    inside = blue > 250
    left, right = _ends(red[inside.any(axis=1)].mean(axis=0), inside.any(axis=0))
    top, bottom = _ends(green[:, inside.any(axis=0)].mean(axis=1), inside.any(axis=1))
    return Box(left, top, right, bottom)


def _ramp(length: int) -> Float64:
    """Return (length,) values from 0 to 255, each for the middle of its pixel."""
    values: Float64 = np.round(255 * (np.arange(length) + 0.5) / length)
    return values


def _ends(values: Float64, inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Return what a line through the (length,) values says at both ends, as shares of 255."""
    places = np.flatnonzero(inside)
    places = places[_EDGE:-_EDGE] if len(places) > 4 * _EDGE else places
    slope, start = np.polyfit(places + 0.5, values[places] / 255, 1)
    return round(float(start), 3) + 0.0, round(float(start + slope * len(values)), 3) + 0.0
