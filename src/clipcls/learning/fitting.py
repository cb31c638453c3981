"""A head fitted on examples: the method, and what it leaves open chosen by cross-validation.

Shapes: N images, C labels, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipcls.evaluation.bootstrap import Bools, Floats, Ints
from clipcls.evaluation.calibration import fit
from clipcls.learning.examples import Examples, folds
from clipcls.learning.gda import fit_gda
from clipcls.learning.linear import Linear
from clipcls.learning.probe import fit_probe
from clipcls.options import HeadMethod

FEW = 16
"""Up to so many examples of a label (the median counts), `auto` means `gda`."""

_FIRST_SHARE = 0.1
"""Weight of the Gaussian part where nothing can be held out to choose it."""
_COARSE = 1e-2
"""Tolerance of fits that only choose C."""
_STRENGTHS = tuple(10.0 ** (step / 2) for step in range(-2, 9))
"""C of the probe, from 0.1 to 10,000."""
_INNER_FOLDS = {HeadMethod.GDA: 5, HeadMethod.PROBE: 3}
"""The probe has fewer, because each of its fits is a search."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A head as it comes from its examples.

    Attributes:
        method: How it was learned.
        linear: Its logits, before the temperature.
        temperature: What they are divided by.
        settings: What cross-validation chose: `alpha`, the weight of the Gaussian part beside the
            zero-shot part, or `C`.
    """

    method: HeadMethod
    linear: Linear
    temperature: float = 1.0
    settings: dict[str, float] = field(default_factory=dict)

    def logits(self, embeddings: Floats) -> Floats:
        """Return the (N, C) logits of (N, D) embeddings."""
        return self.linear(embeddings) / self.temperature


def meant(method: HeadMethod, examples: Examples) -> HeadMethod:
    """Return the method that `auto` means for these examples."""
    if method is not HeadMethod.AUTO:
        return method
    counts = examples.per_label
    return HeadMethod.GDA if np.median(counts[counts > 0]) <= FEW else HeadMethod.PROBE


def fit_head(examples: Examples, method: HeadMethod, seed: int = 0) -> Fitted:
    """Learn a head; what the method leaves open is chosen by folds of these examples alone.

    Args:
        examples: Of two labels at least.
        method: `auto`, `gda` or `probe`.
        seed: Of the folds.
    """
    chosen = meant(method, examples)
    parts = folds(examples, _INNER_FOLDS[chosen], seed)
    count = int(parts.max()) + 1
    rests = [examples.part(parts != number) for number in range(count)] if count > 1 else []
    return (_gda if chosen is HeadMethod.GDA else _probe)(examples, parts, rests)


def _gda(examples: Examples, parts: Ints, rests: Sequence[Examples]) -> Fitted:
    """Mix the Gaussian classifier with the zero-shot one.

    Both weights of `a * zero-shot + b * gda` are those of the least log loss on the folds: alpha =
    b / a is what the paper finds by a search, and 1 / a is the temperature, found along with it.
    """
    own = _as_large(fit_gda(examples.embeddings, examples.truth, examples.labels), examples)
    parted = [_as_large(fit_gda(r.embeddings, r.truth, r.labels), r) for r in rests]
    logits, judged = _held_out(examples, parts, parted)
    first, second = 1.0, _FIRST_SHARE
    if judged.any():
        both = np.stack([examples.zero_shot(examples.embeddings), logits])[:, judged]
        first, second = mixture(both, examples.truth[judged])
    alpha = second / first
    return Fitted(HeadMethod.GDA, examples.zero_shot + own * alpha, 1 / first, {"alpha": alpha})


def _as_large(linear: Linear, examples: Examples) -> Linear:
    """Bring weights to the size of the zero-shot ones, so that alpha means the same for any N."""
    size, goal = (float(np.linalg.norm(x.weights)) for x in (linear, examples.zero_shot))
    return linear * (goal / size) if size else linear


def _probe(examples: Examples, parts: Ints, rests: Sequence[Examples]) -> Fitted:
    """Choose C, from strong shrinkage on, until the log loss on the folds rises."""
    from scipy.special import logsumexp

    best, temperature, least = 1.0, 1.0, np.inf
    paths = [_path(rest) for rest in rests]
    for strength in _STRENGTHS if paths else ():
        logits, judged = _held_out(examples, parts, [next(path) for path in paths])
        truth = examples.truth[judged]
        heat, _ = fit(logits[judged], truth)
        scaled = logits[judged] / heat
        loss = float((logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]).mean())
        if loss >= least:
            break
        best, temperature, least = strength, heat, loss
    linear = fit_probe(examples.embeddings, examples.truth, examples.zero_shot, best)
    return Fitted(HeadMethod.PROBE, linear, temperature, {"C": best})


def _path(examples: Examples) -> Iterator[Linear]:
    """Yield the probe for one C after the other, each search started where the last one ended."""
    found: Linear | None = None
    for strength in _STRENGTHS:
        found = fit_probe(
            *(examples.embeddings, examples.truth, examples.zero_shot, strength, found),
            tolerance=_COARSE,
        )
        yield found


def _held_out(examples: Examples, parts: Ints, fitted: Sequence[Linear]) -> tuple[Floats, Bools]:
    """Return the (N, C) logits of each image by what was fitted on the other folds.

    Returns:
        The logits, and (N,) whether an image can judge: there are other examples of its label.
    """
    logits = np.zeros((len(examples), examples.labels))
    judged = np.zeros(len(examples), dtype=bool)
    for number, linear in enumerate(fitted):
        held = parts == number
        logits[held] = linear(examples.embeddings[held])
        judged[held] = np.isin(examples.truth[held], examples.truth[~held])
    return logits, judged


def mixture(logits: Floats, truth: Ints) -> tuple[float, float]:
    """Return the weights of two classifiers whose weighted sum has the least log loss.

    The problem is convex. A normal prior, as heavy as one image, keeps the weights near those of
    the first classifier alone.

    Args:
        logits: (2, N, C) float64.
        truth: (N,) places of the labels.
    """
    from scipy.optimize import minimize

    rows = np.arange(len(truth))
    prior = np.array([1.0, 0.0])

    def loss(weights: Floats) -> tuple[float, Floats]:
        mixed = np.tensordot(weights, logits, 1)
        mixed -= mixed.max(axis=1, keepdims=True)
        slopes = np.exp(mixed)
        sums = slopes.sum(axis=1, keepdims=True)
        away = weights - prior
        value = np.log(sums).sum() - mixed[rows, truth].sum() + 0.5 * float(away @ away)
        slopes /= sums
        slopes[rows, truth] -= 1.0
        return float(value), (logits * slopes).sum(axis=(1, 2)) + away

    found = minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=[(1e-3, None), (0.0, None)]).x
    return float(found[0]), float(found[1])
