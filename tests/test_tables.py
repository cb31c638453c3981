"""What the tables say in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clipcls.evaluation.bootstrap import Figure
from clipcls.evaluation.calibration import CalibrationOptions, calibrate
from clipcls.tables import show_calibration
from tests.evaluation.made import example, outcome_of


def share(value: float) -> Figure:
    return Figure(value, value, value, "bootstrap")


@pytest.mark.parametrize(("found_after", "is_better"), [(0.716, False), (0.8, True), (0.5, False)])
def test_a_threshold_for_the_unknown_that_gains_nothing_is_said(
    capsys: pytest.CaptureFixture[str], found_after: float, is_better: bool
) -> None:
    made = example(3, 40)
    found = calibrate(outcome_of(made.ranks, made.truth), CalibrationOptions())
    found = replace(
        found,
        calibration=replace(found.calibration, unknown_threshold=0.2582),
        before=found.before | {"known_kept": share(0.82), "unknown_found": share(0.368)},
        after=found.after | {"known_kept": share(0.472), "unknown_found": share(found_after)},
    )
    show_calibration(found, Path("calib.json"), unknown=True)
    text = capsys.readouterr().out
    assert "Unknown threshold 0.2582, in place of 0.5" in text
    assert ("no higher on the held-out images" not in text) == is_better
    assert (", and 59.4 % before" in text) != is_better


def test_one_other_image_is_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    made = example(3, 40)
    found = calibrate(outcome_of(made.ranks, made.truth), CalibrationOptions())
    show_calibration(replace(found, fitted=2, held_out=1), Path("calib.json"))
    assert "Fitted on 2 images, judged on 1 other\n" in capsys.readouterr().out


def test_a_path_is_quoted_for_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    made = example(3, 40)
    found = calibrate(outcome_of(made.ranks, made.truth), CalibrationOptions())
    show_calibration(found, Path("my calib.json"))
    assert "use it with --calibration 'my calib.json'\n" in capsys.readouterr().out
