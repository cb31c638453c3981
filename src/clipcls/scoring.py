"""The maths between embeddings and predictions: pure functions over numpy arrays.

Shapes: B pictures, C labels, N prompts, D embedding dimensions. Sums run in float64, because a
softmax over a thousand labels in float32 would already move the sixth decimal that is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcls.errors import LabelError
from clipcls.options import ScoringOptions
from clipcls.records import UNKNOWN

Float32 = NDArray[np.float32]


def class_matrix(text_embeddings: Float32, prompts_per_label: Sequence[int]) -> Float32:
    """Average each label's prompt embeddings and normalise the mean.

    This is the prompt ensemble of the CLIP paper (arXiv:2103.00020, section 3.1.4): the mean is
    taken over unit vectors and made a unit vector again.

    Args:
        text_embeddings: (N, D) float32, L2-normalised, label by label.
        prompts_per_label: C positive counts that add up to N.

    Returns:
        (C, D) float32, L2-normalised.
    """
    starts = np.cumsum([0, *prompts_per_label[:-1]])
    counts = np.asarray(prompts_per_label, dtype=np.float64)[:, None]
    means = np.add.reduceat(text_embeddings.astype(np.float64), starts, axis=0) / counts
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    classes: NDArray[np.float64] = means / np.maximum(norms, 1e-12)
    return classes.astype(np.float32)


def cosine_similarities(image_embeddings: Float32, classes: Float32) -> Float32:
    """Return (B, C) float32 cosines of (B, D) and (C, D) unit vectors."""
    similarities: Float32 = image_embeddings @ classes.T
    return similarities


def softmax(logits: Float32) -> Float32:
    """Return (B, C) float32 probabilities that add up to 1 in each row."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials.astype(np.float32)


def sigmoid(logits: Float32) -> Float32:
    """Return (B, C) float32 probabilities, each label on its own."""
    # tanh never overflows, unlike 1 / (1 + exp(-x)).
    return (0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def check_labels_fit(labels: Sequence[str], options: ScoringOptions) -> None:
    """Refuse labels that the options make no sense with.

    Raises:
        LabelError: A label named `unknown` beside rejected pictures, or a margin with one label.
    """
    if options.can_reject and UNKNOWN in labels:
        raise LabelError(
            f"the label '{UNKNOWN}' could not be told from a rejected picture when --threshold or"
            f" --margin is given: rename it (other={UNKNOWN} keeps its prompt)"
        )
    if options.margin is not None and len(labels) < 2:
        raise LabelError("--margin compares two labels and there is one: add a label")


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The scores of one batch.

    Attributes:
        labels: The C labels.
        similarities: (B, C) float32 cosines.
        logits: (B, C) float32.
        probabilities: (B, C) float32.
        predictions: B labels, `unknown` among them where a threshold says so, and None where the
            model gave no finite numbers.
    """

    labels: tuple[str, ...]
    similarities: Float32
    logits: Float32
    probabilities: Float32
    predictions: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Turns image embeddings into scores.

    Attributes:
        labels: The C labels.
        classes: (C, D) float32 class embeddings, L2-normalised.
        scale: The model's own logit scale, already exponentiated; never a constant 100.
        bias: The model's own logit bias (SigLIP), 0 where it has none.
        options: Softmax or sigmoid, threshold and margin.
    """

    labels: tuple[str, ...]
    classes: Float32
    scale: float
    bias: float
    options: ScoringOptions

    def __call__(self, image_embeddings: Float32) -> Scores:
        """Score (B, D) float32 unit vectors."""
        similarities = cosine_similarities(image_embeddings, self.classes)
        logits = (similarities * np.float32(self.scale) + np.float32(self.bias)).astype(np.float32)
        probabilities = sigmoid(logits) if self.options.multi_label else softmax(logits)
        predictions = tuple(self._decide(row) for row in probabilities)
        return Scores(self.labels, similarities, logits, probabilities, predictions)

    def _decide(self, probabilities: Float32) -> str | None:
        # argmax would call the first NaN the best label, and no threshold is above a NaN.
        if not np.isfinite(probabilities).all():
            return None
        best = int(probabilities.argmax())
        top = float(probabilities[best])
        threshold, margin = self.options.threshold, self.options.margin
        if threshold is not None and top < threshold:
            return UNKNOWN
        if margin is not None and len(probabilities) > 1:
            second = float(np.partition(probabilities, -2)[-2])
            if top - second < margin:
                return UNKNOWN
        return self.labels[best]
