"""Scores against truth: the figures, each with what is known about its error.

scikit-learn computes the figures. Their 95 % intervals come from the bootstrap (images are drawn
again with replacement; Efron & Tibshirani 1993), for which each figure also exists as a function of
image weights, computed for many resamples at once; the tests hold the two together.

Shapes: N images, C labels, B resamples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Weighted = Callable[[Floats], dict[str, Floats]]
"""(B, N) weights, which are counts of draws -> name -> (B,) values."""

SCHEMA = 1
"""Version of the layout of `metrics.json`."""

RESAMPLES = 2000
BINS = 15
"""Bins of the calibration error, of equal width: those of Guo et al. 2017 (arXiv:1706.04599)."""

_MOST_WORK = 1e8
"""Resamples x images x labels for the ranking figures; beyond, fewer resamples are drawn."""
_CHUNK = 2_000_000
"""Weights in memory at once."""


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure.
        low: Lower end.
        high: Upper end.
        method: `bootstrap`, or `wilson` where every resample would be like the others (all right
            or all wrong), which the bootstrap takes for certainty.
    """

    value: float
    low: float
    high: float
    method: str = "bootstrap"


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
    """

    labels: tuple[str, ...]
    paths: tuple[str, ...]
    truth: Ints
    predicted: Ints
    probabilities: Floats
    ranks: Floats
    resolution: float = 1e-15

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def correct(self) -> Bools:
        """(N,) whether the prediction is the truth."""
        return np.equal(self.predicted, self.truth)

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


# --- the bootstrap --------------------------------------------------------------------------------


def resamples(images: int, count: int, seed: int = 0) -> Iterator[Floats]:
    """Yield (B, N) float64 weights, in chunks: how often each image is drawn in each resample."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // images)
    for start in range(0, count, size):
        rows = min(size, count - start)
        drawn = rng.integers(0, images, (rows, images)) + images * np.arange(rows)[:, None]
        yield (
            np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(float)
        )


def bootstrap(functions: Sequence[Weighted], images: int, count: int) -> dict[str, Floats]:
    """Return name -> (B,) values of all functions over the same resamples."""
    parts: dict[str, list[Floats]] = defaultdict(list)
    with np.errstate(invalid="ignore", divide="ignore"):
        for weights in resamples(images, count):
            for function in functions:
                for name, values in function(weights).items():
                    parts[name].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def interval(values: Floats) -> tuple[float, float]:
    """Return the percentile interval of (B,) resampled values, NaN where there are none."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _wilson(successes: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that also holds at 0 and 1 (Wilson 1927)."""
    z2 = 1.959964**2
    middle = (successes + z2 / 2) / (images + z2)
    share = successes / images
    reach = np.sqrt(z2 * (share * (1 - share) / images + z2 / (4 * images**2))) / (1 + z2 / images)
    return float(max(middle - reach, 0.0)), float(min(middle + reach, 1.0))


def _figure(value: float, resampled: Floats, *, biased: bool = False) -> Figure:
    low, high = interval(resampled)
    if biased:
        # Resampling adds to a sum of absolute differences; the reverse interval takes that away.
        low, high = max(2 * value - high, 0.0), max(2 * value - low, 0.0)
    return Figure(float(value), low, high)


def _share(successes: int, images: int, resampled: Floats) -> Figure:
    if successes in (0, images):
        return Figure(successes / images, *_wilson(successes, images), method="wilson")
    return _figure(successes / images, resampled)


def means_of(columns: Mapping[str, NDArray[Any]]) -> Weighted:
    """Return the means of (N,) columns as a function of weights."""
    table = np.column_stack([values.astype(np.float64) for values in columns.values()])

    def means(weights: Floats) -> dict[str, Floats]:
        values = weights @ table / weights.sum(axis=1, keepdims=True)
        return dict(zip(columns, values.T, strict=True))

    return means


def _grouping(groups: Ints, count: int) -> Callable[[Floats], Floats]:
    """Return the function (B, N) -> (B, count) that adds up the weights of each group."""
    from scipy.sparse import csr_matrix

    cells = (np.ones(len(groups)), (np.arange(len(groups)), groups))
    matrix = csr_matrix(cells, shape=(len(groups), count))
    return lambda weights: np.asarray(weights @ matrix)


