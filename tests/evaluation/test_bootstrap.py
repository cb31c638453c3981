"""Resamples, and intervals that hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from clipcls.evaluation import bootstrap as module
from clipcls.evaluation.bootstrap import (
    Floats,
    bootstrap,
    grouping,
    interval,
    means_of,
    ranking_figures,
    resamples,
    share_of,
)


def drawn(images: int, count: int, seed: int = 0) -> Floats:
    return np.concatenate(list(resamples(images, count, seed)))


@pytest.mark.parametrize("images", [1, 2, 7, 500])
def test_every_resample_has_as_many_images_as_there_are(images: int) -> None:
    weights = drawn(images, 40)
    assert weights.shape == (40, images)
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) == images).all()


def test_every_image_is_drawn_alike() -> None:
    assert drawn(20, 2000).mean(axis=0) == pytest.approx(np.ones(20), abs=0.1)


def test_the_seed_decides_the_resamples() -> None:
    np.testing.assert_array_equal(drawn(30, 50, seed=4), drawn(30, 50, seed=4))
    assert (drawn(30, 50, seed=4) != drawn(30, 50, seed=5)).any()


@pytest.mark.parametrize("chunk", [1, 90, 1000, 30 * 49])
def test_chunks_do_not_change_the_resamples(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(30, 50)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    np.testing.assert_array_equal(drawn(30, 50), whole)


def test_all_functions_see_the_same_resamples() -> None:
    values = np.random.default_rng(0).random(25)
    found = bootstrap([means_of({"a": values}), means_of({"b": values, "c": 2 * values})], 25, 80)
    assert set(found) == {"a", "b", "c"}
    np.testing.assert_allclose(found["a"], drawn(25, 80) @ values / 25)
    np.testing.assert_allclose(found["b"], found["a"])
    np.testing.assert_allclose(found["c"], 2 * found["a"])


def test_an_interval_leaves_out_what_is_undefined() -> None:
    values = np.r_[np.linspace(0, 1, 201), np.full(50, np.nan)]
    assert interval(values) == pytest.approx((0.025, 0.975))
    assert np.isnan(interval(np.full(3, np.nan))).all()


def test_weights_are_added_up_by_group() -> None:
    by_group = grouping(np.array([0, 2, 0, 2]), 4)
    found = by_group(np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, 0.0]]))
    np.testing.assert_array_equal(found, [[4, 0, 6, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize("images", [1, 2, 5, 100, 3000])
@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong_are_no_certainty(images: int, right: bool) -> None:
    found = share_of(np.full(images, right))
    wilson = binomtest(images * right, images).proportion_ci(method="wilson")
    assert (found.value, found.method) == (float(right), "wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=1e-6)


def test_the_interval_of_a_share_holds_it_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(1)
    found = [share_of(rng.random(100) < 0.8) for _ in range(300)]
    assert 0.92 <= np.mean([figure.low <= 0.8 <= figure.high for figure in found]) <= 0.98
    assert all(figure.low < figure.value < figure.high for figure in found)


def test_an_interval_narrows_with_the_root_of_the_images() -> None:
    rng = np.random.default_rng(0)
    few, many = (share_of(rng.random(images) < 0.8) for images in (100, 1600))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.2)


def test_without_an_example_nothing_is_known_of_a_ranking() -> None:
    figures = ranking_figures(np.zeros((4, 2), dtype=bool), np.zeros((4, 2)))
    found = bootstrap([figures], 4, 10)
    assert np.isnan(found["roc_auc"]).all()
    assert np.isnan(found["average_precision"]).all()
