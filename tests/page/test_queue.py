"""What to label next: the random part is unbiased, the other one uncertain and varied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.page.queue import STRATA, rounds, teaching


@given(st.integers(0, 75), st.integers(0, 5))
def test_every_image_is_in_one_round(count: int, seed: int) -> None:
    found = rounds(np.random.default_rng(seed).random(count), seed)
    assert sorted(image for part in found for image in part) == list(range(count))
    sizes = {len(part) for part in found[:-1]}
    assert len(sizes) <= 1
    if count >= 2 * STRATA:
        assert sizes == {STRATA}


def test_a_round_has_an_image_of_every_stratum_in_no_order() -> None:
    confidence = np.random.default_rng(1).permutation(400) / 400
    found = rounds(confidence)
    for part in found:
        assert sorted((confidence[part] * STRATA).astype(int)) == list(range(STRATA))
    firsts = {int(confidence[part[0]] * STRATA) for part in found}
    assert len(firsts) > STRATA // 2


@pytest.mark.parametrize("count", [23, 57])
def test_each_image_is_as_likely_as_any_other_to_be_in_the_first_round(count: int) -> None:
    """Also where the images cannot be shared equally among the strata."""
    confidence = np.linspace(0, 1, count)
    draws = 6000
    hits = np.zeros(count)
    for seed in range(draws):
        hits[rounds(confidence, seed)[0]] += 1
    expected = draws * STRATA / count
    # Five standard deviations of a binomial.
    deviation = np.sqrt(expected * (1 - STRATA / count))
    assert np.abs(hits - expected).max() < 5 * deviation


def test_whole_rounds_estimate_the_accuracy_without_bias() -> None:
    """And more sharply than as many images drawn without strata."""
    rng = np.random.default_rng(3)
    confidence = rng.random(503)
    right = rng.random(503) < confidence
    estimates = [
        right[[i for part in rounds(confidence, seed)[:4] for i in part]].mean()
        for seed in range(2000)
    ]
    share = right.mean()
    simple = np.sqrt(share * (1 - share) / 40)
    assert np.mean(estimates) == pytest.approx(share, abs=4 * simple / np.sqrt(2000))
    assert np.std(estimates) < 0.9 * simple


def test_what_teaches_is_uncertain_and_unlike() -> None:
    """Of forty images that are alike, and four others nearly as uncertain, one of each comes."""
    alike = np.tile([0.34, 0.33, 0.33, 0, 0, 0, 0, 0], (40, 1))
    others = np.full((4, 8), 0.02)
    for i, row in enumerate(others):
        row[[i, i + 4]] = 0.44
    sure = np.tile([0.99, 0.01, 0, 0, 0, 0, 0, 0], (100, 1))
    probabilities = np.vstack([sure, alike, others])
    best = np.sort(probabilities, axis=1)
    chosen = teaching(probabilities, best[:, -1] - best[:, -2], 5)
    assert len(set(chosen)) == 5
    assert set(range(140, 144)) <= set(chosen)
    assert sum(100 <= i < 140 for i in chosen) == 1


def test_images_that_are_scored_alike_come_once_each() -> None:
    assert sorted(teaching(np.full((6, 3), 1 / 3), np.zeros(6), 10)) == list(range(6))
    assert teaching(np.zeros((0, 3)), np.zeros(0), 10) == []