def _confusion_figures(scores: Scores) -> Weighted:
    """Balanced accuracy, macro F1 and Cohen's kappa as a function of weights."""
    labels = len(scores.labels)
    by_truth = _grouping(scores.truth, labels)
    by_prediction = _grouping(scores.predicted, labels + 1)

    def figures(weights: Floats) -> dict[str, Floats]:
        hits, support = by_truth(weights * scores.correct), by_truth(weights)
        predicted = by_prediction(weights)[:, :labels]
        total = weights.sum(axis=1)
        chance = (support * predicted).sum(axis=1) / total**2
        return {
            "balanced_accuracy": _mean_over(hits / support, support > 0),
            "f1_macro": _mean_over(2 * hits / (support + predicted), support > 0),
            "cohen_kappa": (hits.sum(axis=1) / total - chance) / (1 - chance),
        }

    return figures


def _mean_over(values: Floats, known: Bools) -> Floats:
    """Return the (B,) means of (B, C) values over the labels that are known."""
    means: Floats = np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)
    return means


def ranking_figures(truth: Bools, scores: Floats) -> Weighted:
    """Macro ROC-AUC and average precision of (N, C) truths and scores as a function of weights."""
    curves = []
    for label in np.flatnonzero(truth.any(axis=0)):
        order = np.argsort(-scores[:, label], kind="stable")
        ordered = scores[order, label]
        # Images of equal score are one step of the curve.
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        positive = truth[order, label]
        curves.append((order[positive], order[~positive], starts, positive))

    def figures(weights: Floats) -> dict[str, Floats]:
        # Images first, so that sums along a curve run over whole rows.
        drawn = np.ascontiguousarray(weights.T)
        areas, precisions = [], []
        for own, others, starts, positive in curves:
            right, wrong = np.zeros_like(drawn), np.zeros_like(drawn)
            right[positive], wrong[~positive] = drawn[own], drawn[others]
            if len(starts) < len(drawn):
                right, wrong = (np.add.reduceat(part, starts, axis=0) for part in (right, wrong))
            found, passed = np.cumsum(right, axis=0), np.cumsum(wrong, axis=0)
            # Pairs of an image of the label and one of another that rank rightly, ties by half.
            pairs = np.einsum("nb,nb->b", right, passed[-1] - passed + wrong / 2)
            areas.append(pairs / (found[-1] * passed[-1]))
            shares = found / np.maximum(found + passed, 1)
            precisions.append(np.einsum("nb,nb->b", right, shares) / found[-1])
        return {"roc_auc": _nanmean(areas), "average_precision": _nanmean(precisions)}

    return figures


def _nanmean(rows: list[Floats]) -> Floats:
    values = np.stack(rows) if rows else np.full((1, 1), np.nan)
    known = ~np.isnan(values)
    means: Floats = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return means


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
    per_class, averages = _per_class(scores, confusion)
    means: dict[str, NDArray[Any]] = {
        "accuracy": scores.correct,
        **{f"top_{k}_accuracy": scores.place < k for k in (3, 5) if _says_something(scores, k)},
    }
    ranking = min(RESAMPLES, max(200, int(_MOST_WORK / (images * count))))
    losses = {"log_loss": scores.log_losses, "brier_score": scores.brier_scores}
    calibration = _calibration_error(scores)
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
    headline = {name: _share(int(v.sum()), images, drawn[name]) for name, v in means.items()}
    headline |= {
        name: _figure(value, drawn[name]) for name, value in points.items() if not np.isnan(value)
    }
    headline["calibration_error"] = _figure(error, drawn["calibration_error"], biased=True)
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
    scores: Scores, confusion: Ints
) -> tuple[tuple[dict[str, Any], ...], dict[str, dict[str, float]]]:
    """Return one mapping per label, and the averages over the labels with examples."""
    from sklearn.metrics import precision_recall_fscore_support

    count = len(scores.labels)
    options = {"labels": list(range(count)), "zero_division": 0.0}
    figures = precision_recall_fscore_support(scores.truth, scores.predicted, **options)
    rows = []
    predicted = confusion.sum(axis=0)
    for i, label in enumerate(scores.labels):
        precision, recall, f1, support = (values[i] for values in figures)
        rows.append(
            {
                "label": label,
                "support": int(support),
                "predicted": int(predicted[i]) if i < len(predicted) else 0,
                "precision": float(precision) if predicted[i] else None,
                "recall": float(recall) if support else None,
                "f1": float(f1) if support else None,
                **_ranking_points(scores.onehot[:, i], scores.probabilities[:, i]),
            }
        )
    present = np.flatnonzero(figures[3])
    averages = {}
    for name, weights in (("macro", None), ("weighted", figures[3][present])):
        averages[name] = {
            key: float(np.average(values[present], weights=weights))
            for key, values in zip(("precision", "recall", "f1"), figures[:3], strict=True)
        }
    return tuple(rows), averages


