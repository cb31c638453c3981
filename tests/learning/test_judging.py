"""Cross-validated figures: what they hold, and what they never claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clipcls.evaluation.bootstrap import Figure
from clipcls.learning import judging
from clipcls.learning.curve import learning_curve
from clipcls.learning.fitting import fit_head
from clipcls.learning.judging import cross_validated, judge, near_duplicates, paired
from clipcls.options import HeadMethod
from tests.learning.made import World

GDA = HeadMethod.GDA


def holds(figure: Figure, value: float) -> bool:
    return figure.low <= value <= figure.high


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without repeats, which only make figures steadier, simulations take a third of the time."""
    monkeypatch.setattr(judging, "REPEATS", 1)


@pytest.mark.usefixtures("once")
def test_the_intervals_hold_the_accuracy_on_new_images() -> None:
    """Which is known here: of the very head that is written, on ten thousand new images."""
    held = []
    truth = np.arange(10_000) % 3
    for seed in range(60):
        world = World.of(seed)
        examples = world.examples(60)
        judged, head = judge(examples, GDA), fit_head(examples, GDA)
        new = world.embeddings(truth)
        before, after = (
            (logits.argmax(axis=1) == truth).mean()
            for logits in (world.zero_shot(new), head.logits(new))
        )
        held.append(
            (
                holds(judged.zero_shot, before),
                holds(judged.head, after),
                holds(judged.difference, after - before),
            )
        )
    # Of 60 intervals of 95 %, 54 or more hold it but for one time in a hundred.
    assert (np.sum(held, axis=0) >= 54).all(), np.mean(held, axis=0)


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("labels", [2, 3])
def test_shuffled_labels_are_never_called_an_improvement(labels: int) -> None:
    claims = [
        judge(World.of(seed, labels=labels).examples(48, shuffled=True), GDA).is_better
        for seed in range(40)
    ]
    assert not any(claims)


def test_what_is_better_is_called_better() -> None:
    judged = judge(World.of(0, apart=4.0, off=4.0).examples(90), GDA)
    assert judged.is_better
    assert judged.head.value > judged.zero_shot.value
    assert judged.difference.value == pytest.approx(judged.head.value - judged.zero_shot.value)
    assert judged.log_loss[1] < judged.log_loss[0]
    assert judged.calibration_error[1] < judged.calibration_error[0]


def test_what_is_judged_is_what_is_written() -> None:
    """Twenty of each label are for the probe, though a fold leaves sixteen to learn from."""
    examples = World.of(4).examples(60)
    assert fit_head(examples, HeadMethod.AUTO).method is HeadMethod.PROBE
    assert judge(examples, HeadMethod.AUTO) == judge(examples, HeadMethod.PROBE)


def test_an_image_has_no_say_in_its_own_logits() -> None:
    examples = World.of(1).examples(60)
    seen = []

    def learned(part, number):  # type: ignore[no-untyped-def]
        seen.append(part.embeddings)
        return lambda held: np.array(
            [[(seen[-1] == row).all(axis=1).any(), 0, 0] for row in held], dtype=float
        )

    logits, _ = cross_validated(examples, 0, learned)
    assert len(seen) == 15
    assert not logits.any()


def test_only_images_that_count_are_judged_and_all_teach() -> None:
    examples = World.of(2, apart=4.0).examples(60)
    counts = np.arange(60) < 24
    judged = judge(replace(examples, counts=counts), GDA)
    assert judged.images == 24
    alone = judge(examples.part(counts), GDA)
    assert judged.zero_shot == alone.zero_shot
    assert judged.head != alone.head


def test_images_of_a_group_are_drawn_together() -> None:
    right = np.repeat([1.0, 0.0] * 10, 5)
    nothing = np.zeros(100)
    apart = paired(nothing, right)["head"]
    together = paired(nothing, right, np.repeat(np.arange(20), 5))["head"]
    assert together.value == apart.value == 0.5
    # Twenty images in place of a hundred: the square root of five times as wide.
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(np.sqrt(5), rel=0.15)


def test_agreement_on_a_few_images_is_not_taken_for_certainty() -> None:
    right = np.array([1.0, 0.0] * 10)
    difference = paired(right, right)["difference"]
    assert difference.value == 0
    assert difference.low < -0.1
    assert difference.high > 0.1


def test_near_duplicates_are_found_across_strips_and_not_within_groups() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(1100, 40))
    embeddings[1050] = embeddings[3] + 0.01 * rng.normal(size=40)
    embeddings[8] = embeddings[7]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert near_duplicates(embeddings, None, 0.98) == [(3, 1050), (7, 8)]
    groups = np.arange(1100)
    groups[8] = 7
    assert near_duplicates(embeddings, groups, 0.98) == [(3, 1050)]


def test_the_curve_rises_to_the_head_itself() -> None:
    examples = World.of(3, labels=4, apart=3.0, off=3.0).examples(100)
    judged = judge(examples, GDA)
    points = list(learning_curve(examples, GDA, judged))
    assert [point.examples for point in points] == [1, 2, 4, 8, 10, 16, 20]
    assert points[-1].accuracy == judged.head
    values = [point.accuracy.value for point in points]
    assert values[-1] > values[0] + 0.05
    assert all(
        point.accuracy.low <= point.accuracy.value <= point.accuracy.high for point in points
    )
    [gain] = [point.gain for point in points if point.gain]
    assert gain.value == pytest.approx(values[-1] - values[4])
