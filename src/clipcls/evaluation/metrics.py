"""Scores against truth: the figures, each with what is known about its error.

scikit-learn computes the figures. For their intervals each also exists as a function of weights
(see `clipcls.evaluation.bootstrap`); the tests hold the two together.

Shapes: N images, C labels, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcls.evaluation.bootstrap import (
    RESAMPLES,
    Bools,
    Figure,
    Floats,
    Ints,
    Weighted,
    bootstrap,
    counted,
    figure_of,
    grouping,
    mean_over,
    means_of,
    ranking_figures,
)

SCHEMA = 1
"""Version of the layout of `metrics.json`."""

BINS = 15
"""Bins of the calibration error, of equal width: those of Guo et al. 2017 (arXiv:1706.04599)."""

_MOST_WORK = 1e8
"""Resamples x images x labels for the ranking figures; beyond, fewer resamples are drawn."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scored images with their truth, one label each.

    Attributes:
        labels: The C labels.
        paths: The N images.
        truth: (N,) int64, places in `labels`.
        predicted: (N,) int64, places in `labels`; C stands for `unknown`.
        probabilities: (N, C) float64, NaN where unknown (an output of `--top-k`).
        ranks: (N, C) float64, what ranks the labels: logits, or probabilities where none are known.
        resolution: The probabilities are known to about so much (a CSV has six decimals).
        turned_down: (N,) bool, which images are `unknown` whatever the threshold; None for none.
    """

    labels: tuple[str, ...]
    paths: tuple[str, ...]
    truth: Ints
    predicted: Ints
    probabilities: Floats
    ranks: Floats
    resolution: float = 1e-15
    turned_down: Bools | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, mask: Bools) -> Scores:
        """Return the scores of the images where the (N,) mask is true."""
        return Scores(
            labels=self.labels,
            paths=tuple(path for path, wanted in zip(self.paths, mask, strict=True) if wanted),
            truth=self.truth[mask],
            predicted=self.predicted[mask],
            probabilities=self.probabilities[mask],
            ranks=self.ranks[mask],
            resolution=self.resolution,
            turned_down=None if self.turned_down is None else self.turned_down[mask],
        )

    @cached_property
    def correct(self) -> Bools:
        """(N,) whether the prediction is the truth."""
        return np.equal(self.predicted, self.truth)

    @cached_property
    def best_is_right(self) -> Bools:
        """(N,) whether the label that ranks highest is the truth, also of an `unknown` image."""
        right: Bools = self.ranks.argmax(axis=1) == self.truth
        return right

    @cached_property
    def place(self) -> Ints:
        """(N,) how many labels rank above the truth; of equal ones the first ranks higher."""
        own = np.take_along_axis(self.ranks, self.truth[:, None], axis=1)
        earlier = np.arange(len(self.labels)) < self.truth[:, None]
        above: Bools = (self.ranks > own) | ((self.ranks == own) & earlier)
        places: Ints = above.sum(axis=1)
        return places

    @cached_property
    def confidence(self) -> Floats:
        """(N,) the probability of the label that ranks highest."""
        best = self.ranks.argmax(axis=1)[:, None]
        return np.take_along_axis(self.probabilities, best, axis=1).ravel()

    @cached_property
    def depth(self) -> int:
        """How many labels of each image have a known rank."""
        return int((~np.isnan(self.probabilities)).sum(axis=1).min())

    @cached_property
    def onehot(self) -> Bools:
        """(N, C) whether the label is the truth."""
        return np.equal(self.truth[:, None], np.arange(len(self.labels)))

    @cached_property
    def log_losses(self) -> Floats:
        """(N,) minus the logarithm of the truth's probability."""
        own = np.take_along_axis(self.probabilities, self.truth[:, None], axis=1).ravel()
        return -np.log(np.maximum(own, self.resolution))

    @cached_property
    def brier_scores(self) -> Floats:
        """(N,) squared distance to the truth, halved for two labels as is the custom."""
        squares: Floats = ((self.probabilities - self.onehot) ** 2).sum(axis=1)
        return squares / 2 if len(self.labels) == 2 else squares

    @cached_property
    def bins(self) -> Ints:
        """(N,) the calibration bin of each image."""
        return np.minimum((self.confidence * BINS).astype(np.int64), BINS - 1)


def _confusion_figures(scores: Scores) -> Weighted:
    """Balanced accuracy, macro F1 and Cohen's kappa as a function of weights."""
    labels = len(scores.labels)
    by_truth = grouping(scores.truth, labels)
    by_prediction = grouping(scores.predicted, labels + 1)

    def figures(weights: Floats) -> dict[str, Floats]:
        hits, support = by_truth(weights * scores.correct), by_truth(weights)
        predicted = by_prediction(weights)[:, :labels]
        total = weights.sum(axis=1)
        chance = (support * predicted).sum(axis=1) / total**2
        return {
            "balanced_accuracy": mean_over(hits / support, support > 0),
            "f1_macro": mean_over(2 * hits / (support + predicted), support > 0),
            "cohen_kappa": (hits.sum(axis=1) / total - chance) / (1 - chance),
        }

    return figures


