"""A head: a linear classifier over the embeddings of one model, and the file that holds it.

The file is safetensors, which holds numbers and text and no code: the tensors `weights`, `biases`
and `examples`, and everything else as JSON in its header.

Shapes: C labels, D embedding dimensions, E examples that it was learned from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcls.errors import HeadError, LabelError
from clipcls.labels import make_labels
from clipcls.text import visible

VERSION = 1
"""Version of the layout of the file."""

_KEY = "clipcls_head"
_TENSORS = ("weights", "biases", "examples")

_BITS = 128
"""Bits of the sketch of an example."""
_MOST_UNLIKE = _BITS // 16
"""Two images whose sketches differ in no more bits are called the same. A bit differs with the
angle's share of a half circle, so this is a cosine similarity of 0.98. Of 150 photos by `mini`,
bfloat16 moves 6 bits at most, and any two of them differ in 27 at least."""

_NO_EXAMPLES: NDArray[np.uint8] = np.zeros((0, _BITS // 8), dtype=np.uint8)

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Head:
    """What takes the place of prompts: `logits = (weights @ embedding + biases) / temperature`.

    Attributes:
        labels: The C labels.
        prompts: The prompts of each label, from which it was learned on; none where it was learned
            from examples alone.
        weights: (C, D) float32.
        biases: (C,) float32.
        temperature: What logits are divided by.
        method: How it was learned: `gda`, `probe` or `zero-shot`.
        model: The name of the model whose embeddings it is for.
        model_fingerprint: The model's at `fp32`: a head does not depend on the precision.
        architecture: What `--arch` said of a model that is a weight file.
        figures: How good it is, ready for JSON.
        examples: (E, 16) uint8 sketches of the images that it was learned from; none where it has
            learned nothing.
    """

    labels: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    weights: Float32
    biases: Float32
    temperature: float
    method: str
    model: str
    model_fingerprint: str
    architecture: str | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    examples: NDArray[np.uint8] = field(default_factory=lambda: _NO_EXAMPLES)

    def learned_from(self, embedding: Float32) -> bool:
        """Whether an image of this (D,) embedding, or nearly the same one, was an example."""
        unlike = self._bits != np.unpackbits(sketches(embedding[None])[0])
        return bool((unlike.sum(axis=1) <= _MOST_UNLIKE).any())

    @cached_property
    def _bits(self) -> NDArray[np.uint8]:
        return np.unpackbits(self.examples, axis=1)

    @cached_property
    def digest(self) -> str:
        """A hex digest that is equal exactly when two heads are."""
        return sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        from safetensors.numpy import save

        header = {
            "version": VERSION,
            "prompts": dict(zip(self.labels, self.prompts, strict=True)),
            "method": self.method,
            "temperature": self.temperature,
            "model": {
                "name": self.model,
                "fingerprint": self.model_fingerprint,
                "architecture": self.architecture,
            },
            "figures": self.figures,
        }
        tensors = {
            name: np.ascontiguousarray(tensor)
            for name in _TENSORS
            if (tensor := getattr(self, name)).size
        }
        return save(tensors, {_KEY: json.dumps(header, ensure_ascii=False)})


def sketches(embeddings: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return (N, 16) uint8: on which side of 128 random planes each of (N, D) embeddings lies.

    Enough to know an image again, whatever its name, its format and the precision (Charikar 2002,
    "Similarity estimation techniques from rounding algorithms").
    """
    return np.packbits(embeddings @ _planes(embeddings.shape[1]) > 0, axis=1)


@cache
def _planes(dimensions: int) -> NDArray[np.float64]:
    # The old generator, whose numbers are the same in every version of numpy.
    return np.random.RandomState(0).standard_normal((dimensions, _BITS))


def read_head(path: Path) -> Head:
    """Read what `clipcls learn` wrote.

    Raises:
        HeadError: It cannot be read, or is no such file.
    """
    where = f"--head: {visible(str(path))}"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HeadError(f"{where} cannot be read: {error.strerror or error}") from error
    tensors, header = _content(data, where)
    if header.get("version") != VERSION:
        raise HeadError(f"{where} is no head of version {VERSION}: run clipcls learn again")
    try:
        head = _made(tensors, header)
        fault = _fault(head)
    except KeyError as error:
        fault = f"{error} is missing"
    except (AttributeError, LabelError, OverflowError, TypeError, ValueError) as error:
        fault = " ".join(str(error).split())
    if fault:
        raise HeadError(f"{where} is damaged: {fault}: run clipcls learn again")
    return head


def _content(data: bytes, where: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the JSON of a file.

    Raises:
        HeadError: It holds no such thing.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        # Which checks the header and that the tensors fill the rest.
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_KEY])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise HeadError(
            f"{where} is no head, or damaged: clipcls learn makes such files"
        ) from error
    if not isinstance(header, dict):
        raise HeadError(f"{where} is no head, or damaged: clipcls learn makes such files")
    return tensors, header


def _made(tensors: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> Head:
    model = header["model"]
    # The rules for labels are those of every other source of them.
    labels = make_labels(list(header["prompts"]))
    return Head(
        labels=tuple(label.name for label in labels),
        prompts=tuple(tuple(texts) for texts in header["prompts"].values()),
        weights=tensors["weights"],
        biases=tensors["biases"],
        temperature=float(header["temperature"]),
        method=header["method"],
        model=model["name"],
        model_fingerprint=model["fingerprint"],
        architecture=model["architecture"],
        figures=header["figures"],
        examples=tensors.get("examples", _NO_EXAMPLES),
    )


def _fault(head: Head) -> str:
    """Return what is wrong with a head, empty where nothing is."""
    labels = len(head.labels)
    if head.weights.ndim != 2 or len(head.weights) != labels or head.biases.shape != (labels,):
        return f"{labels} labels, weights {head.weights.shape} and biases {head.biases.shape}"
    if head.weights.dtype != np.float32 or head.biases.dtype != np.float32:
        return f"weights are {head.weights.dtype} and biases {head.biases.dtype}, not float32"
    if not (np.isfinite(head.weights).all() and np.isfinite(head.biases).all()):
        return "a weight or bias is no finite number"
    if head.examples.dtype != np.uint8 or head.examples.shape[1:] != _NO_EXAMPLES.shape[1:]:
        return f"its examples are {head.examples.dtype} {head.examples.shape}"
    if not (math.isfinite(head.temperature) and head.temperature > 0):
        return f"its temperature is {head.temperature}"
    texts = [head.method, head.model, head.model_fingerprint, head.architecture or ""]
    texts += [text for own in head.prompts for text in own]
    if not all(isinstance(text, str) for text in texts) or not isinstance(head.figures, dict):
        return "a text or the figures are something else"
    return ""
