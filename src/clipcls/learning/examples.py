"""Labelled embeddings, and how they are cut into folds.

Shapes: N images, C labels, D dimensions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np

from clipcls.evaluation.bootstrap import Bools, Floats, Ints
from clipcls.learning.linear import Linear


@dataclass(frozen=True, eq=False)
class Examples:
    """What a head is learned from.

    Attributes:
        embeddings: (N, D) float64, L2-normalised.
        truth: (N,) int64, places of the C labels.
        zero_shot: The classifier to begin with, with the mean of its labels taken off, so that
            zeros are neither for nor against a label; zeros for a label without prompts.
        prompted: (C,) bool, whether a label has prompts.
        groups: (N,) int64, images that belong together; None where each is on its own.
        counts: (N,) bool, whether figures may be made of an image; None where of all.
    """

    embeddings: Floats
    truth: Ints
    zero_shot: Linear
    prompted: Bools
    groups: Ints | None = None
    counts: Bools | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, mask: Bools) -> Examples:
        """Return the examples where the (N,) mask is true."""
        return replace(
            self,
            embeddings=self.embeddings[mask],
            truth=self.truth[mask],
            groups=None if self.groups is None else self.groups[mask],
            counts=None if self.counts is None else self.counts[mask],
        )

    @property
    def counted(self) -> Bools:
        """(N,) bool, whether figures may be made of an image."""
        return np.ones(len(self), dtype=bool) if self.counts is None else self.counts

    @property
    def zero_shot_logits(self) -> Floats:
        """(N, C) logits of the zero-shot classifier, which never takes a label without prompts."""
        return np.where(self.prompted, self.zero_shot(self.embeddings), -np.inf)

    @property
    def labels(self) -> int:
        """C."""
        return len(self.zero_shot.biases)

    @property
    def per_label(self) -> Ints:
        """(C,) how many examples each label has."""
        return np.bincount(self.truth, minlength=self.labels)


def folds(examples: Examples, most: int, seed: int) -> Ints:
    """Return (N,) the fold of each image: each label spread evenly, no group in two folds.

    Args:
        examples: What is cut.
        most: Number of folds, unless there are fewer examples of every label, or fewer groups.
        seed: Of the shuffling.

    Returns:
        The folds; all in one where nothing can be cut.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    units = len(examples) if examples.groups is None else len(np.unique(examples.groups))
    count = min(most, int(examples.per_label.max()), units)
    found = np.zeros(len(examples), dtype=np.int64)
    if count < 2:
        return found
    kind = StratifiedKFold if examples.groups is None else StratifiedGroupKFold
    cut = kind(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A label with fewer examples than folds is missing in some of them, which is no harm.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splits = list(cut.split(examples.embeddings, examples.truth, examples.groups))
    for number, (_, held) in enumerate(splits):
        found[held] = number
    return found