# --- one label to an image ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Metrics:
    """Everything that is known about how good the scores are, ready for JSON.

    Attributes:
        images: Number of scored images.
        headline: Name -> figure with its interval; without those that the scores cannot tell.
        per_class: One mapping per label, in order; None where there is nothing to say.
        averages: `macro` and `weighted` -> precision, recall, f1, over the classes with examples.
        confusion: (C, C + 1) int64, rows truth, columns prediction, the last one `unknown`; empty
            with several labels to an image.
        bins: Calibration, one mapping per bin; empty with several labels to an image.
        thresholds: Coverage and accuracy of what is kept, one mapping per threshold; likewise.
        resamples: B of the intervals (of the ranking figures, where fewer were drawn for them).
    """

    images: int
    headline: Mapping[str, Figure]
    per_class: tuple[Mapping[str, Any], ...]
    averages: Mapping[str, Mapping[str, float]]
    confusion: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    bins: tuple[Mapping[str, Any], ...] = ()
    thresholds: tuple[Mapping[str, Any], ...] = ()
    resamples: tuple[int, int] = (RESAMPLES, RESAMPLES)


def measure(scores: Scores) -> Metrics:
    """Return the figures of scores with one true label to each image.

    Raises:
        ValueError: There are no images.
    """
    from sklearn.metrics import cohen_kappa_score, confusion_matrix

    if not len(scores):
        raise ValueError("no image was scored")
    images, count = len(scores), len(scores.labels)
    classes = list(range(count + 1))
    confusion = confusion_matrix(scores.truth, scores.predicted, labels=classes)[:count]
    predicted = np.equal(scores.predicted[:, None], np.arange(count))
    per_class = _per_class(scores.labels, scores.onehot, predicted, scores.probabilities)
    averages = _averages(per_class)
    means: dict[str, NDArray[Any]] = {
        "accuracy": scores.correct,
        **{f"top_{k}_accuracy": scores.place < k for k in (3, 5) if _says_something(scores, k)},
    }
    ranking = min(RESAMPLES, max(200, int(_MOST_WORK / (images * count))))
    losses = {"log_loss": scores.log_losses, "brier_score": scores.brier_scores}
    calibration = calibration_error(scores)
    functions = [means_of(means | losses), _confusion_figures(scores), calibration]
    drawn = bootstrap(functions, images, RESAMPLES)
    if scores.depth == count:
        by_rank = ranking_figures(scores.onehot, scores.probabilities)
        drawn |= bootstrap([by_rank], images, ranking)
    error = float(calibration(np.ones((1, images)))["calibration_error"][0])
    told_apart = len({*scores.truth.tolist(), *scores.predicted.tolist()}) > 1
    kappa = cohen_kappa_score(scores.truth, scores.predicted) if told_apart else float("nan")
    known = [row for row in per_class if row["support"]]
    points = {
        "balanced_accuracy": averages["macro"]["recall"],
        "f1_macro": averages["macro"]["f1"],
        "cohen_kappa": float(kappa),
        "roc_auc": _mean_known(row["roc_auc"] for row in known),
        "average_precision": _mean_known(row["average_precision"] for row in known),
        "log_loss": float(scores.log_losses.mean()),
        "brier_score": float(scores.brier_scores.mean()),
    }
    headline = {name: counted(int(v.sum()), images, drawn[name]) for name, v in means.items()}
    headline |= {
        name: figure_of(value, drawn[name]) for name, value in points.items() if not np.isnan(value)
    }
    headline["calibration_error"] = figure_of(error, drawn["calibration_error"], biased=True)
    return Metrics(
        images=images,
        headline=headline,
        per_class=per_class,
        averages=averages,
        confusion=confusion,
        bins=_bins(scores),
        thresholds=tuple(_thresholds(scores)),
        resamples=(RESAMPLES, ranking),
    )


def _says_something(scores: Scores, k: int) -> bool:
    """Whether a top-k figure does: with fewer than half of the labels, and their ranks known."""
    return 2 * k < len(scores.labels) and k <= scores.depth


def _mean_known(values: Iterator[float | None] | Any) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _per_class(
    labels: Sequence[str], truth: Bools, predicted: Bools, probabilities: Floats
) -> tuple[dict[str, Any], ...]:
    """Return one mapping per label of (N, C) truths and predictions, None for what is undefined."""
    from sklearn.metrics import precision_recall_fscore_support

    rows = []
    for i, label in enumerate(labels):
        true, taken = truth[:, i], predicted[:, i]
        precision, recall, f1, _ = precision_recall_fscore_support(
            true, taken, average="binary", zero_division=0.0
        )
        support = int(true.sum())
        rows.append(
            {
                "label": label,
                "support": support,
                "predicted": int(taken.sum()),
                "precision": float(precision) if taken.any() else None,
                "recall": float(recall) if support else None,
                "f1": float(f1) if support else None,
                **_ranking_points(true, probabilities[:, i]),
            }
        )
    return tuple(rows)


