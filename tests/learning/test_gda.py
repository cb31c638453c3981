"""The Gaussian classifier beside its formula and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from clipcls.evaluation.bootstrap import Floats, Ints
from clipcls.learning.gda import fit_gda
from tests.learning.made import World


class Fixed:
    """A covariance that scikit-learn is told."""

    def __init__(self, covariance: Floats) -> None:
        self.covariance_ = covariance

    def fit(self, _: Floats) -> Fixed:
        return self

    def get_params(self, deep: bool = True) -> dict[str, Floats]:
        return {"covariance": self.covariance_}


def precision(embeddings: Floats, truth: Ints) -> Floats:
    """The paper's estimate, as it is printed there."""
    means = np.stack([embeddings[truth == label].mean(axis=0) for label in np.unique(truth)])
    centred = embeddings - means[truth]
    images, dimensions = embeddings.shape
    covariance = centred.T @ centred / (images - 1)
    ridge = np.trace(covariance) * np.eye(dimensions)
    inverse: Floats = dimensions * np.linalg.inv((images - 1) * covariance + ridge)
    return inverse


# Fewer images than dimensions, and more.
@pytest.mark.parametrize(("images", "dimensions"), [(12, 30), (60, 8)])
def test_it_is_the_classifier_of_the_paper(images: int, dimensions: int) -> None:
    examples = World.of(1, dimensions=dimensions).examples(images)
    embeddings, truth = examples.embeddings, examples.truth
    found = fit_gda(embeddings, truth, 3)(embeddings)
    inverse = precision(embeddings, truth)
    means = np.stack([embeddings[truth == label].mean(axis=0) for label in range(3)])
    offsets = -0.5 * np.einsum("cd,de,ce->c", means, inverse, means)
    expected = embeddings @ (means @ inverse).T + offsets
    # Only differences between labels mean something.
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_it_is_scikit_learns_with_that_covariance() -> None:
    examples = World.of(2).examples(60)
    embeddings, truth = examples.embeddings, examples.truth
    covariance = np.linalg.inv(precision(embeddings, truth)).astype(np.float64)
    theirs = LinearDiscriminantAnalysis("lsqr", covariance_estimator=Fixed(covariance))
    theirs.fit(embeddings, truth)
    expected = theirs.decision_function(embeddings)
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(fit_gda(embeddings, truth, 3)(embeddings), expected, atol=1e-6)


def test_one_example_each_gives_the_nearest_example() -> None:
    world = World.of(3, labels=5)
    one = world.examples(5)
    others = world.embeddings(np.arange(100) % 5)
    distances = ((others[:, None] - one.embeddings) ** 2).sum(axis=2)
    found = fit_gda(one.embeddings, one.truth, 5)(others)
    assert (found.argmax(axis=1) == distances.argmin(axis=1)).all()


def test_a_label_without_examples_has_nothing_for_or_against_it() -> None:
    examples = World.of(4).examples(30)
    found = fit_gda(examples.embeddings, examples.truth * 2, 6)
    assert not found.weights[[1, 3, 5]].any()
    assert not found.biases[[1, 3, 5]].any()
    np.testing.assert_allclose(found(examples.embeddings).sum(axis=1), 0, atol=1e-9)


def test_examples_that_are_all_the_same_tell_nothing() -> None:
    found = fit_gda(np.ones((4, 3)), np.array([0, 0, 1, 1]), 2)
    assert not found.weights.any()
