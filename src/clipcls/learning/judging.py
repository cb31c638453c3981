"""Is a head better than zero-shot? Cross-validation on the same folds, paired, with an interval.

Whatever a method leaves open is chosen inside the training folds, so the held-out images have had
no say at all.

Shapes: N images, C labels, R repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from clipcls.evaluation.bootstrap import (
    RESAMPLES,
    Figure,
    Floats,
    Ints,
    bootstrap,
    interval,
)
from clipcls.evaluation.metrics import Scores, calibration_error
from clipcls.learning.examples import Examples, folds
from clipcls.learning.fitting import fit_head, meant
from clipcls.options import HeadMethod
from clipcls.scoring import softmax

FOLDS = 5
REPEATS, FEW_IMAGES = 3, 200
"""Below so many images, cross-validation is repeated so often with other folds."""

WIDER = float(np.sqrt(1 + FOLDS / (FOLDS - 1)))
"""How much wider the interval of a cross-validated figure is than that of as many new images: the
folds share most of their examples (Nadeau & Bengio 2003, "Inference for the generalization error").
"""


@dataclass(frozen=True)
class Judged:
    """A head beside zero-shot, on images that it did not learn from.

    Attributes:
        images: Number of images that the figures are made of.
        folds: Number of folds.
        repeats: How often they were drawn.
        zero_shot: Share of the images that the zero-shot classifier has right.
        head: The same of the head.
        difference: Head minus zero-shot, over the same images.
        log_loss: Of zero-shot and of the head.
        calibration_error: Likewise.
        right: (`images`,) float64, in which share of the repeats the head has an image right.
    """

    images: int
    folds: int
    repeats: int
    zero_shot: Figure
    head: Figure
    difference: Figure
    log_loss: tuple[float, float]
    calibration_error: tuple[float, float]
    right: Floats = field(repr=False, compare=False)

    @property
    def is_better(self) -> bool:
        """Whether the head is better beyond chance."""
        return self.difference.low > 0


def judge(examples: Examples, method: HeadMethod, seed: int = 0) -> Judged:
    """Judge a way to learn by cross-validation.

    Args:
        examples: Two of two labels at least.
        method: How heads are learned.
        seed: Of the folds.
    """
    # What is judged is what will be written, though a fold leaves fewer examples.
    chosen = meant(method, examples)
    logits, parts = cross_validated(
        examples, seed, lambda part, number: fit_head(part, chosen, number).logits
    )
    judges = examples.part(examples.counted)
    by_head = logits[:, examples.counted]
    sides = [np.broadcast_to(judges.zero_shot_logits, by_head.shape), by_head]
    right = [(side.argmax(axis=2) == judges.truth).mean(axis=0) for side in sides]
    scores = [_scores(side, judges.truth) for side in sides]
    found = paired(right[0], right[1], judges.groups)
    errors = [calibration_error(s)(np.ones((1, len(s))))["calibration_error"] for s in scores]
    return Judged(
        images=len(judges),
        folds=int(parts.max()) + 1,
        repeats=len(logits),
        zero_shot=found["zero_shot"],
        head=found["head"],
        difference=found["difference"],
        log_loss=(float(scores[0].log_losses.mean()), float(scores[1].log_losses.mean())),
        calibration_error=(float(errors[0][0]), float(errors[1][0])),
        right=right[1],
    )


def cross_validated(
    examples: Examples,
    seed: int,
    learned: Callable[[Examples, int], Callable[[Floats], Floats]],
) -> tuple[Floats, Ints]:
    """Return the logits of each image by what was learned without it.

    Args:
        examples: N of them.
        seed: Of the folds.
        learned: (examples, a number that differs from fold to fold) -> (N, D) -> (N, C).

    Returns:
        (R, N, C) float64, and (N,) the folds of the first repeat.
    """
    repeats = REPEATS if len(examples) < FEW_IMAGES else 1
    cuts = [folds(examples, FOLDS, seed + number) for number in range(repeats)]
    logits = np.zeros((repeats, len(examples), examples.labels))
    for repeat, parts in enumerate(cuts):
        for number in range(int(parts.max()) + 1):
            held = parts == number
            unlike = seed + repeat * FOLDS + number
            logits[repeat, held] = learned(examples.part(~held), unlike)(examples.embeddings[held])
    return logits, cuts[0]


def _scores(logits: Floats, truth: Ints) -> Scores:
    """Return the scores of all repeats, one after the other."""
    repeats, images, labels = logits.shape
    flat = logits.reshape(-1, labels)
    return Scores(
        labels=tuple(map(str, range(labels))),
        paths=("",) * len(flat),
        truth=np.tile(truth, repeats),
        predicted=flat.argmax(axis=1),
        probabilities=softmax(flat),
        ranks=flat,
    )


def paired(zero_shot: Floats, head: Floats, groups: Ints | None = None) -> dict[str, Figure]:
    """Return both shares and their difference, with intervals that hold for new images.

    Whole groups are drawn again, since images of one group are right or wrong together. So that a
    few images which agree are not taken for certainty, two more take part in the resamples: each
    classifier has one of them right that the other has wrong (after Agresti & Min 2005).

    Args:
        zero_shot: (N,) whether, or in which share of the repeats, an image is right.
        head: Likewise.
        groups: (N,) the group of each image; None where each is on its own.

    Returns:
        `zero_shot`, `head` and `difference`, which is head minus zero-shot.
    """
    ours = np.arange(len(head)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.r_[np.bincount(ours), 1, 1]
    sums = [np.r_[np.bincount(ours, weights=zero_shot), 1, 0]]
    sums += [np.r_[np.bincount(ours, weights=head), 0, 1]]
    table = np.column_stack([*sums, sums[1] - sums[0]])
    names = ("zero_shot", "head", "difference")

    def means(weights: Floats) -> dict[str, Floats]:
        values = weights @ table / (weights @ sizes)[:, None]
        return dict(zip(names, values.T, strict=True))

    drawn = bootstrap([means], len(sizes), RESAMPLES)
    values = (zero_shot.mean(), head.mean(), (head - zero_shot).mean())
    found = {}
    for name, value, least in zip(names, values, (0.0, 0.0, -1.0), strict=True):
        # Zero-shot has learned from none of the folds.
        wider = 1.0 if name == "zero_shot" else WIDER
        low, high = (value + wider * (end - value) for end in interval(drawn[name]))
        found[name] = Figure(float(value), max(float(low), least), min(float(high), 1.0))
    return found


def near_duplicates(embeddings: Floats, groups: Ints | None, least: float) -> list[tuple[int, int]]:
    """Return the pairs of images that are more alike than `least` and in no common group.

    Folds may separate such a pair, and then the head has seen what it is judged on.

    Args:
        embeddings: (N, D) float64, L2-normalised.
        groups: As in `Examples`.
        least: Cosine similarity.
    """
    pairs = []
    # In strips, since all cosines of ten thousand images are gigabytes.
    for start in range(0, len(embeddings), 512):
        cosines = embeddings[start : start + 512] @ embeddings.T
        for row, column in np.argwhere(cosines > least):
            first = start + int(row)
            if first < column and (groups is None or groups[first] != groups[column]):
                pairs.append((first, int(column)))
    return pairs
