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


def check_labels_fit(labels: Sequence[str], options: ScoringOptions) -> None:
    """Refuse labels that the options make no sense with.

    Raises:
        LabelError: A label named `unknown` beside rejected images, or a margin with one label.
    """
    if options.can_reject and UNKNOWN in labels:
        raise LabelError(
            f"the label '{UNKNOWN}' could not be told from a rejected image when there is a"
            f" threshold or --margin: rename it (other={UNKNOWN} keeps its prompt)"
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
    """

    labels: tuple[str, ...]
    classes: Float32
    scale: float
    bias: float | Float32
    options: ScoringOptions

    def __call__(self, image: Embedded) -> Prediction:
        """Score one image; no other image takes part, so no batch size can change the result."""
        similarities: Float32 = self.classes @ image.embedding
        logits = (similarities * np.float32(self.scale) + self.bias).astype(np.float32)
        if self.options.calibration is not None:
            logits = calibrated(logits, self.options.calibration)
        probabilities = sigmoid(logits) if self.options.multi_label else softmax(logits)
        # Of the logits: float64 probabilities still saturate, and then many are the highest.
        best = int(logits.argmax())
        rejected = self._is_rejected(probabilities, best)
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
        )

    def _is_rejected(self, probabilities: Float64, best: int) -> bool:
        threshold, margin = self.options.least_probability, self.options.margin
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
