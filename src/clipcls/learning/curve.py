"""How accuracy grows with the number of labels, so that a user knows whether more will pay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from clipcls.evaluation.bootstrap import Bools, Figure, Floats
from clipcls.learning.examples import Examples
from clipcls.learning.fitting import FEW, fit_head
from clipcls.learning.judging import Judged, counting, cross_validated, paired
from clipcls.options import HeadMethod

STEPS = (1, 2, 4, 8, FEW)
"""Examples of each label."""


@dataclass(frozen=True)
class Point:
    """A point of the curve.

    Attributes:
        examples: Of each label at most.
        accuracy: Of heads learned from so many.
        is_all: Whether these are all that there are, less the fold that judges.
    """

    examples: int
    accuracy: Figure
    is_all: bool = False


def learning_curve(
    examples: Examples, method: HeadMethod, judged: Judged, seed: int = 0
) -> Iterator[Point]:
    """Yield the accuracy of heads learned from 1, 2, 4, 8, 16 and all examples of each label.

    All are judged on the same folds as the head itself; of the examples outside a fold, so many of
    each label are drawn by chance. A label with fewer takes part with those it has.

    Args:
        examples: As for `judge`.
        method: How heads are learned; `auto` chooses by the number that was drawn.
        judged: What `judge` found with all of them.
        seed: As for `judge`.
    """
    most = int(examples.per_label.max() * (judged.folds - 1) / judged.folds)
    counted = counting(examples)
    truth = examples.truth[counted]
    groups = None if examples.groups is None else examples.groups[counted]
    before = (examples.zero_shot_logits[counted].argmax(axis=1) == truth).astype(np.float64)
    for step in STEPS:
        if step >= most:
            break

        def learned(part: Examples, number: int, step: int = step) -> Callable[[Floats], Floats]:
            return fit_head(part.part(_drawn(part, step, number)), method, number).logits

        logits, _ = cross_validated(examples, seed, learned)
        right = (logits[:, counted].argmax(axis=2) == truth).mean(axis=0)
        yield Point(step, paired(before, right, groups)["head"])
    yield Point(most, judged.head, is_all=True)


def _drawn(examples: Examples, count: int, seed: int) -> Bools:
    """Return (N,) bool: `count` examples of each label, by chance."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(len(examples), dtype=bool)
    for label in np.unique(examples.truth):
        drawn[rng.permutation(np.flatnonzero(examples.truth == label))[:count]] = True
    return drawn
