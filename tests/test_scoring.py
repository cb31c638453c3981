"""The maths, against its definitions written out in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from clipcls.errors import LabelError
from clipcls.options import Calibration, ScoringOptions
from clipcls.records import Embedded, Failure, Prediction
from clipcls.scoring import (
    Float32,
    Scorer,
    calibrated,
    check_labels_fit,
    class_matrix,
    score,
    sigmoid,
    softmax,
)

LOGITS = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 9)),
    elements=st.floats(-300, 300, width=32),
)


def unit(rows: object) -> Float32:
    array = np.asarray(rows, dtype=np.float64)
    units: np.ndarray[Any, np.dtype[np.float64]] = array / np.linalg.norm(
        array, axis=-1, keepdims=True
    )
    return units.astype(np.float32)


def scorer(**options: float | bool | Calibration) -> Scorer:
    return Scorer(
        labels=("a", "b", "c"),
        classes=np.eye(3, dtype=np.float32),
        scale=2.0,
        bias=-0.5,
        options=ScoringOptions(**options),  # type: ignore[arg-type]
    )


def test_a_class_embedding_is_the_normalised_mean_of_unit_vectors() -> None:
    texts = unit([[1, 0, 0], [0, 1, 0], [0, 3, 4]])
    classes = class_matrix(texts, [2, 1])
    np.testing.assert_allclose(classes[0], unit([1, 1, 0]), atol=1e-6)
    np.testing.assert_allclose(classes[1], unit([0, 3, 4]), atol=1e-6)
    assert classes.dtype == np.float32


def seen(vector: object) -> Embedded:
    return Embedded(0, "a.jpg", unit(vector), "a note")


def test_logits_use_the_models_scale_and_bias() -> None:
    found = scorer()(seen([1, 0, 0]))
    np.testing.assert_allclose(found.similarities, [1, 0, 0], atol=1e-7)
    np.testing.assert_allclose(found.logits, [1.5, -0.5, -0.5], atol=1e-6)
    expected = np.exp([2.0, 0, 0]) / np.exp([2.0, 0, 0]).sum()
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert (found.path, found.note, found.probability) == (
        "a.jpg",
        "a note",
        found.probabilities[0],
    )


def test_multi_label_scores_each_label_on_its_own() -> None:
    found = scorer(multi_label=True)(seen([1, 0, 0]))
    expected = 1 / (1 + np.exp(-np.array([1.5, -0.5, -0.5])))
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
@given(
    bias=st.floats(-20, 60, width=32),
    scale=st.floats(1, 1000, width=32),
    vector=npst.arrays(np.float32, 4, elements=st.floats(0.125, 1, width=32)),
    classes=npst.arrays(np.float32, (5, 4), elements=st.floats(0.125, 1, width=32)),
)
def test_the_prediction_has_the_highest_logit_however_high_they_are(
    multi_label: bool, bias: float, scale: float, vector: Float32, classes: Float32
) -> None:
    labels = ("a", "b", "c", "d", "e")
    options = ScoringOptions(multi_label=multi_label)
    found = Scorer(labels, unit(classes), scale, bias, options)(seen(vector))
    assert found.prediction == labels[found.logits.argmax()]
    names = [label for label, _ in found.ranking()]
    assert names == sorted(labels, key=lambda label: -found.logits[labels.index(label)])
    assert found.probability == found.probabilities[found.logits.argmax()]
    assert found.probabilities.dtype == np.float64


def test_a_saturated_sigmoid_still_knows_the_best() -> None:
    # CLIP's logits lie between 15 and 35, where a float32 sigmoid is 1.0 for every label.
    high = Scorer(
        ("dog", "cat"), unit([[1, 0.2], [1, 0]]), 100.0, 0.0, ScoringOptions(multi_label=True)
    )
    assert high(seen([1, 0])).prediction == "cat"


def test_failures_pass_through_in_their_place() -> None:
    failure = Failure(1, "b.jpg", "corrupt")
    records = list(score([seen([1, 0, 0]), failure, seen([0, 1, 0])], scorer()))
    assert records[1] is failure
    assert [r.prediction for r in records if isinstance(r, Prediction)] == ["a", "b"]


@given(LOGITS)
def test_softmax_rows_add_up_to_one_and_keep_the_order(logits: Float32) -> None:
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    best = logits[np.arange(len(logits)), probabilities.argmax(axis=1)]
    # Two logits closer than a float32 can tell apart after exp() may change places.
    np.testing.assert_allclose(best, logits.max(axis=1), atol=1e-5)


@given(LOGITS)
def test_sigmoid_is_bounded_and_symmetric(logits: Float32) -> None:
    probabilities = sigmoid(logits)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities + sigmoid(-logits), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "a"),
        ({"threshold": 0.5}, "a"),
        ({"threshold": 0.8}, "unknown"),
        ({"margin": 0.3}, "a"),
        ({"margin": 0.8}, "unknown"),
        ({"threshold": 0.5, "margin": 0.8}, "unknown"),
    ],
)
def test_threshold_and_margin_reject_weak_predictions(
    options: dict[str, float], expected: str
) -> None:
    # Softmax of (1.5, -0.5, -0.5): 0.787, 0.107, 0.107.
    assert scorer(**options)(seen([1, 0, 0])).prediction == expected


def test_equal_labels_go_to_the_first() -> None:
    assert scorer()(seen([1, 1, 1])).prediction == "a"


def calibration(
    temperature: float = 1.0, biases: tuple[float, ...] = (), threshold: float | None = None
) -> Calibration:
    prompts = tuple((label, (label,)) for label in "abc")
    return Calibration("fake", "print", prompts, temperature, biases, threshold)


@pytest.mark.parametrize("biases", [(), (0.5, -1.0, 3.0)])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_calibration_divides_by_the_temperature_and_adds_the_biases(
    temperature: float, biases: tuple[float, ...]
) -> None:
    found = scorer(calibration=calibration(temperature, biases))(seen([1, 0, 0]))
    logits = np.array([1.5, -0.5, -0.5]) / temperature + (biases or 0.0)
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.logits.dtype == np.float32
    assert found.prediction == "abc"[logits.argmax()]
    assert found.probability == pytest.approx(expected.max(), abs=1e-6)
    np.testing.assert_allclose(found.similarities, [1, 0, 0], atol=1e-7)


def test_many_images_are_calibrated_as_one_is() -> None:
    logits = np.random.default_rng(0).normal(0, 9, (20, 3)).astype(np.float32)
    fitted = calibration(1.7, (0.1, 0.2, -0.3))
    for row, expected in zip(calibrated(logits, fitted), logits, strict=True):
        np.testing.assert_array_equal(row, calibrated(expected, fitted))


@pytest.mark.parametrize(
    ("fitted", "explicit", "expected"),
    [
        (None, None, "a"),
        (0.7, None, "a"),
        (0.8, None, "unknown"),
        (0.8, 0.7, "a"),
        (0.8, 0.0, "a"),
        (0.7, 0.8, "unknown"),
        (None, 0.8, "unknown"),
    ],
)
def test_the_explicit_threshold_wins_over_that_of_the_calibration(
    fitted: float | None, explicit: float | None, expected: str
) -> None:
    options = {} if explicit is None else {"threshold": explicit}
    # Softmax of (1.5, -0.5, -0.5): 0.787, 0.107, 0.107.
    found = scorer(calibration=calibration(threshold=fitted), **options)(seen([1, 0, 0]))
    assert found.prediction == expected
    assert found.probability == pytest.approx(0.787, abs=1e-3)


def test_a_calibration_with_a_threshold_and_a_label_called_unknown_do_not_mix() -> None:
    check_labels_fit(["a", "unknown"], ScoringOptions(calibration=calibration()))
    with pytest.raises(LabelError, match="could not be told from a rejected image"):
        check_labels_fit(["a", "unknown"], ScoringOptions(calibration=calibration(threshold=0.5)))
