"""Images of none of the labels: as a truth, in the figures, and as a threshold that is fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clipcls.errors import CalibrationError, InputError, LabelError, OptionError
from clipcls.evaluation.bootstrap import Floats
from clipcls.evaluation.calibration import (
    CalibrationOptions,
    calibrate,
    read_calibration,
    write_calibration,
)
from clipcls.evaluation.compare import Outcome, compare
from clipcls.evaluation.join import JoinReport
from clipcls.evaluation.report import document
from clipcls.evaluation.truth import TruthOptions
from clipcls.evaluation.unknown import best_threshold
from clipcls.records import UNKNOWN, Prediction
from tests.evaluation.made import outcome_of
from tests.evaluation.test_truth import single, truth_of


def with_unknown(known: int = 60, unknown: int = 40, *, gap: float = 1.0) -> Outcome:
    """An outcome of two labels whose last images are of none of them."""
    rng = np.random.default_rng(0)
    count = known + unknown
    outcome = outcome_of(rng.normal(0, 1, (count, 2)), [0] * count)
    of_none = np.arange(count) >= known
    shares = 1 / (1 + np.exp(-rng.normal(gap * of_none, 1.0)))
    records = [
        replace(record, p_unknown=float(share), prediction=UNKNOWN)
        if share > 0.7
        else replace(record, p_unknown=float(share))
        for record, share in zip(outcome.records, shares, strict=True)
        if isinstance(record, Prediction)
    ]
    truth = [(UNKNOWN,) if none else ("label 0",) for none in of_none]
    made_by = {"model": {"name": "m"}, "model_fingerprint": "f", "prompts": {"a": ["a"]}}
    return replace(outcome, records=records, truth=truth, made_by=made_by)


# --- the truth ------------------------------------------------------------------------------------


def test_the_truth_can_be_unknown(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ["cat", "Unknown", "dog", "unknown"], unknown=True)
    assert single(truth) == ["cat", UNKNOWN, "dog", UNKNOWN]
    assert truth.names == ("cat", "dog")


@pytest.mark.parametrize("labels", ["cat,dog", None])
def test_without_the_wish_it_is_no_label(tmp_path: Path, labels: str | None) -> None:
    with pytest.raises(OptionError, match="'unknown'"):
        truth_of(tmp_path, ["cat", "unknown"], labels)
    assert truth_of(tmp_path, ["cat", "unknown"], "cat,unknown").names == ("cat", "unknown")


@pytest.mark.parametrize("labels", ["cat,dog", None])
def test_every_other_truth_becomes_unknown(tmp_path: Path, labels: str | None) -> None:
    pairs = () if labels else (("c", "cat"), ("d", "dog"))
    cells = ["cat" if labels else "c", "bird", "dog" if labels else "d", "fish"]
    truth = truth_of(tmp_path, cells, labels, mapping=pairs, other_as_unknown=True)
    assert single(truth) == ["cat", UNKNOWN, "dog", UNKNOWN]
    assert truth.names == ("cat", "dog")


@pytest.mark.parametrize("unknown", [False, True])
def test_a_truth_can_be_mapped_to_unknown(tmp_path: Path, unknown: bool) -> None:
    pairs = (("bird", "Unknown"), ("c", "cat"))
    truth = truth_of(tmp_path, ["c", "bird", "dog"], "cat,dog", mapping=pairs, unknown=unknown)
    assert single(truth) == ["cat", UNKNOWN, "dog"]
    assert truth.names == ("cat", "dog")
    # Where the labels are found in the truth, it is one of them unless it was asked for.
    found = truth_of(tmp_path, ["c", "bird", "dog"], mapping=pairs, unknown=unknown)
    assert set(found.names) == {"cat", "dog"} | (set() if unknown else {"Unknown"})
    labels = truth_of(tmp_path, ["cat", "bird"], "cat,unknown", mapping=pairs)
    assert labels.names == ("cat", "unknown")


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs the labels"):
        truth_of(tmp_path, ["cat", "bird"], other_as_unknown=True)
    with pytest.raises(LabelError, match="label 'unknown' could not be told"):
        truth_of(tmp_path, ["cat", "bird"], "cat,unknown", other_as_unknown=True)
    with pytest.raises(InputError, match="no image is of a label: the truth of all 2 is 'bird'"):
        truth_of(tmp_path, ["bird", "bird"], "cat,dog", other_as_unknown=True)
    with pytest.raises(OptionError, match="contradict"):
        TruthOptions(other_as_unknown=True, ignore_unknown=True)
    with pytest.raises(OptionError, match="contradict"):
        TruthOptions(other_as_unknown=True, multi_label=True)


# --- the figures ----------------------------------------------------------------------------------


def test_the_figures_are_those_of_scikit_learn() -> None:
    outcome = with_unknown()
    found = outcome.unknown_figures()
    assert found is not None
    records = [record for record in outcome.records if isinstance(record, Prediction)]
    known = np.arange(100) < 60
    shares = np.array([record.p_unknown for record in records], dtype=np.float64)
    area = found.told_by["p_unknown"].roc_auc
    assert area.value == pytest.approx(roc_auc_score(known, -shares))
    assert area.low < area.value < area.high
    # The definition, written out: the 57th of the 60 known images is the last that must be kept.
    limit = np.sort(shares[known])[56]
    rate = found.told_by["p_unknown"].false_positive_rate
    assert rate == pytest.approx((shares[~known] <= limit).mean())
    assert found.unknown_found is not None
    assert found.unknown_found.value == pytest.approx((shares[~known] > 0.7).mean())
    assert found.known_kept.value == pytest.approx((shares[known] <= 0.7).mean())
    assert set(found.told_by) == {"p_unknown", "maximum_probability"}


def test_images_of_none_of_the_labels_count_in_no_other_figure() -> None:
    outcome = with_unknown()
    alone = replace(outcome, records=outcome.records[:60], truth=outcome.truth[:60])
    metrics, own = outcome.metrics(), alone.metrics()
    # As text, because a figure that is not known is not equal to itself.
    assert (metrics.images, str(metrics.headline)) == (60, str(own.headline))
    assert compare([outcome, replace(outcome, name="other")]).images == 60
    content = document(outcome, metrics, JoinReport())
    assert json.loads(json.dumps(content))["unknown"]["unknown"] == 40
    # Where there are none, what is kept of the others is all that can be said.
    found = document(alone, own, JoinReport())["unknown"]
    assert (found["unknown"], found["unknown_found"], found["told_by"]) == (0, None, {})
    kept = [r.prediction != UNKNOWN for r in alone.records if isinstance(r, Prediction)]
    assert found["known_kept"]["value"] == pytest.approx(np.mean(kept))
    plain = [replace(r, p_unknown=None) for r in alone.records if isinstance(r, Prediction)]
    assert "unknown" not in document(replace(alone, records=plain), own, JoinReport())


@pytest.mark.parametrize("by", ["unknown", "margin"])
def test_a_threshold_keeps_nothing_that_is_turned_down_for_another_reason(by: str) -> None:
    outcome = with_unknown()
    records = [record for record in outcome.records if isinstance(record, Prediction)]
    if by == "margin":
        records = [replace(record, p_unknown=None) for record in records]
        made_by = {**outcome.made_by, "scoring": {"margin": 0.1}}
        outcome = replace(outcome, records=records, made_by=made_by)
    assert outcome.turned_down_by == (by,)
    known = records[:60]
    kept = [record.prediction != UNKNOWN for record in known]
    assert 0 < sum(kept) < 60
    rows = outcome.metrics().thresholds
    assert rows[0]["coverage"] == pytest.approx(sum(kept) / 60)
    above = [r.probability >= 0.8 and own for r, own in zip(known, kept, strict=True)]
    assert rows[80]["coverage"] == pytest.approx(sum(above) / 60)


def test_without_words_only_the_highest_probability_is_judged() -> None:
    outcome = with_unknown()
    plain = [replace(r, p_unknown=None) for r in outcome.records if isinstance(r, Prediction)]
    found = replace(outcome, records=plain).unknown_figures()
    assert found is not None
    assert set(found.told_by) == {"maximum_probability"}


# --- the threshold --------------------------------------------------------------------------------


def mean_recall(
    threshold: float, shares: Floats, of_none: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> float:
    above = shares > threshold
    return float((above[of_none].mean() + (~above[~of_none]).mean()) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_tells_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    of_none = np.arange(50) % 3 == 0
    # Rounded, so that there are ties.
    shares = np.clip(rng.normal(0.4 + 0.2 * of_none, 0.2), 0, 1).round(1)
    found = mean_recall(best_threshold(shares, of_none), shares, of_none)
    assert found == pytest.approx(
        max(mean_recall(t, shares, of_none) for t in np.linspace(-0.05, 1, 22))
    )


def test_a_threshold_between_two_heaps_lies_between_them() -> None:
    shares = np.array([0.1, 0.2, 0.6, 0.9])
    assert best_threshold(shares, shares > 0.5) == pytest.approx(0.4)


def test_calibrate_fits_a_threshold_and_judges_it_on_others(tmp_path: Path) -> None:
    found = calibrate(with_unknown(400, 300, gap=3.0), CalibrationOptions())
    own = found.calibration.unknown_threshold
    # The heaps lie at log odds of 0 and 3.
    assert own is not None
    assert np.log(own / (1 - own)) == pytest.approx(1.5, abs=0.5)
    assert found.after["unknown_found"].value > 0.85
    assert found.after["known_kept"].value > 0.85
    # At the default, log odds of 0 are the limit: half of the known are turned down.
    assert found.before["unknown_found"].value > found.after["unknown_found"].value
    assert found.before["known_kept"].value == pytest.approx(0.5, abs=0.1)
    # A temperature changes no prediction, and what is turned down counts in neither accuracy.
    assert found.before["accuracy"].value == found.after["accuracy"].value
    assert found.fitted + found.held_out == 400
    file = tmp_path / "calib.json"
    write_calibration(file, found)
    assert read_calibration(file) == found.calibration
    assert json.loads(file.read_text())["judged"]["after"]["unknown_found"]["value"] > 0.85


def test_without_such_images_no_threshold_is_fitted() -> None:
    found = calibrate(with_unknown(60, 0), CalibrationOptions())
    assert found.calibration.unknown_threshold is None
    assert "unknown_found" not in found.after


def test_without_words_unknown_images_are_left_out_of_a_calibration() -> None:
    outcome = with_unknown()
    plain = [replace(r, p_unknown=None) for r in outcome.records if isinstance(r, Prediction)]
    found = calibrate(replace(outcome, records=plain), CalibrationOptions())
    assert found.calibration.unknown_threshold is None
    assert found.fitted + found.held_out == 60


def test_one_such_image_is_too_few() -> None:
    with pytest.raises(CalibrationError, match="1 images of none of the labels are too few"):
        calibrate(with_unknown(60, 1), CalibrationOptions())
