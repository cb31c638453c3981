"""An encoder that is loaded when it is needed, and not at all for what is in the cache."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from clipcls.cache import Shelf

if TYPE_CHECKING:
    from PIL import Image

    from clipcls.models.base import Encoder, Preparer

_FACTS = ("name", "fingerprint", "dim", "logit_scale", "logit_bias", "image_size", "context_length")

Load = Callable[[Callable[["Preparer"], None]], "Encoder"]
"""Loads a model; what it is given is to be told of the preparation, once that is known."""

_loading_threads: WeakSet[Thread] = WeakSet()


@atexit.register
def _finish_loading() -> None:
    """Wait for the models that are being loaded: Python aborts if it ends below torch's code."""
    for thread in list(_loading_threads):
        thread.join()


def leave_loading() -> None:
    """Let the process end while a model is loaded, in a program that ends by `os._exit`."""
    atexit.unregister(_finish_loading)


class LazyEncoder:
    """An `Encoder` that knows its facts and its prompts from the cache; safe in any thread.

    While the weights are read, images can be prepared already.

    Args:
        load: Loads the model; called once at most.
        shelf: Where its facts and prompts are kept; None without a cache.
        precision: Of the model, to be kept with its facts.
    """

    name: str
    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float
    image_size: tuple[int, int]
    context_length: int

    def __init__(self, load: Load, shelf: Shelf | None, precision: str) -> None:
        self._load = load
        self._shelf = shelf
        self._precision = precision
        self._lock = Lock()
        self._loading: tuple[Future[Preparer], Future[Encoder]] | None = None
        facts = shelf.cache.facts(shelf.key) or {} if shelf else {}
        self._facts: dict[str, Any] = facts if set(_FACTS) <= set(facts) else {}

    @property
    def encoder(self) -> Encoder:
        """The model, loaded when it is first asked for."""
        return self._started()[1].result()

    def _started(self) -> tuple[Future[Preparer], Future[Encoder]]:
        """Load the model in a thread, so that whoever asks first does not wait for the weights."""
        with self._lock:
            if self._loading is None:
                self._loading = Future(), Future()
                # A daemon, because who interrupts the program does not want to wait for it.
                thread = Thread(
                    target=self._run, args=self._loading, name="load-model", daemon=True
                )
                _loading_threads.add(thread)
                thread.start()
            return self._loading

    def _run(self, preparer: Future[Preparer], encoder: Future[Encoder]) -> None:
        try:
            loaded = self._load(preparer.set_result)
            self._facts = {name: getattr(loaded, name) for name in _FACTS}
            if self._shelf is not None:
                kept = {**self._facts, "precision": self._precision}
                self._shelf.cache.keep_facts(self._shelf.key, kept)
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            encoder.set_exception(error)
            if not preparer.done():
                preparer.set_exception(error)
        else:
            encoder.set_result(loaded)
            if not preparer.done():
                preparer.set_result(loaded)

    def __getattr__(self, name: str) -> Any:
        """Return one of the facts, from the cache if it is there."""
        if name not in _FACTS:
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        if self._facts:
            value = self._facts[name]
        else:
            known_early = name == "image_size"
            value = getattr(self._started()[0].result() if known_early else self.encoder, name)
        # JSON knows no tuples.
        return tuple(value) if isinstance(value, list) else value

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Bring an upright RGB image to (3, H, W) uint8."""
        return self._started()[0].result().prepare(image)

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
        unique = list(dict.fromkeys(prompts))
        known = self._shelf.cache.texts(self._shelf.key, unique) if self._shelf else {}
        if missing := [prompt for prompt in unique if prompt not in known]:
            vectors = self.encoder.encode_texts(missing)
            tokens = self.encoder.count_tokens(missing)
            known |= dict(zip(missing, zip(vectors, tokens, strict=True), strict=True))
            # What is not finite is an error that another precision may mend.
            if self._shelf is not None and np.isfinite(vectors).all():
                self._shelf.cache.keep_texts(self._shelf.key, missing, vectors, tokens)
        return known
