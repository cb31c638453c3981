"""An encoder that is loaded only for what is not in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipcls.cache import Shelf

if TYPE_CHECKING:
    from PIL import Image

    from clipcls.models.base import Encoder

_FACTS = ("name", "fingerprint", "dim", "logit_scale", "logit_bias", "image_size", "context_length")


class LazyEncoder:
    """An `Encoder` that knows its facts and its prompts from the cache; safe in any thread.

    Args:
        load: Loads the model; called once at most.
        shelf: Where its facts and prompts are kept.
        precision: Of the model, to be kept with its facts.
    """

    name: str
    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float
    image_size: tuple[int, int]
    context_length: int

    def __init__(self, load: Callable[[], Encoder], shelf: Shelf, precision: str) -> None:
        self._load = load
        self._shelf = shelf
        self._precision = precision
        self._lock = Lock()
        self._loaded: Encoder | None = None
        facts = shelf.cache.facts(shelf.key) or {}
        self._facts: dict[str, Any] = facts if set(_FACTS) <= set(facts) else {}

    @property
    def encoder(self) -> Encoder:
        """The model, loaded when it is first asked for."""
        with self._lock:
            if self._loaded is None:
                loaded = self._load()
                self._facts = {name: getattr(loaded, name) for name in _FACTS}
                kept = {**self._facts, "precision": self._precision}
                self._shelf.cache.keep_facts(self._shelf.key, kept)
                self._loaded = loaded
            return self._loaded

    def __getattr__(self, name: str) -> Any:
        """Return one of the facts, from the cache if it is there."""
        if name not in _FACTS:
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        value = self._facts[name] if self._facts else getattr(self.encoder, name)
        # JSON knows no tuples.
        return tuple(value) if isinstance(value, list) else value

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Bring an upright RGB image to (3, H, W) uint8."""
        return self.encoder.prepare(image)

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (B, 3, H, W) uint8 as (B, D) float32, L2-normalised."""
        return self.encoder.encode_images(batch)

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N prompts as (N, D) float32, L2-normalised; only those that are not known."""
        vectors = {prompt: vector for prompt, (vector, _) in self._texts(prompts).items()}
        return np.stack([vectors[prompt] for prompt in prompts])

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens each prompt has, begin and end included and nothing cut."""
        known = self._texts(prompts)
        return [known[prompt][1] for prompt in prompts]

    def _texts(self, prompts: Sequence[str]) -> dict[str, tuple[NDArray[np.float32], int]]:
        cache, key = self._shelf
        unique = list(dict.fromkeys(prompts))
        known = cache.texts(key, unique)
        if missing := [prompt for prompt in unique if prompt not in known]:
            vectors = self.encoder.encode_texts(missing)
            tokens = self.encoder.count_tokens(missing)
            known |= dict(zip(missing, zip(vectors, tokens, strict=True), strict=True))
            # What is not finite is an error that another precision may mend.
            if np.isfinite(vectors).all():
                cache.keep_texts(key, missing, vectors, tokens)
        return known
