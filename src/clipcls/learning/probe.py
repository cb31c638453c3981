"""The linear probe, shrunk towards the zero-shot classifier.

Shapes: N images, C labels, D dimensions.
"""

from __future__ import annotations

import numpy as np

from clipcls.evaluation.bootstrap import Floats, Ints
from clipcls.learning.linear import Linear

TOLERANCE = 1e-5
"""Of the largest slope at which the fit ends, relative to C."""


def fit_probe(
    embeddings: Floats,
    truth: Ints,
    zero_shot: Linear,
    strength: float,
    start: Linear | None = None,
    tolerance: float = TOLERANCE,
) -> Linear:
    """Return the multinomial logistic regression that stays near the zero-shot classifier.

    This is the linear probe of the CLIP paper (arXiv:2103.00020, A.3: L-BFGS on frozen embeddings,
    an l2 penalty of strength 1 / C), started from and shrunk towards the zero-shot classifier
    (Silva-Rodriguez et al. 2024, arXiv:2312.12730): it minimises

        C * sum of log losses + ||W - W_zs||^2 / 2 + ||b - b_zs||^2 / 2

    scikit-learn's LogisticRegression shrinks towards zero only, so its objective is written out
    here with that one change and given to the same L-BFGS of SciPy.

    A label without examples keeps its zero-shot column, and is left out of the softmax of the fit:
    the examples say nothing against it.

    Args:
        embeddings: (N, D) float64.
        truth: (N,) places of the labels.
        zero_shot: Where it is shrunk to.
        strength: C, the inverse of the strength of the penalty.
        start: Where the search starts; None is the zero-shot classifier.
        tolerance: Of the largest slope at its end, relative to C.
    """
    from scipy.optimize import minimize

    known, places = np.unique(truth, return_inverse=True)
    ones = np.ones((len(embeddings), 1))
    inputs = np.concatenate([embeddings, ones], axis=1)
    centre = _joined(zero_shot)[known]
    base = inputs @ centre.T
    rows = np.arange(len(places))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        change = parameters.reshape(centre.shape)
        logits = base + inputs @ change.T
        logits -= logits.max(axis=1, keepdims=True)
        slopes = np.exp(logits)
        sums = slopes.sum(axis=1, keepdims=True)
        value = float(np.log(sums).sum() - logits[rows, places].sum())
        slopes /= sums
        slopes[rows, places] -= 1.0
        # Divided by C, so that the tolerance means the same for all of them.
        value += float(parameters @ parameters) / (2 * strength)
        gradient = slopes.T @ inputs + change / strength
        return value, gradient.ravel()

    first = np.zeros(centre.size) if start is None else (_joined(start)[known] - centre).ravel()
    options = {"maxiter": 10_000, "gtol": tolerance, "ftol": 64 * np.finfo(float).eps}
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options=options).x
    moved = _joined(zero_shot).copy()
    moved[known] += found.reshape(centre.shape)
    return Linear(moved[:, :-1], moved[:, -1])


def _joined(linear: Linear) -> Floats:
    return np.concatenate([linear.weights, linear.biases[:, None]], axis=1)
