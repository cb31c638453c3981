"""Images that the tests of decoding are made with."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 60, 40

LEFT, RIGHT = (200, 30, 40), (20, 60, 210)


def two_tone(mode: str = "RGB") -> Image.Image:
    """A picture that is red on its left half and blue on its right half."""
    image = Image.new("RGB", (WIDTH, HEIGHT), LEFT)
    image.paste(RIGHT, (WIDTH // 2, 0, WIDTH, HEIGHT))
    return image.quantize(2) if mode == "P" else image.convert(mode)


def noise() -> Image.Image:
    """A picture that does not compress, so that a cut file has lost pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
