"""The figures, against scikit-learn and against the plain loops that define them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from clipcls.evaluation import metrics as module
from clipcls.evaluation.bootstrap import Bools, Floats, Weighted
from clipcls.evaluation.metrics import Metrics, Scores, measure, measure_multi_label
from tests.evaluation.made import example, multi_label_example, names, scores_of

EXAMPLES: list[dict[str, Any]] = [
    {"labels": 2},
    {"labels": 2, "ties": True},
    {"labels": 2, "unknown": True},
    {"labels": 3},
    {"labels": 3, "absent": True},
    {"labels": 3, "absent": True, "unknown": True, "ties": True},
    {"labels": 10, "images": 200},
    {"labels": 10, "images": 40, "absent": True, "unknown": True},
    {"labels": 10, "ties": True},
    {"labels": 12, "images": 9},
]

MULTI_LABEL: list[dict[str, Any]] = [
    {"labels": 1},
    {"labels": 2, "ties": True},
    {"labels": 5},
    {"labels": 5, "absent": True, "ties": True},
]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 200)


def known_labels(scores: Scores) -> list[int]:
    return sorted(set(scores.truth.tolist()))


def calibration_error(scores: Scores) -> float:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for truth, probabilities in zip(scores.truth, scores.probabilities, strict=True):
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        bins[min(int(confidence * 15), 14)].append((confidence, best == truth))
    error = 0.0
    for inside in bins:
        if inside:
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            right = sum(hit for _, hit in inside) / len(inside)
            error += len(inside) / len(scores) * abs(mean - right)
    return error


def by_scikit_learn(scores: Scores) -> dict[str, float]:
    truth, predicted, known = scores.truth, scores.predicted, known_labels(scores)
    asked: dict[str, Any] = {"labels": known, "average": "macro", "zero_division": 0}
    columns = [(truth == i, scores.probabilities[:, i]) for i in known]
    every = list(range(len(scores.labels)))
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.recall_score(truth, predicted, **asked),
        "f1_macro": sk.f1_score(truth, predicted, **asked),
        "cohen_kappa": sk.cohen_kappa_score(truth, predicted),
        "log_loss": sk.log_loss(truth, scores.probabilities, labels=every),
        "roc_auc": np.mean([sk.roc_auc_score(own, column) for own, column in columns]),
        "average_precision": np.mean(
            [sk.average_precision_score(own, column) for own, column in columns]
        ),
        "brier_score": sk.brier_score_loss(truth, scores.probabilities[:, 1])
        if len(every) == 2
        else sk.brier_score_loss(truth, scores.probabilities, labels=every),
        "calibration_error": calibration_error(scores),
    }
    for k in (3, 5):
        if 2 * k < len(every):
            # Of equal labels, the first ranks higher; scikit-learn ranks the last one so.
            apart = scores.ranks - 1e-9 * np.arange(len(every))
            expected[f"top_{k}_accuracy"] = sk.top_k_accuracy_score(truth, apart, k=k, labels=every)
    return {name: float(value) for name, value in expected.items()}


def values(metrics: Metrics) -> dict[str, float]:
    return {name: figure.value for name, figure in metrics.headline.items()}


@pytest.mark.parametrize("case", EXAMPLES)
def test_the_headline_is_that_of_scikit_learn(case: dict[str, Any]) -> None:
    scores = example(**case)
    assert values(measure(scores)) == pytest.approx(by_scikit_learn(scores), abs=1e-9)


@pytest.mark.parametrize("case", EXAMPLES)
def test_the_classes_and_their_averages_are_those_of_scikit_learn(case: dict[str, Any]) -> None:
    scores = example(**case)
    found = measure(scores)
    truth, predicted, known = scores.truth, scores.predicted, known_labels(scores)
    every = list(range(len(scores.labels)))
    expected = sk.precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    for place, row in enumerate(found.per_class):
        assert row["label"] == scores.labels[place]
        precision, recall, f1, support = (column[place] for column in expected)
        taken = int((predicted == place).sum())
        assert (row["support"], row["predicted"]) == (support, taken)
        assert row["precision"] == (pytest.approx(precision) if taken else None)
        assert row["recall"] == (pytest.approx(recall) if support else None)
        assert row["f1"] == (pytest.approx(f1) if support else None)
    for average in ("macro", "weighted"):
        figures = sk.precision_recall_fscore_support(
            truth, predicted, labels=known, average=average, zero_division=0
        )
        own = found.averages[average]
        assert [own["precision"], own["recall"], own["f1"]] == pytest.approx(figures[:3])
    every_column = [*every, len(every)]
    confusion = sk.confusion_matrix(truth, predicted, labels=every_column)
    np.testing.assert_array_equal(found.confusion, confusion[:-1])


@pytest.mark.parametrize("case", EXAMPLES)
def test_a_class_without_examples_has_no_figures(case: dict[str, Any]) -> None:
    scores = example(**case)
    for place, row in enumerate(measure(scores).per_class):
        known = place in known_labels(scores)
        for key in ("recall", "f1", "roc_auc", "average_precision"):
            assert (row[key] is not None) == known, key


@pytest.mark.parametrize("case", MULTI_LABEL)
def test_several_labels_are_judged_as_by_scikit_learn(case: dict[str, Any]) -> None:
    truth, probabilities = multi_label_example(**case)
    found = measure_multi_label(names(truth.shape[1]), truth, probabilities)
    known, predicted = np.flatnonzero(truth.any(axis=0)), probabilities >= 0.5
    columns = [(truth[:, i], probabilities[:, i], predicted[:, i]) for i in known]
    expected = {
        "mean_average_precision": np.mean(
            [sk.average_precision_score(own, column) for own, column, _ in columns]
        ),
        "roc_auc": np.mean([sk.roc_auc_score(own, column) for own, column, _ in columns]),
        "f1_macro": np.mean([sk.f1_score(own, taken) for own, _, taken in columns]),
        "f1_micro": sk.f1_score(truth.ravel(), predicted.ravel()),
    }
    assert values(found) == pytest.approx(expected)
    for i, row in enumerate(found.per_class):
        if not row["support"]:
            assert (row["best_threshold"], row["best_f1"], row["f1"]) == (None, None, None)
            continue
        best = max(sk.f1_score(truth[:, i], probabilities[:, i] >= t) for t in probabilities[:, i])
        assert row["best_f1"] == pytest.approx(best)
        taken = probabilities[:, i] >= row["best_threshold"]
        assert sk.f1_score(truth[:, i], taken) == pytest.approx(best)
    assert (found.confusion.size, found.bins, found.thresholds) == (0, (), ())


# --- the figures as functions of weights ----------------------------------------------------------


class Weighing:
    """Takes the place of the bootstrap and computes the figures at certain weights instead."""

    def __init__(self, weights: Floats) -> None:
        self.weights = weights[None, :].astype(np.float64)
        self.found: dict[str, float] = {}

    def __call__(self, functions: Sequence[Weighted], images: int, count: int) -> dict[str, Floats]:
        drawn: dict[str, Floats] = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            for function in functions:
                drawn |= function(self.weights)
        self.found |= {name: float(value[0]) for name, value in drawn.items()}
        return drawn


def at_weights(
    scores: Scores, weights: Floats, monkeypatch: pytest.MonkeyPatch
) -> dict[str, float]:
    weighing = Weighing(weights)
    with monkeypatch.context() as patched:
        patched.setattr(module, "bootstrap", weighing)
        measure(scores)
    return weighing.found


@pytest.mark.parametrize("case", EXAMPLES)
def test_the_weighted_figures_at_ones_are_the_figures(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = example(**case)
    found = at_weights(scores, np.ones(len(scores)), monkeypatch)
    assert found == pytest.approx(values(measure(scores)), abs=1e-12)


def repeated(scores: Scores, weights: Floats) -> Scores:
    places = np.repeat(np.arange(len(scores)), weights.astype(int))
    return replace(
        scores,
        paths=tuple(scores.paths[i] for i in places),
        truth=scores.truth[places],
        predicted=scores.predicted[places],
        probabilities=scores.probabilities[places],
        ranks=scores.ranks[places],
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("case", EXAMPLES)
def test_a_weight_counts_like_a_repeated_image(
    case: dict[str, Any], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = example(**case)
    weights = np.random.default_rng(seed).poisson(1.0, len(scores)).astype(float)
    found = at_weights(scores, weights, monkeypatch)
    assert found == pytest.approx(values(measure(repeated(scores, weights))), abs=1e-9)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("case", MULTI_LABEL)
def test_a_weight_counts_like_a_repeated_image_of_several_labels(
    case: dict[str, Any], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, probabilities = multi_label_example(**case)
    labels = names(truth.shape[1])
    counts = np.random.default_rng(seed).poisson(1.0, len(truth)) if seed else np.ones(60, int)
    expected = values(
        measure_multi_label(
            labels, np.repeat(truth, counts, axis=0), np.repeat(probabilities, counts, axis=0)
        )
    )
    weighing = Weighing(counts.astype(float))
    monkeypatch.setattr(module, "bootstrap", weighing)
    measure_multi_label(labels, truth, probabilities)
    weighing.found["mean_average_precision"] = weighing.found.pop("average_precision")
    assert weighing.found == pytest.approx(expected, abs=1e-9)


# --- intervals ------------------------------------------------------------------------------------


def test_every_interval_lies_around_its_figure() -> None:
    for name, figure in measure(example(10, images=300)).headline.items():
        assert figure.low < figure.high, name
        if name != "calibration_error":
            assert figure.low < figure.value < figure.high, name
    truth, probabilities = multi_label_example(4, images=200)
    for figure in measure_multi_label(names(4), truth, probabilities).headline.values():
        assert figure.low < figure.value < figure.high


def test_the_intervals_of_class_figures_hold_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:

    def drawn(rng: np.random.Generator, images: int) -> Scores:
        truth = rng.choice(3, images, p=[0.5, 0.3, 0.2])
        logits = rng.normal(0, 1, (images, 3))
        logits[np.arange(images), truth] += np.array([2.0, 1.5, 1.0])[truth]
        return scores_of(logits, truth)

    rng = np.random.default_rng(0)
    large = drawn(rng, 20_000)
    true = at_weights(large, np.ones(len(large)), monkeypatch)
    found = [measure(drawn(rng, 150)).headline for _ in range(160)]
    # 160 cases tell a share of 95 % to within 7 % (four standard deviations).
    for name in ("balanced_accuracy", "f1_macro", "cohen_kappa", "roc_auc", "log_loss"):
        held = np.mean([f[name].low <= true[name] <= f[name].high for f in found])
        assert held >= 0.88, name


def softened(rng: np.random.Generator, images: int, temperature: float) -> Scores:
    logits = rng.normal(0, 1.5, (images, 3))
    chances = scores_of(logits / temperature, [0] * images).probabilities.cumsum(axis=1)
    truth = np.minimum((chances < rng.random(images)[:, None]).sum(axis=1), 2)
    return scores_of(logits, truth)


def test_the_interval_of_the_calibration_error_makes_up_for_its_bias(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    large = softened(rng, 20_000, 2.0)
    true = at_weights(large, np.ones(len(large)), monkeypatch)["calibration_error"]
    off = [measure(softened(rng, 200, 2.0)).headline["calibration_error"] for _ in range(40)]
    assert np.mean([figure.low <= true <= figure.high for figure in off]) >= 0.85
    # The true error of these is 0, and none of their resamples has one so low.
    good = [measure(softened(rng, 200, 1.0)).headline["calibration_error"] for _ in range(20)]
    assert np.mean([figure.low < 0.01 for figure in good]) >= 0.4


def test_all_right_has_wilsons_interval_for_what_is_counted() -> None:
    logits = np.eye(7)[np.arange(70) % 7] * 3
    headline = measure(scores_of(logits, np.arange(70) % 7)).headline
    for name in ("accuracy", "top_3_accuracy"):
        assert headline[name].method == "wilson"
        assert headline[name].low == pytest.approx(0.948, abs=1e-3)


# --- what is hardly there -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "truth", "predicted"),
    [
        (1, [0], [0]),
        (1, [0, 0, 0], [0, 0, 0]),
        (1, [0, 0], [0, 1]),
        (2, [0], [0]),
        (2, [0], [1]),
        (2, [1], [2]),
        (2, [0, 1], [0, 1]),
        (2, [0, 1], [1, 0]),
        (2, [0, 0], [2, 2]),
        (3, [1, 1, 1, 1], [1, 1, 1, 1]),
        (3, [1, 1, 1, 1], [0, 2, 0, 2]),
        (3, [1, 1, 1, 1], [1, 1, 2, 3]),
        (30, [4, 9], [9, 9]),
    ],
)
def test_few_images_and_few_labels_are_no_error(
    labels: int, truth: list[int], predicted: list[int]
) -> None:
    logits = np.eye(labels + 1)[predicted][:, :labels] * 2
    scores = scores_of(logits, truth, np.array(predicted))
    found = measure(scores)
    right = np.mean(np.array(truth) == np.array(predicted))
    assert found.headline["accuracy"].value == right
    for figure in found.headline.values():
        assert np.isfinite(figure.value)
        # Where every resample is like the others, nothing is known of the error.
        assert np.isnan([figure.low, figure.high]).all() or figure.low < figure.high
    absent = [row for row in found.per_class if not row["support"]]
    assert all(row["recall"] is None and row["f1"] is None for row in absent)
    if len(set(truth)) == 1:
        assert "roc_auc" not in found.headline
    if len({*truth, *predicted}) == 1:
        assert "cohen_kappa" not in found.headline


@pytest.mark.parametrize(
    "truth",
    [
        [[True]],
        [[True, False]],
        [[False, False]],
        [[True, True], [True, True]],
        [[False, True], [False, False]],
        [[False], [False], [False]],
    ],
)
@pytest.mark.parametrize("probability", [0.2, 0.9])
def test_few_images_of_several_labels_are_no_error(
    truth: list[list[bool]], probability: float
) -> None:
    matrix: Bools = np.array(truth)
    found = measure_multi_label(names(matrix.shape[1]), matrix, np.full(matrix.shape, probability))
    for figure in found.headline.values():
        assert np.isfinite(figure.value)
        assert np.isnan([figure.low, figure.high]).all() or figure.low < figure.high
    assert ("mean_average_precision" in found.headline) == bool(matrix.any())
    if not matrix.any() and probability < 0.5:
        assert "f1_micro" not in found.headline


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no image was scored"):
        measure(scores_of(np.zeros((0, 2)), []))
    with pytest.raises(ValueError, match="no image was scored"):
        measure_multi_label(names(2), np.zeros((0, 2), dtype=bool), np.zeros((0, 2)))


def test_ranks_decide_where_probabilities_are_saturated() -> None:
    scores = replace(
        scores_of(np.array([[0.0, 0, 40, 50, 60, 10, 5], [0, 0, 0, 0, 0, 50, 60]]), [2, 6]),
        probabilities=np.ones((2, 7)),
    )
    assert scores.place.tolist() == [2, 0]
    assert measure(scores).headline["top_3_accuracy"].value == 1.0
    assert replace(scores, truth=np.array([3, 5])).place.tolist() == [1, 1]
    assert replace(scores, truth=np.array([5, 0])).place.tolist() == [3, 2]
    assert scores.confidence.tolist() == [1.0, 1.0]


def test_of_equal_labels_the_first_ranks_higher() -> None:
    scores = scores_of(np.zeros((3, 3)), [0, 1, 2])
    assert scores.place.tolist() == [0, 1, 2]
    assert scores.correct.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("labels", "expected"), [(2, []), (6, []), (7, [3]), (10, [3]), (11, [3, 5])]
)
def test_top_k_is_told_where_it_says_something(labels: int, expected: list[int]) -> None:
    found = measure(example(labels)).headline
    assert [k for k in range(12) if f"top_{k}_accuracy" in found] == expected


def test_unknown_labels_of_a_top_k_output_leave_out_what_needs_them() -> None:
    scores = example(12)
    above = np.sort(scores.ranks, axis=1)[:, [-3]]
    shown = scores.ranks >= above
    found = measure(
        replace(
            scores,
            probabilities=np.where(shown, scores.probabilities, np.nan),
            ranks=np.where(shown, scores.ranks, -np.inf),
        )
    ).headline
    whole = measure(scores).headline
    assert set(whole) - set(found) == {
        *("top_5_accuracy", "roc_auc", "average_precision", "log_loss", "brier_score")
    }
    assert all(found[name] == whole[name] for name in found)


# --- calibration and thresholds -------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [False, True])
def test_bins_and_thresholds_are_about_the_highest_label(unknown: bool) -> None:
    scores = example(3, unknown=unknown)
    found = measure(scores)
    right = scores.ranks.argmax(axis=1) == scores.truth
    confidence = scores.probabilities.max(axis=1)
    assert sum(row["images"] for row in found.bins) == len(scores)
    for row in found.bins:
        inside = (confidence >= row["low"]) & (confidence < row["high"])
        assert row["images"] == inside.sum()
        if inside.any():
            assert row["confidence"] == pytest.approx(confidence[inside].mean())
            assert row["accuracy"] == pytest.approx(right[inside].mean())
        else:
            assert (row["confidence"], row["accuracy"]) == (None, None)
    assert [row["threshold"] for row in found.thresholds] == [i / 100 for i in range(101)]
    for row in found.thresholds:
        kept = confidence >= row["threshold"]
        assert row["coverage"] == pytest.approx(kept.mean())
        assert row["accuracy"] == (pytest.approx(right[kept].mean()) if kept.any() else None)


def test_a_part_is_the_scores_of_its_images() -> None:
    scores = example(3)
    mask = scores.truth == 1
    part = scores.part(mask)
    assert len(part) == mask.sum()
    assert part.paths == tuple(f"{i}.jpg" for i in np.flatnonzero(mask))
    np.testing.assert_array_equal(part.ranks, scores.ranks[mask])
    assert measure(part).headline["accuracy"].value == scores.correct[mask].mean()
