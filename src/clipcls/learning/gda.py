"""Gaussian discriminant analysis with a shared covariance: a closed form for a few examples.

Shapes: N images, C labels, D dimensions.
"""

from __future__ import annotations

import numpy as np

from clipcls.evaluation.bootstrap import Floats, Ints
from clipcls.learning.linear import Linear


def fit_gda(embeddings: Floats, truth: Ints, labels: int) -> Linear:
    """Return the classifier of Gaussian classes that share a covariance.

    This is the training-free classifier of Wang et al. 2024 (arXiv:2402.04087): with the class
    means mu and the precision P = D ((N - 1) S + tr(S) I)^-1, the empirical Bayes ridge-type
    estimate of Kubokawa and Srivastava, the weights are P mu and the biases -mu' P mu / 2. The
    prior is the same for all labels, as in the paper's experiments: labels that were corrected
    by hand do not tell how frequent each is.

    Only differences between labels count, so the mean over the labels is taken off; a label
    without examples then has zeros, which is neither for nor against it. With a single example of
    each label nothing is known of the spread inside a label, and the trace is that of the spread of
    all examples.

    Args:
        embeddings: (N, D) float64.
        truth: (N,) places of the labels.
        labels: C.
    """
    images, dimensions = embeddings.shape
    known, places = np.unique(truth, return_inverse=True)
    means = np.stack([embeddings[places == place].mean(axis=0) for place in range(len(known))])
    centred = embeddings - means[places]
    spread = centred if centred.any() else embeddings - embeddings.mean(axis=0)
    ridge = float((spread**2).sum()) / max(images - 1, 1)
    if not ridge:
        # Examples that are all the same tell nothing apart.
        return Linear(np.zeros((labels, dimensions)), np.zeros(labels))
    # Of the smaller of the two equal forms (Woodbury), as there are mostly fewer images than
    # dimensions.
    if images < dimensions:
        gram = centred @ centred.T + ridge * np.eye(images)
        inner = np.linalg.solve(gram, centred @ means.T)
        solved = (means.T - centred.T @ inner) / ridge
    else:
        solved = np.linalg.solve(centred.T @ centred + ridge * np.eye(dimensions), means.T)
    own = dimensions * solved.T
    offsets = -0.5 * (own * means).sum(axis=1)
    weights, biases = np.zeros((labels, dimensions)), np.zeros(labels)
    weights[known] = own - own.mean(axis=0)
    biases[known] = offsets - offsets.mean()
    return Linear(weights, biases)
