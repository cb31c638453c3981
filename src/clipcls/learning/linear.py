"""What every head is: a linear function of the embedding, a logit per label.

Shapes: N images, C labels, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

from clipcls.evaluation.bootstrap import Floats


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear classifier.

    Attributes:
        weights: (C, D) float64.
        biases: (C,) float64.
    """

    weights: Floats
    biases: Floats

    def __call__(self, embeddings: Floats) -> Floats:
        """Return the (N, C) logits of (N, D) embeddings."""
        logits: Floats = embeddings @ self.weights.T + self.biases
        return logits

    def __add__(self, other: Linear) -> Linear:
        """Return the classifier whose logits are the sums of both."""
        return Linear(self.weights + other.weights, self.biases + other.biases)

    def __mul__(self, factor: float) -> Linear:
        """Return the classifier whose logits are `factor` times as large."""
        return Linear(self.weights * factor, self.biases * factor)
