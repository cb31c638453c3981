"""Labelled embeddings out of thin air, of classes whose places are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipcls.evaluation.bootstrap import Floats, Ints
from clipcls.learning.examples import Examples
from clipcls.learning.linear import Linear


@dataclass(frozen=True, eq=False)
class World:
    """Normal classes around known means, seen from the origin, and a zero-shot guess at them."""

    means: Floats
    zero_shot: Linear
    rng: np.random.Generator

    @classmethod
    def of(
        cls,
        seed: int,
        labels: int = 3,
        dimensions: int = 8,
        *,
        apart: float = 2.0,
        off: float = 1.0,
    ) -> World:
        """Make one; classes lie `apart`, and the zero-shot guess at each is `off` by so much."""
        rng = np.random.default_rng(seed)
        means = apart * unit(rng.normal(size=(labels, dimensions)))
        guess = unit(means + off * apart * rng.normal(size=means.shape) / np.sqrt(dimensions))
        weights = 10 * (guess - guess.mean(axis=0))
        return cls(means, Linear(weights, np.zeros(labels)), rng)

    def embeddings(self, truth: Ints) -> Floats:
        """Draw an image of each label."""
        noise = self.rng.normal(size=(len(truth), self.means.shape[1]))
        return unit(self.means[truth] + noise)

    def examples(self, images: int, *, shuffled: bool = False) -> Examples:
        """Draw examples, as many of each label; shuffled, their labels say nothing."""
        truth = np.arange(images) % len(self.means)
        embeddings = self.embeddings(truth)
        if shuffled:
            truth = self.rng.permutation(truth)
        return Examples(embeddings, truth, self.zero_shot, np.ones(len(self.means), dtype=bool))


def unit(vectors: Floats) -> Floats:
    norms: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / norms
