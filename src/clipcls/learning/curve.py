"""How accuracy grows with the number of labels, so that a user knows whether more will pay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from clipcls.evaluation.bootstrap import Bools, Figure, Floats
from clipcls.learning.examples import Examples
from clipcls.learning.fitting import fit_head
from clipcls.learning.judging import Judged, cross_validated, paired
from clipcls.options import HeadMethod

_EXAMPLES = (1, 2, 4, 8, 16)

FLAT = 0.02
"""Where twice the examples bring less accuracy than this for sure, more will hardly pay."""


@dataclass(frozen=True)
class Point:
    """A point of the curve.

    Attributes:
        examples: Of each label at most.
        accuracy: Of heads learned from so many.
        gain: Over half as many, on the same images; of the last point alone.
    """

    examples: int
    accuracy: Figure
    gain: Figure | None = None


def learning_curve(
    examples: Examples, method: HeadMethod, judged: Judged, seed: int = 0
) -> Iterator[Point]:
    """Yield the accuracy of heads learned from ever more of the examples, at last from all.

    All are judged on the same folds as the head itself; of the examples outside a fold, so many of
    each label are drawn by chance. A label with fewer takes part with those it has.

    Args:
        examples: As for `judge`.
        method: How heads are learned; `auto` chooses by the number that was drawn.
        judged: What `judge` found with all of them.
        seed: As for `judge`.
    """
    most = int(examples.per_label.max() * (judged.folds - 1) / judged.folds)
    judges = examples.part(examples.counted)
    zero_shot = (judges.zero_shot_logits.argmax(axis=1) == judges.truth).astype(np.float64)
    half: Floats | None = None
    for size in sorted({*_EXAMPLES, most // 2, most} & set(range(1, most + 1))):

        def learned(part: Examples, number: int, size: int = size) -> Callable[[Floats], Floats]:
            return fit_head(part.part(_drawn(part, size, number)), method, number).logits

        right = judged.right
        if size < most:
            logits, _ = cross_validated(examples, seed, learned)
            right = (logits[:, examples.counted].argmax(axis=2) == judges.truth).mean(axis=0)
        if size == most // 2:
            half = right
        accuracy = paired(zero_shot, right, judges.groups)["head"]
        gain = None
        if size == most and half is not None:
            gain = paired(half, right, judges.groups)["difference"]
        yield Point(size, accuracy, gain)


def _drawn(examples: Examples, count: int, seed: int) -> Bools:
    """Return (N,) bool: `count` examples of each label, by chance."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(len(examples), dtype=bool)
    for label in np.unique(examples.truth):
        drawn[rng.permutation(np.flatnonzero(examples.truth == label))[:count]] = True
    return drawn