def _averages(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return macro and weighted means over the labels with examples.

    As in scikit-learn, the precision of a label that was never predicted counts as 0.
    """
    known = [row for row in rows if row["support"]]
    weights = {"macro": None, "weighted": [row["support"] for row in known]}
    return {
        name: {
            key: float(np.average([row[key] or 0.0 for row in known], weights=by))
            for key in ("precision", "recall", "f1")
        }
        for name, by in weights.items()
        if known
    }


def _ranking_points(truth: Bools, scores: Floats) -> dict[str, float | None]:
    """ROC-AUC and average precision of one label, None where the images cannot tell."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    some = bool(truth.any()) and not np.isnan(scores).any()
    return {
        "roc_auc": float(roc_auc_score(truth, scores)) if some and not truth.all() else None,
        "average_precision": float(average_precision_score(truth, scores)) if some else None,
    }


def calibration_error(scores: Scores) -> Weighted:
    """Expected calibration error: mean distance of confidence and accuracy over the bins."""
    in_bins = grouping(scores.bins, BINS)
    gaps = scores.best_is_right - scores.confidence

    def error(weights: Floats) -> dict[str, Floats]:
        totals = np.abs(in_bins(weights * gaps)).sum(axis=1)
        return {"calibration_error": totals / weights.sum(axis=1)}

    return error


def _bins(scores: Scores) -> tuple[dict[str, Any], ...]:
    rows = []
    for place in range(BINS):
        inside = scores.bins == place
        some = bool(inside.any())
        rows.append(
            {
                "low": place / BINS,
                "high": (place + 1) / BINS,
                "images": int(inside.sum()),
                "confidence": float(scores.confidence[inside].mean()) if some else None,
                "accuracy": float(scores.best_is_right[inside].mean()) if some else None,
            }
        )
    return tuple(rows)


def _thresholds(scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield coverage and accuracy at each threshold on the probability, from 0 to 1 by 0.01."""
    right = scores.best_is_right
    reaches = scores.confidence
    if scores.turned_down is not None:
        reaches = np.where(scores.turned_down, -np.inf, reaches)
    for step in range(101):
        kept = reaches >= step / 100
        yield {
            "threshold": step / 100,
            "coverage": float(kept.mean()),
            "accuracy": float(right[kept].mean()) if kept.any() else None,
        }


# --- several labels to an image -------------------------------------------------------------------


def measure_multi_label(
    labels: tuple[str, ...], truth: Bools, probabilities: Floats, threshold: float = 0.5
) -> Metrics:
    """Return the figures of scores with any number of true labels to each image.

    Args:
        labels: The C labels.
        truth: (N, C) bool.
        probabilities: (N, C) float64, each label on its own.
        threshold: A label is predicted from this probability on.

    Raises:
        ValueError: There are no images.
    """
    if not len(truth):
        raise ValueError("no image was scored")
    images = len(truth)
    predicted = probabilities >= threshold
    rows = tuple(
        row | _best_threshold(truth[:, i], probabilities[:, i])
        for i, row in enumerate(_per_class(labels, truth, predicted, probabilities))
    )
    hits = truth & predicted

    def f1_of(weights: Floats) -> dict[str, Floats]:
        found, support, taken = (weights @ part.astype(float) for part in (hits, truth, predicted))
        totals = support + taken
        return {
            "f1_micro": 2 * found.sum(axis=1) / totals.sum(axis=1),
            "f1_macro": mean_over(2 * found / totals, support > 0),
        }

    ranking = min(RESAMPLES, max(200, int(_MOST_WORK / (images * len(labels)))))
    drawn = bootstrap([f1_of], images, RESAMPLES)
    drawn |= bootstrap([ranking_figures(truth, probabilities)], images, ranking)
    known = [row for row in rows if row["support"]]
    named = int(truth.sum() + predicted.sum())
    points = {
        "mean_average_precision": _mean_known(row["average_precision"] for row in known),
        "roc_auc": _mean_known(row["roc_auc"] for row in known),
        "f1_micro": float(2 * hits.sum() / named) if named else float("nan"),
        "f1_macro": _mean_known(row["f1"] for row in known),
    }
    drawn["mean_average_precision"] = drawn.pop("average_precision")
    return Metrics(
        images=images,
        headline={
            name: figure_of(value, drawn[name])
            for name, value in points.items()
            if not np.isnan(value)
        },
        per_class=rows,
        averages=_averages(rows),
        resamples=(RESAMPLES, ranking),
    )


def _best_threshold(truth: Bools, scores: Floats) -> dict[str, float | None]:
    """The threshold with the highest F1 on these very images, and that F1."""
    from sklearn.metrics import precision_recall_curve

    if not truth.any():
        return {"best_threshold": None, "best_f1": None}
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    return {"best_threshold": float(thresholds[best]), "best_f1": float(f1[best])}