def _ranking_points(truth: Bools, scores: Floats) -> dict[str, float | None]:
    """ROC-AUC and average precision of one label, None where the images cannot tell."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    some = bool(truth.any()) and not np.isnan(scores).any()
    return {
        "roc_auc": float(roc_auc_score(truth, scores)) if some and not truth.all() else None,
        "average_precision": float(average_precision_score(truth, scores)) if some else None,
    }


def _calibration_error(scores: Scores) -> Weighted:
    """Expected calibration error: mean distance of confidence and accuracy over the bins."""
    in_bins = _grouping(scores.bins, BINS)
    gaps = scores.correct - scores.confidence

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
                "accuracy": float(scores.correct[inside].mean()) if some else None,
            }
        )
    return tuple(rows)


def _thresholds(scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield coverage and accuracy at each threshold on the probability, from 0 to 1 by 0.01."""
    right = scores.ranks.argmax(axis=1) == scores.truth
    for step in range(101):
        kept = scores.confidence >= step / 100
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
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    if not len(truth):
        raise ValueError("no image was scored")
    images = len(truth)
    predicted = probabilities >= threshold
    figures = precision_recall_fscore_support(truth, predicted, average=None, zero_division=0.0)
    rows = []
    for i, label in enumerate(labels):
        precision, recall, f1, support = (np.atleast_1d(values)[i] for values in figures)
        rows.append(
            {
                "label": label,
                "support": int(support),
                "predicted": int(predicted[:, i].sum()),
                "precision": float(precision) if predicted[:, i].any() else None,
                "recall": float(recall) if support else None,
                "f1": float(f1) if support else None,
                **_ranking_points(truth[:, i], probabilities[:, i]),
                **_best_threshold(truth[:, i], probabilities[:, i]),
            }
        )
    present = np.flatnonzero(truth.any(axis=0))
    hits = truth & predicted

    def f1_of(weights: Floats) -> dict[str, Floats]:
        found, support, taken = (weights @ part.astype(float) for part in (hits, truth, predicted))
        totals = support + taken
        return {
            "f1_micro": 2 * found.sum(axis=1) / totals.sum(axis=1),
            "f1_macro": _mean_over(2 * found / totals, support > 0),
        }

    ranking = min(RESAMPLES, max(200, int(_MOST_WORK / (images * len(labels)))))
    drawn = bootstrap([f1_of], images, RESAMPLES)
    drawn |= bootstrap([ranking_figures(truth, probabilities)], images, ranking)
    options = {"zero_division": 0.0}
    known = [row for row in rows if row["support"]]
    points = {
        "mean_average_precision": _mean_known(row["average_precision"] for row in known),
        "roc_auc": _mean_known(row["roc_auc"] for row in known),
        "f1_micro": float(f1_score(truth, predicted, average="micro", **options)),
        "f1_macro": _mean_known(row["f1"] for row in known),
    }
    drawn["mean_average_precision"] = drawn.pop("average_precision")
    weights = truth.sum(axis=0)[present]
    averages = {
        name: {
            key: float(np.average(np.atleast_1d(values)[present], weights=by))
            if len(present)
            else 0.0
            for key, values in zip(("precision", "recall", "f1"), figures[:3], strict=True)
        }
        for name, by in (("macro", None), ("weighted", weights))
        if len(present)
    }
    return Metrics(
        images=images,
        headline={
            name: _figure(value, drawn[name])
            for name, value in points.items()
            if not np.isnan(value)
        },
        per_class=tuple(rows),
        averages=averages,
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
