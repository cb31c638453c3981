"""The error of a figure by the bootstrap: images drawn again with replacement, many times.

Every figure is a function of weights, which say how often each image was drawn, and is computed for
many resamples at once (Efron & Tibshirani 1993).

Shapes: N images, C labels, B resamples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Weighted = Callable[[Floats], dict[str, Floats]]
"""(B, N) weights, which are counts of draws -> name -> (B,) values."""

RESAMPLES = 2000
_CHUNK = 2_000_000
"""Weights in memory at once."""


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure.
        low: Lower end; NaN where every resample is like the others, which the bootstrap would take
            for certainty.
        high: Upper end; likewise.
        method: `bootstrap`, or `wilson` for a share of all images or of none.
    """

    value: float
    low: float
    high: float
    method: str = "bootstrap"


def resamples(images: int, count: int, seed: int = 0) -> Iterator[Floats]:
    """Yield (B, N) float64 weights, in chunks: how often each image is drawn in each resample."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // images)
    for start in range(0, count, size):
        rows = min(size, count - start)
        drawn = rng.integers(0, images, (rows, images)) + images * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.float64)


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


def figure_of(value: float, resampled: Floats, *, biased: bool = False) -> Figure:
    """Return a figure with the interval of its (B,) resampled values."""
    low, high = interval(resampled)
    if biased:
        # Resampling adds to a sum of absolute differences; the reverse interval takes that away.
        low, high = max(2 * value - high, 0.0), max(2 * value - low, 0.0)
    if low == high:
        low = high = float("nan")
    return Figure(float(value), low, high)


def share_of(holds: Bools) -> Figure:
    """Return the share of images for which something holds; (N,) bool."""
    drawn = bootstrap([means_of({"share": holds})], len(holds), RESAMPLES)
    return counted(int(holds.sum()), len(holds), drawn["share"])


def counted(successes: int, images: int, resampled: Floats) -> Figure:
    """Return a share of images with the interval of its (B,) resampled values."""
    if successes in (0, images):
        return Figure(successes / images, *_wilson(successes, images), method="wilson")
    return figure_of(successes / images, resampled)


def means_of(columns: Mapping[str, NDArray[Any]]) -> Weighted:
    """Return the means of (N,) columns as a function of weights."""
    table = np.column_stack([values.astype(np.float64) for values in columns.values()])

    def means(weights: Floats) -> dict[str, Floats]:
        values = weights @ table / weights.sum(axis=1, keepdims=True)
        return dict(zip(columns, values.T, strict=True))

    return means


def grouping(groups: Ints, count: int) -> Callable[[Floats], Floats]:
    """Return the function (B, N) -> (B, count) that adds up the weights of each group."""
    from scipy.sparse import csr_matrix

    cells = (np.ones(len(groups)), (np.arange(len(groups)), groups))
    matrix = csr_matrix(cells, shape=(len(groups), count))
    return lambda weights: np.asarray(weights @ matrix)


def mean_over(values: Floats, known: Bools) -> Floats:
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
