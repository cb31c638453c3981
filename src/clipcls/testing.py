"""What tests need without a model: ours, and those of people who build on clipcls.

`FakeEncoder` answers in microseconds and is deterministic; its meaning is colour: an image of one
colour is nearest to the text that names this colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 60, 220),
    "yellow": (230, 220, 40),
    "black": (8, 8, 8),
    "white": (247, 247, 247),
}


class FakeEncoder:
    """An `Encoder` that knows colours.

    An embedding is the mean colour, shifted by mid-grey and normalised: (3,) plus one constant
    dimension. A text's embedding is that of the first colour it names; a text without a colour
    gets a seeded random direction of its own.
    """

    def __init__(
        self,
        *,
        logit_scale: float = 10.0,
        logit_bias: float = 0.0,
        image_size: tuple[int, int] = (8, 8),
        context_length: int = 77,
    ) -> None:
        self.name = "fake"
        self.dim = 4
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias
        self.image_size = image_size
        self.context_length = context_length
        self.fingerprint = f"fake-{logit_scale}-{logit_bias}-{image_size}"
        self.batch_sizes: list[int] = []

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the (3, H, W) uint8 pixels of an upright RGB image."""
        height, width = self.image_size
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, 4) float32 unit vectors of (B, 3, H, W) uint8 pixels."""
        self.batch_sizes.append(len(batch))
        return _unit(batch.astype(np.float64).mean(axis=(2, 3)))

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, 4) float32 unit vectors."""
        return np.stack([self._text(prompt) for prompt in prompts])

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return the number of words of each prompt, plus two as begin and end."""
        return [len(prompt.split()) + 2 for prompt in prompts]

    def _text(self, prompt: str) -> NDArray[np.float32]:
        for name, colour in COLOURS.items():
            if name in prompt.lower():
                return _unit(np.array([colour], dtype=np.float64)).ravel()
        seed = int.from_bytes(prompt.encode()[:8].ljust(8, b"\0"), "little")
        return _unit(np.random.default_rng(seed).uniform(0, 255, (1, 3))).ravel()


def _unit(colours: NDArray[np.float64]) -> NDArray[np.float32]:
    vectors = np.concatenate([colours / 127.5 - 1.0, np.full((len(colours), 1), 0.2)], axis=1)
    units: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units.astype(np.float32)


def colour_image(colour: str, size: tuple[int, int] = (32, 24)) -> Image.Image:
    """Return a (width, height) RGB image filled with one of `COLOURS`."""
    return Image.new("RGB", size, COLOURS[colour])


def save_colours(folder: Path, colours: Sequence[str], extension: str = ".png") -> list[Path]:
    """Write one image per colour as `<number>-<colour><extension>` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}-{colour}{extension}" for i, colour in enumerate(colours)]
    for path, colour in zip(paths, colours, strict=True):
        colour_image(colour).save(path)
    return paths
