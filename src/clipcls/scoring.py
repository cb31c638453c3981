"""The maths between embeddings and predictions: pure functions over numpy arrays.

Shapes: B images, C labels, N prompts, D embedding dimensions. Sums run in float64, because a
softmax over a thousand labels in float32 would already move the sixth decimal that is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcls.errors import LabelError
from clipcls.options import Calibration, ScoringOptions
from clipcls.records import UNKNOWN, Embedded, Failure, Prediction, Record

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


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
    classes: Float64 = means / np.maximum(norms, 1e-12)
    return classes.astype(np.float32)


def softmax(logits: NDArray[np.floating]) -> Float64:
    """Return probabilities of (..., C) logits that add up to 1 along the last axis."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    exponentials: Float64 = np.exp(shifted)
    exponentials /= exponentials.sum(axis=-1, keepdims=True)
    return exponentials


def sigmoid(logits: Float32) -> Float64:
    """Return probabilities of (..., C) logits, each label on its own."""
    # tanh never overflows, unlike 1 / (1 + exp(-x)).
    probabilities: Float64 = 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))
    return probabilities


def calibrated(logits: Float32, calibration: Calibration) -> Float32:
    """Return (..., C) logits divided by the temperature, with the biases added.

    Temperature scaling is that of Guo et al. 2017 (arXiv:1706.04599).
    """
    scaled = logits / np.float32(calibration.temperature)
    if calibration.biases:
        scaled = scaled + np.asarray(calibration.biases, dtype=np.float32)
    return scaled.astype(np.float32)


def unknown_share(labels: Float32, words: Float32, scale: float) -> float:
    """Return how much of the probability words take that compete with labels (0 to 1).

    The score of NegLabel (arXiv:2403.20078), a softmax over labels and words, with the words
    together weighing as much as the labels together. That changes no order of images, and makes 0.5
    the value of an image that is equally near to all of them, however many words there are.

    Args:
        labels: (C,) similarities of an image with the labels.
        words: (M,) similarities of it with the words.
        scale: The model's logit scale.
    """
    known, other = (scale * part.astype(np.float64) for part in (labels, words))
    highest = max(known.max(), other.max())
    weight = np.exp(other - highest).mean()
    return float(weight / (weight + np.exp(known - highest).mean()))


def check_labels_fit(labels: Sequence[str], options: ScoringOptions) -> None:
    """Refuse labels that the options make no sense with.

    Raises:
        LabelError: A label named `unknown` beside rejected images, or a margin with one label.
    """
    if options.can_reject and UNKNOWN in labels:
        raise LabelError(
            f"the label '{UNKNOWN}' could not be told from a rejected image when there is a"
            f" threshold, --margin or --unknown: rename it (other={UNKNOWN} keeps its prompt)"
        )
    if options.margin is not None and len(labels) < 2:
        raise LabelError("--margin compares two labels and there is one: add a label")


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Turns image embeddings into predictions.

    Attributes:
        labels: The C labels.
        classes: (C, D) float32 class embeddings, L2-normalised; or the weights of a head.
        scale: The model's own logit scale, already exponentiated; never a constant 100.
        bias: The model's own logit bias (SigLIP), 0 where it has none; or (C,) float32 of a head.
        options: Softmax or sigmoid, threshold and margin.
        words: (M, D) float32 embeddings of the words that compete with the labels, L2-normalised;
            None for none.
    """

    labels: tuple[str, ...]
    classes: Float32
    scale: float
    bias: float | Float32
    options: ScoringOptions
    words: Float32 | None = None

    def __call__(self, image: Embedded) -> Prediction:
        """Score one image; no other image takes part, so no batch size can change the result."""
        similarities: Float32 = self.classes @ image.embedding
        logits = (similarities * np.float32(self.scale) + self.bias).astype(np.float32)
        if self.options.calibration is not None:
            logits = calibrated(logits, self.options.calibration)
        probabilities = sigmoid(logits) if self.options.multi_label else softmax(logits)
        # Of the logits: float64 probabilities still saturate, and then many are the highest.
        best = int(logits.argmax())
        p_unknown = None
        if self.words is not None:
            p_unknown = unknown_share(similarities, self.words @ image.embedding, self.scale)
        rejected = self._is_rejected(probabilities, best, p_unknown)
        return Prediction(
            index=image.index,
            path=image.path,
            labels=self.labels,
            prediction=UNKNOWN if rejected else self.labels[best],
            probability=float(probabilities[best]),
            probabilities=probabilities,
            logits=logits,
            similarities=similarities,
            note=image.note,
            kept=image.kept,
            p_unknown=p_unknown,
        )

    def _is_rejected(self, probabilities: Float64, best: int, p_unknown: float | None) -> bool:
        threshold, margin = self.options.least_probability, self.options.margin
        if p_unknown is not None and p_unknown > self.options.most_unknown:
            return True
        if threshold is not None and probabilities[best] < threshold:
            return True
        if margin is None:
            return False
        second, first = np.partition(probabilities, -2)[-2:]
        return bool(first - second < margin)


def score(images: Iterable[Embedded | Failure], scorer: Scorer) -> Iterator[Record]:
    """Turn a stream of embeddings into one of predictions; failures pass as they are."""
    for image in images:
        yield image if isinstance(image, Failure) else scorer(image)
