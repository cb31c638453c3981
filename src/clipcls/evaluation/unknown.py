"""How well images of none of the labels are told from the others.

The figures of the field (arXiv:2403.20078): known images are the positives, ranked by how little
speaks for the unknown; the highest probability of a label is the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipcls.evaluation.bootstrap import (
    RESAMPLES,
    Bools,
    Figure,
    Floats,
    bootstrap,
    figure_of,
    ranking_figures,
    share_of,
)
from clipcls.records import UNKNOWN, Prediction

RECALL = 0.95
"""The share of the known images at which the false positives are counted."""


@dataclass(frozen=True)
class Told:
    """How well one score tells them.

    Attributes:
        roc_auc: The probability that a known image ranks above an unknown one.
        false_positive_rate: The share of the unknown images that is kept where 95 % of the known
            ones are.
    """

    roc_auc: Figure
    false_positive_rate: float


@dataclass(frozen=True)
class UnknownFigures:
    """How well all scores tell them.

    Attributes:
        known: Number of images of the labels.
        unknown: Number of images of none of them.
        told_by: Name of a score -> how well; `p_unknown`, where it was asked, and
            `maximum_probability`; empty without unknown images.
        unknown_found: The share of the unknown images that were predicted `unknown`; None without
            any.
        known_kept: The share of the known images that were not.
    """

    known: int
    unknown: int
    told_by: Mapping[str, Told]
    unknown_found: Figure | None
    known_kept: Figure


def is_unknown(values: tuple[str, ...], labels: Sequence[str]) -> bool:
    """Whether the truth of an image is that it is of none of the labels."""
    return values == (UNKNOWN,) and UNKNOWN not in labels


def measure_unknown(records: Sequence[Prediction], of_none: Bools) -> UnknownFigures:
    """Return the figures of N scored images.

    Args:
        records: The images, some of which are of a label.
        of_none: (N,) bool, which are of none of the labels.
    """
    some = bool(of_none.any())
    highest = np.array([record.probability for record in records])
    asked = all(record.p_unknown is not None for record in records)
    shares = np.array([record.p_unknown for record in records], dtype=np.float64)
    scores = {"p_unknown": -shares} if asked else {}
    scores["maximum_probability"] = highest
    rejected = np.array([record.prediction == UNKNOWN for record in records])
    return UnknownFigures(
        known=int((~of_none).sum()),
        unknown=int(of_none.sum()),
        told_by={name: _told(score, ~of_none) for name, score in scores.items() if some},
        unknown_found=share_of(rejected[of_none]) if some else None,
        known_kept=share_of(~rejected[~of_none]),
    )


def _told(scores: Floats, known: Bools) -> Told:
    from sklearn.metrics import roc_auc_score, roc_curve

    drawn = bootstrap([ranking_figures(known[:, None], scores[:, None])], len(scores), RESAMPLES)
    false, true, _ = roc_curve(known, scores, drop_intermediate=False)
    return Told(
        roc_auc=figure_of(float(roc_auc_score(known, scores)), drawn["roc_auc"]),
        false_positive_rate=float(false[np.argmax(true >= RECALL)]),
    )


def best_threshold(shares: Floats, of_none: Bools) -> float:
    """Return the threshold on `p_unknown` with the highest mean of both recalls (Youden 1950).

    Args:
        shares: (N,) `p_unknown`.
        of_none: (N,) bool, which images are of none of the labels: some are, some are not.
    """
    from sklearn.metrics import roc_curve

    false, true, limits = roc_curve(of_none, shares, drop_intermediate=False)
    best = int((true - false)[1:].argmax()) + 1
    # What is not above a threshold is kept, so it lies half way to the next lower value.
    below = limits[best + 1] if best + 1 < len(limits) else 0.0
    return float((limits[best] + below) / 2)
