"""What a method leaves open, chosen by folds of the examples alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from clipcls.learning.examples import Examples, folds
from clipcls.learning.fitting import fit_head, mixture
from clipcls.learning.linear import Linear
from clipcls.options import HeadMethod
from tests.learning.made import World

BOTH = [HeadMethod.GDA, HeadMethod.PROBE]


def loss(logits: np.ndarray, truth: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())


def test_the_mixture_has_the_least_loss() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    first, second = rng.normal(size=(2, 300, 4))
    first[np.arange(300), truth] += 1.0
    second[np.arange(300), truth] += 0.5
    logits = np.stack([first, second])
    best = np.array(mixture(logits, truth))

    def penalised(weights: np.ndarray) -> float:
        away = weights - [1.0, 0.0]
        return 300 * loss(np.tensordot(weights, logits, 1), truth) + float(away @ away) / 2

    around = [best + step * np.array(way) for step in (0.01, -0.01) for way in ((1, 0), (0, 1))]
    assert all(penalised(best) < penalised(weights) for weights in around)
    assert best.min() > 0.2


def test_what_says_nothing_gets_no_weight() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, 300)
    first, second = rng.normal(size=(2, 300, 4))
    first[np.arange(300), truth] += 2.0
    second[np.arange(300), truth] -= 0.5
    assert mixture(np.stack([first, second]), truth)[1] == 0


@pytest.mark.parametrize("method", BOTH)
def test_it_learns_what_zero_shot_does_not_know(method: HeadMethod) -> None:
    world = World.of(2, labels=4, apart=3.0, off=2.0)
    head = fit_head(world.examples(80), method)
    truth = np.arange(2000) % 4
    embeddings = world.embeddings(truth)
    before, after = world.zero_shot(embeddings), head.logits(embeddings)
    right = [(logits.argmax(axis=1) == truth).mean() for logits in (before, after)]
    assert right[1] > right[0] + 0.1
    assert loss(after, truth) < loss(before, truth)
    # Neither too sure nor too modest: no other temperature is much better.
    assert loss(after, truth) < min(loss(after * t, truth) for t in (0.5, 0.7, 1.4, 2.0)) + 0.02


@pytest.mark.parametrize(
    ("counts", "method"),
    [((16, 16, 16), "gda"), ((17, 17, 17), "probe"), ((1, 5, 300), "gda"), ((40, 40, 2), "probe")],
)
def test_auto_goes_by_the_examples_of_a_label(counts: tuple[int, ...], method: str) -> None:
    world = World.of(3)
    truth = np.repeat(np.arange(3), counts)
    examples = replace(world.examples(3), embeddings=world.embeddings(truth), truth=truth)
    assert fit_head(examples, HeadMethod.AUTO).method.value == method


@pytest.mark.parametrize("method", BOTH)
def test_a_label_without_examples_keeps_its_zero_shot_column(method: HeadMethod) -> None:
    world = World.of(4, labels=4, apart=4.0, off=0.5)
    examples = world.examples(80)
    head = fit_head(examples.part(examples.truth != 2), method)
    assert (head.linear.weights[2] == world.zero_shot.weights[2]).all()
    assert head.linear.biases[2] == 0
    # It is still what its images are called.
    truth = np.full(200, 2)
    embeddings = world.embeddings(truth)
    before, after = world.zero_shot(embeddings), head.logits(embeddings)
    right = [(logits.argmax(axis=1) == truth).mean() for logits in (before, after)]
    assert right[1] > 0.7 * right[0] > 0.5


@pytest.mark.parametrize("method", BOTH)
def test_a_label_without_prompts_is_learned_from_examples(method: HeadMethod) -> None:
    world = World.of(5, labels=3, apart=3.0)
    weights = world.zero_shot.weights.copy()
    weights[1] = 0
    prompted = np.array([True, False, True])
    examples = replace(
        world.examples(90), zero_shot=Linear(weights, np.zeros(3)), prompted=prompted
    )
    assert (examples.zero_shot_logits.argmax(axis=1) != 1).all()
    head = fit_head(examples, method)
    truth = np.arange(900) % 3
    right = head.logits(world.embeddings(truth)).argmax(axis=1) == truth
    assert right[truth == 1].mean() > 0.7


@pytest.mark.parametrize("method", BOTH)
def test_one_example_each_is_enough_to_learn_from(method: HeadMethod) -> None:
    head = fit_head(World.of(6).examples(3), method)
    assert np.isfinite(head.linear.weights).all()
    assert head.temperature == 1.0


def test_no_group_is_in_two_folds() -> None:
    examples = World.of(7).examples(120)
    groups = np.random.default_rng(0).integers(0, 20, 120)
    found = folds(replace(examples, groups=groups), 5, 0)
    assert set(found) == set(range(5))
    for group in range(20):
        assert len(set(found[groups == group])) == 1


def test_every_fold_has_every_label() -> None:
    examples: Examples = World.of(8).examples(60)
    found = folds(examples, 5, 0)
    table = np.zeros((5, 3), dtype=int)
    np.add.at(table, (found, examples.truth), 1)
    assert (table == 4).all()
    assert (folds(examples, 5, 1) != found).any()
