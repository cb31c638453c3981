"""The probe beside scikit-learn's, and what its pull towards zero-shot does."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from clipcls.learning.examples import Examples
from clipcls.learning.linear import Linear
from clipcls.learning.probe import fit_probe
from clipcls.scoring import softmax
from tests.learning.made import World


def fitted(examples: Examples, zero_shot: Linear, strength: float) -> Linear:
    given = (examples.embeddings, examples.truth, zero_shot, strength)
    return fit_probe(*given, tolerance=1e-9)


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("labels", [2, 3, 5])
def test_shrunk_towards_nothing_it_is_scikit_learns(labels: int, strength: float) -> None:
    examples = World.of(1, labels=labels).examples(60)
    nothing = Linear(np.zeros((labels, 8)), np.zeros(labels))
    found = fitted(examples, nothing, strength)(examples.embeddings)
    # Their classifier of two labels has one column, whose penalty weighs twice as much.
    own = 2 * strength if labels == 2 else strength
    theirs = LogisticRegression(C=own, fit_intercept=False, tol=1e-10, solver="newton-cholesky")
    inputs = np.concatenate([examples.embeddings, np.ones((60, 1))], axis=1)
    expected = theirs.fit(inputs, examples.truth).predict_proba(inputs)
    np.testing.assert_allclose(softmax(found), expected, atol=1e-6)


def test_at_its_end_the_pull_and_the_examples_are_in_balance() -> None:
    examples = World.of(2).examples(60)
    found = fitted(examples, examples.zero_shot, 3.0)
    onehot = np.eye(3)[examples.truth]
    missing = onehot - softmax(found(examples.embeddings))
    moved = found.weights - examples.zero_shot.weights
    np.testing.assert_allclose(moved, 3.0 * missing.T @ examples.embeddings, atol=1e-6)
    np.testing.assert_allclose(found.biases, 3.0 * missing.sum(axis=0), atol=1e-6)
    assert np.abs(moved).max() > 0.1


def test_a_strong_pull_leaves_zero_shot_as_it_is() -> None:
    examples = World.of(3).examples(60)
    found = fitted(examples, examples.zero_shot, 1e-9)
    np.testing.assert_allclose(found.weights, examples.zero_shot.weights, atol=1e-6)


def test_a_label_without_examples_keeps_its_column_and_the_others_ignore_it() -> None:
    world = World.of(4, labels=4)
    examples = world.examples(80)
    some = examples.part(examples.truth != 2)
    found = fitted(some, examples.zero_shot, 10.0)
    assert (found.weights[2] == examples.zero_shot.weights[2]).all()
    assert found.biases[2] == 0
    places = [0, 1, 3]
    fewer = Linear(examples.zero_shot.weights[places], np.zeros(3))
    alone = fit_probe(
        some.embeddings, np.searchsorted(places, some.truth), fewer, 10.0, tolerance=1e-9
    )
    np.testing.assert_allclose(found.weights[places], alone.weights, atol=1e-6)


def test_where_the_search_starts_does_not_matter() -> None:
    examples = World.of(5).examples(60)
    given = (examples.embeddings, examples.truth, examples.zero_shot, 5.0)
    far = fitted(examples, examples.zero_shot, 100.0)
    from_far = fit_probe(*given, start=far, tolerance=1e-9)
    np.testing.assert_allclose(
        from_far.weights, fit_probe(*given, tolerance=1e-9).weights, atol=1e-6
    )
