"""What the stages need of a model, whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class Preparer(Protocol):
    """From an image to the pixels that a model takes."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the model takes."""

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Bring an upright RGB image to (3, H, W) uint8; safe in any thread."""
        ...


class Encoder(Protocol):
    """Images and prompts in, L2-normalised embeddings out.

    Attributes:
        name: The model's name, for the user and the manifest.
        fingerprint: Hex digest of whatever changes an embedding.
        dim: Length D of an embedding.
        logit_scale: What a cosine similarity is multiplied by, already exponentiated.
        logit_bias: What is added then; 0.0 where the model has none.
        image_size: (height, width) in pixels that the model takes.
        context_length: Tokens that the text tower takes, begin and end included.
    """

    name: str
    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float
    image_size: tuple[int, int]
    context_length: int

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Bring an upright RGB image to (3, H, W) uint8; safe in any thread."""
        ...

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (B, 3, H, W) uint8 as (B, D) float32, L2-normalised."""
        ...

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N prompts as (N, D) float32, L2-normalised."""
        ...

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens each prompt has, begin and end included and nothing cut."""
        ...
