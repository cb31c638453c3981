"""Calibrations: found again where they are known, judged on other images, refused elsewhere."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipcls.errors import CalibrationError, OptionError
from clipcls.evaluation.bootstrap import Bools, Floats, Ints
from clipcls.evaluation.calibration import (
    SHOWN,
    Calibrated,
    CalibrationOptions,
    calibrate,
    fit,
    read_calibration,
    split,
    write_calibration,
)
from clipcls.evaluation.metrics import measure
from clipcls.options import Calibration, ScoringOptions
from clipcls.records import UNKNOWN, Embedded, Prediction
from clipcls.scoring import Scorer, calibrated, softmax
from tests.evaluation.made import example, names, outcome_of, scores_of


def drawn(
    images: int, temperature: float, biases: Floats | None = None, *, labels: int = 3, seed: int = 0
) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (images, labels)) * temperature
    shifted = logits / temperature + (0.0 if biases is None else biases)
    chances = softmax(shifted.astype(np.float32)).cumsum(axis=1)
    truth = (chances < rng.random(images)[:, None]).sum(axis=1)
    return logits, np.minimum(truth, labels - 1)


# --- the fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("labels", [2, 3, 10])
def test_a_known_temperature_is_found_again(temperature: float, labels: int) -> None:
    found, biases = fit(*drawn(4000, temperature, labels=labels))
    assert found == pytest.approx(temperature, rel=0.05)
    assert biases == ()


def test_known_biases_are_found_again() -> None:
    biases = np.array([1.0, 0.0, -0.7, -0.3])
    temperature, found = fit(*drawn(4000, 2.5, biases, labels=4), biases=True)
    assert temperature == pytest.approx(2.5, rel=0.08)
    assert np.array(found) - np.mean(found) == pytest.approx(biases, abs=0.15)


@pytest.mark.parametrize("biases", [False, True])
def test_no_other_temperature_and_biases_have_a_lower_loss(biases: bool) -> None:
    logits, truth = drawn(300, 2.0, np.array([0.5, 0.0, -0.5]))
    temperature, found = fit(logits, truth, biases=biases)

    def loss(temperature: float, shifts: Floats) -> float:
        scaled = logits / temperature + shifts
        norms = np.log(np.exp(scaled).sum(axis=1))
        own = scaled[np.arange(len(truth)), truth]
        prior = (shifts**2).sum() + np.log(temperature) ** 2
        return float((norms - own).mean() + prior / (2 * len(truth)))

    shifts = np.array(found) if biases else np.zeros(3)
    least = loss(temperature, shifts)
    rng = np.random.default_rng(0)
    for _ in range(50):
        nearby = shifts + rng.normal(0, 0.1, 3) if biases else shifts
        assert loss(temperature * float(np.exp(rng.normal(0, 0.1))), nearby) >= least - 1e-9


def test_a_label_without_examples_keeps_a_finite_bias() -> None:
    logits, truth = drawn(200, 1.0, labels=3)
    truth[truth == 2] = 0
    temperature, biases = fit(logits, truth, biases=True)
    assert np.isfinite([temperature, *biases]).all()
    assert -10 < biases[2] < min(biases[:2])


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong_have_a_finite_temperature(biases: bool, right: bool) -> None:
    logits = 2 * np.eye(3)[np.arange(30) % 3]
    temperature, found = fit(logits, (np.arange(30) + (not right)) % 3, biases=biases)
    assert 0.001 < temperature < 1000
    assert np.isfinite(found).all()
    assert (temperature < 1) == right


def test_a_single_label_needs_no_temperature() -> None:
    assert fit(np.arange(5.0)[:, None], np.zeros(5, dtype=np.int64)) == (1.0, ())


# --- the split ------------------------------------------------------------------------------------


@pytest.mark.parametrize("held_out", [0.2, 0.5, 0.9])
def test_every_label_is_split_by_the_same_share(held_out: float) -> None:
    truth = np.repeat([0, 1, 2, 3, 4], [101, 40, 7, 2, 1])
    held = split(truth, held_out, 0)
    for label in range(5):
        own = truth == label
        assert abs(held[own].sum() - held_out * own.sum()) < 1
    assert split(np.arange(2000), held_out, 0).mean() == pytest.approx(held_out, abs=0.05)


def test_the_seed_decides_the_split() -> None:
    truth = np.arange(60) % 3
    np.testing.assert_array_equal(split(truth, 0.5, 1), split(truth, 0.5, 1))
    assert (split(truth, 0.5, 1) != split(truth, 0.5, 2)).any()


# --- the judgement --------------------------------------------------------------------------------


def test_what_is_overconfident_gets_better_on_images_that_had_no_say() -> None:
    logits, truth = drawn(4000, 2.5)
    found = calibrate(outcome_of(logits, truth), CalibrationOptions())
    assert found.calibration.temperature == pytest.approx(2.5, rel=0.05)
    assert (found.calibration.threshold, found.coverage, found.kept_right) == (None, None, None)
    assert found.fitted + found.held_out == 4000
    assert tuple(found.before) == tuple(found.after) == SHOWN
    assert found.before["accuracy"] == found.after["accuracy"]
    for name in ("log_loss", "brier_score", "calibration_error"):
        assert found.after[name].value < found.before[name].value, name
    assert found.after["calibration_error"].value < 0.04


def test_the_figures_are_those_of_the_held_out_images() -> None:
    logits, truth = drawn(300, 2.0, np.array([1.0, 0, -1]))
    found = calibrate(outcome_of(logits, truth), CalibrationOptions(biases=True, seed=3))
    held = split(truth, 0.5, 3)
    logits = logits.astype(np.float32).astype(np.float64)
    temperature, biases = fit(logits[~held], truth[~held], biases=True)
    assert (found.calibration.temperature, found.calibration.biases) == (temperature, biases)
    expected = measure(scores_of(logits[held] / temperature + biases, truth[held])).headline
    before = measure(scores_of(logits[held], truth[held])).headline
    for name in SHOWN:
        assert found.after[name].value == pytest.approx(expected[name].value, abs=1e-5)
        assert found.before[name].value == pytest.approx(before[name].value, abs=1e-5)


def test_images_that_failed_take_no_part() -> None:
    logits, truth = drawn(100, 2.0)
    failed = range(0, 100, 7)
    found = calibrate(outcome_of(logits, truth, failed=failed), CalibrationOptions())
    assert found.fitted + found.held_out == 100 - len(failed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_handful_of_images_is_split_or_refused_in_one_line(images: int, seed: int) -> None:
    options = CalibrationOptions(seed=seed, biases=True)
    outcome = outcome_of(np.eye(3)[:images], np.arange(images))
    held = split(np.arange(images), 0.5, seed)
    if held.any() and not held.all():
        assert calibrate(outcome, options).held_out == held.sum()
        return
    with pytest.raises(CalibrationError, match=f"^{images} labelled images are too .* better"):
        calibrate(outcome, options)


def test_one_label_is_refused_but_for_a_threshold_for_the_unknown() -> None:
    outcome = outcome_of(np.ones((8, 1)), [0] * 8)
    with pytest.raises(CalibrationError, match="'label 0' is the only label.* with --labels"):
        calibrate(outcome, CalibrationOptions(coverage=0.5))
    records = [
        replace(record, p_unknown=0.1 + 0.5 * (i % 2))
        for i, record in enumerate(outcome.records)
        if isinstance(record, Prediction)
    ]
    truth = [("label 0",), (UNKNOWN,)] * 4
    found = calibrate(replace(outcome, records=records, truth=truth), CalibrationOptions())
    assert found.calibration.unknown_threshold == pytest.approx(0.35)


# --- the threshold --------------------------------------------------------------------------------


def kept_by(found: Calibrated, confidence: Floats) -> int:
    assert found.calibration.threshold is not None
    return int((confidence >= found.calibration.threshold).sum())


def fitting_part(found: Calibrated, logits: Floats, truth: Ints) -> tuple[Floats, Bools]:
    held = split(truth, 0.5, 0)
    scaled = calibrated(logits[~held].astype(np.float32), found.calibration)
    return softmax(scaled).max(axis=1), scaled.argmax(axis=1) == truth[~held]


@pytest.mark.parametrize("precision", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("ties", [False, True])
def test_the_threshold_is_the_lowest_with_the_wished_precision(
    precision: float, ties: bool
) -> None:
    logits, truth = drawn(600, 1.5)
    logits = np.rint(logits) if ties else logits
    found = calibrate(outcome_of(logits, truth), CalibrationOptions(precision=precision))
    confidence, right = fitting_part(found, logits, truth)
    threshold = found.calibration.threshold
    assert threshold is not None
    assert right[confidence >= threshold].mean() >= precision
    for lower in np.unique(confidence[confidence < threshold]):
        assert right[confidence >= lower].mean() < precision
    assert found.coverage is not None
    assert found.kept_right is not None
    assert found.kept_right.low <= found.kept_right.value <= found.kept_right.high


@pytest.mark.parametrize("coverage", [0.07, 0.3, 0.55, 0.56, 0.9, 0.999])
def test_the_threshold_keeps_the_wished_share(coverage: float) -> None:
    logits, truth = drawn(200, 1.5, labels=2)
    held = split(truth, 0.5, 0)
    found = calibrate(outcome_of(logits, truth), CalibrationOptions(coverage=coverage))
    confidence, _ = fitting_part(found, logits, truth)
    wished = math.ceil(round(coverage * 1000) * int((~held).sum()) / 1000)
    assert kept_by(found, confidence) == wished
    assert found.coverage is not None
    assert found.coverage.value == pytest.approx(coverage, abs=0.2)


@pytest.mark.parametrize("images", [20, 60, 100, 200])
def test_a_share_of_whole_images_keeps_so_many(images: int) -> None:
    # In floating point, 0.55 of 100 is a little more than 55.
    logits = np.stack([np.linspace(1, 2, images), np.zeros(images)], axis=1)
    options = CalibrationOptions(coverage=0.55, held_out=0.5)
    found = calibrate(outcome_of(logits, np.zeros(images, dtype=int)), options)
    confidence, _ = fitting_part(found, logits, np.zeros(images, dtype=np.int64))
    assert kept_by(found, confidence) == math.ceil(11 * images / 40)


def test_a_precision_that_no_threshold_has_is_one_line() -> None:
    logits = np.tile([1.0, 0.0], (40, 1))
    with pytest.raises(CalibrationError) as caught:
        calibrate(outcome_of(logits, np.arange(40) % 2), CalibrationOptions(precision=0.9))
    message = str(caught.value)
    assert "no threshold gives a precision of 0.9 on the 20 images" in message
    assert "the highest is 0.500, with 20 kept" in message
    assert "--precision" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": 0.9, "coverage": 0.5}, "--precision and --coverage contradict"),
        ({"precision": 1.5}, "--precision is 1.5: give a number between 0 and 1"),
        ({"coverage": 0.0}, "--coverage is 0.0"),
        ({"coverage": float("nan")}, "--coverage is nan"),
        ({"held_out": 1.0}, "--held-out is 1.0"),
    ],
)
def test_wishes_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CalibrationOptions(**options)  # type: ignore[arg-type]


def test_classifying_does_what_was_judged() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (400, 8)).astype(np.float32)
    classes = rng.normal(0, 1, (4, 8)).astype(np.float32)
    truth = (vectors @ classes.T + rng.normal(0, 2, (400, 4))).argmax(axis=1)

    def scored(options: ScoringOptions) -> list[Any]:
        scorer = Scorer(names(4), classes, 3.0, 0.0, options)
        return [scorer(Embedded(i, f"{i}.jpg", row)) for i, row in enumerate(vectors)]

    logits = np.stack([record.logits for record in scored(ScoringOptions())])
    found = calibrate(outcome_of(logits, truth), CalibrationOptions(biases=True, coverage=0.4))
    records = scored(ScoringOptions(calibration=found.calibration))
    held = split(truth, 0.5, 0)
    kept = np.array([record.prediction != UNKNOWN for record in records])
    assert kept[~held].sum() == math.ceil(0.4 * (~held).sum())
    assert found.coverage is not None
    assert kept[held].mean() == found.coverage.value


# --- the file -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> Calibrated:
    return calibrate(
        outcome_of(example(3, 80).ranks, example(3, 80).truth),
        CalibrationOptions(biases=True, coverage=0.5),
    )


def test_what_is_written_is_read_again(found: Calibrated, tmp_path: Path) -> None:
    file = tmp_path / "calib.json"
    for one in (
        found,
        replace(found, calibration=replace(found.calibration, biases=(), threshold=None)),
    ):
        write_calibration(file, one)
        assert read_calibration(file) == one.calibration


def test_the_file_says_what_was_judged(found: Calibrated, tmp_path: Path) -> None:
    write_calibration(tmp_path / "calib.json", found)
    content = json.loads((tmp_path / "calib.json").read_text())
    assert content["calibration"] == 1
    assert content["model"] == {"name": "fake", "fingerprint": "print"}
    assert content["prompts"]["label 1"] == ["a photo of a label 1"]
    assert set(content["biases"]) == set(content["prompts"])
    judged = content["judged"]
    assert judged["fitted"] + judged["held_out"] == 80
    assert judged["after"]["log_loss"]["low"] < judged["after"]["log_loss"]["high"]


MISSING = object()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("calibration", 2, "no calibration of version 1"),
        ("calibration", MISSING, "no calibration of version 1"),
        ("temperature", MISSING, "'temperature' is missing"),
        ("prompts", MISSING, "'prompts' is missing"),
        ("model", {}, "'name' is missing"),
        ("threshold", MISSING, "'threshold' is missing"),
        ("temperature", float("nan"), "its temperature is nan"),
        ("temperature", float("inf"), "its temperature is inf"),
        ("temperature", 0, "its temperature is 0"),
        ("temperature", -1, "its temperature is -1"),
        ("temperature", "warm", "damaged: .*warm"),
        ("temperature", None, "damaged"),
        ("temperature", 10**400, "damaged"),
        ("biases", {"label 0": 1.0, "cat": 2.0}, "'label 1' is missing"),
        ("biases", {f"label {i}": 1.0 for i in range(4)}, "biases are of other labels"),
        ("biases", dict.fromkeys(names(3), float("nan")), "a bias is no finite number"),
        ("biases", [1, 2, 3], "damaged"),
        ("threshold", float("nan"), "its threshold is nan"),
        ("threshold", 1.5, "its threshold is 1.5"),
        ("prompts", [], "damaged"),
        ("prompts", dict.fromkeys(names(3), []), "a label has no prompts"),
        ("model", "fake", "damaged"),
    ],
)
def test_a_damaged_file_is_one_line(
    found: Calibrated, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    content = found.document()
    del content[key]
    if value is not MISSING:
        content[key] = value
    file = tmp_path / "calib.json"
    file.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=message) as caught:
        read_calibration(file)
    assert str(caught.value).startswith(f"--calibration: {file} is ")
    assert "run clipcls calibrate again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"path,red\na.jpg,1\n"]
)
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "calib.json"
    file.write_bytes(content)
    with pytest.raises(CalibrationError, match="is no JSON: clipcls calibrate makes") as caught:
        read_calibration(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "3", "null", '{"schema": 1}'])
def test_other_json_is_no_calibration(tmp_path: Path, content: str) -> None:
    (tmp_path / "calib.json").write_text(content)
    with pytest.raises(CalibrationError, match="no calibration of version 1"):
        read_calibration(tmp_path / "calib.json")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="none.json cannot be read: No such file"):
        read_calibration(tmp_path / "none.json")
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_calibration(tmp_path)


def test_a_calibration_is_part_of_what_a_result_depends_on() -> None:
    one = Calibration("fake", "print", (("a", ("a",)),), 2.0)
    prints = [
        ScoringOptions(calibration=c).fingerprint()
        for c in (None, one, replace(one, temperature=2.1), replace(one, threshold=0.5))
    ]
    assert len(set(prints)) == 4
