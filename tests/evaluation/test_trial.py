"""From labelled images and a question to scored images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from clipcls.errors import CalibrationError, InputError, OptionError, TemplateError
from clipcls.evaluation.calibration import CalibrationOptions, calibrate
from clipcls.evaluation.compare import compare
from clipcls.evaluation.trial import Trial, evaluate
from clipcls.evaluation.truth import TruthOptions
from clipcls.evaluation.variants import Changes
from clipcls.labels import make_labels
from clipcls.observer import Observer
from clipcls.options import RuntimeOptions, ScoringOptions
from clipcls.question import Inputs, ModelChoice
from clipcls.records import Prediction, Record, RunReport
from clipcls.testing import FakeEncoder, save_colours

CPU = ModelChoice("mini", runtime=RuntimeOptions(device="cpu", batch_size=4, workers=1))
COLOURS = ["red", "green", "blue", "red", "yellow", "blue", "red"]


class Told(Observer):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.records: list[Record] = []
        self.reports: list[RunReport] = []

    def joined(self, lines: Iterable[str]) -> None:
        self.lines += lines

    def scored(self, record: Record) -> None:
        self.records.append(record)

    def finished(self, report: RunReport) -> None:
        self.reports.append(report)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for colour in ("red", "green", "blue"):
        save_colours(tmp_path / "sorted" / colour, [colour] * 4)
    return tmp_path / "sorted"


@pytest.fixture
def table(colours: Path, tmp_path: Path) -> Path:
    rows = [f"{i}-{colour}.png,{colour}" for i, colour in enumerate(COLOURS)]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["path,label", *rows, ""]))
    return file


def trial(images: Path, table: Path | None = None, **options: Any) -> Trial:
    options.setdefault("templates", ("a photo of <>",))
    return Trial(inputs=Inputs((str(images),)), table=table, model=CPU, **options)


def test_a_table_is_joined_and_scored(colours: Path, table: Path) -> None:
    told = Told()
    truth, [outcome] = evaluate(trial(colours, table), told, FakeEncoder())
    assert set(truth.names) == set(COLOURS)
    assert (outcome.name, outcome.labels) == ("base", truth.names)
    assert [values[0] for values in outcome.truth] == COLOURS
    assert [r.prediction for r in outcome.records if isinstance(r, Prediction)] == COLOURS
    assert outcome.metrics().headline["accuracy"].value == 1.0
    assert any("the labels are those of the truth" in line for line in told.lines)
    assert told.records == list(outcome.records)
    assert [(report.done, report.failed) for report in told.reports] == [(7, 0)]


def test_folders_are_a_truth_too(folders: Path) -> None:
    truth, [outcome] = evaluate(trial(folders), encoder=FakeEncoder())
    assert set(truth.names) == {"red", "green", "blue"}
    assert outcome.metrics().headline["accuracy"].value == 1.0
    assert len(outcome.records) == 12


def test_named_labels_decide_the_order_and_the_wordings(folders: Path) -> None:
    labels = make_labels({"red": "blue", "blue": "red", "green": "green", "none": "white"})
    truth, [outcome] = evaluate(trial(folders, labels=labels), encoder=FakeEncoder())
    assert truth.names == outcome.labels == ("red", "blue", "green", "none")
    metrics = outcome.metrics()
    assert metrics.headline["accuracy"].value == pytest.approx(1 / 3)
    assert metrics.per_class[3]["support"] == 0
    assert metrics.per_class[3]["recall"] is None


def test_variants_are_scored_beside_each_other_and_a_single_one_beside_the_base(
    folders: Path,
) -> None:
    wrong = make_labels({"red": "white", "green": "red", "blue": "green"})
    encoder = FakeEncoder()
    changes = {"wrong": Changes(labels=wrong)}
    _, outcomes = evaluate(trial(folders, changes=changes), encoder=encoder)
    assert [outcome.name for outcome in outcomes] == ["base", "wrong"]
    assert sum(encoder.batch_sizes) == 12
    assert outcomes[0].labels == outcomes[1].labels
    assert compare(outcomes).winner == "base"
    changes["short"] = Changes(templates=("<>",))
    _, outcomes = evaluate(trial(folders, changes=changes), encoder=FakeEncoder())
    assert [outcome.name for outcome in outcomes] == ["wrong", "short"]
    assert outcomes[1].made_by["prompts"]["red"] == ("red",)


def test_a_threshold_counts_unknown_as_wrong(folders: Path) -> None:
    scoring = ScoringOptions(threshold=1.0)
    _, [outcome] = evaluate(trial(folders, scoring=scoring), encoder=FakeEncoder())
    metrics = outcome.metrics()
    assert metrics.headline["accuracy"].value == 0.0
    assert metrics.confusion[:, -1].tolist() == [4, 4, 4]


def test_a_broken_image_is_a_failure_and_told(folders: Path) -> None:
    broken = folders / "red" / "1-red.png"
    broken.write_bytes(b"\x89PNG")
    told = Told()
    _, [outcome] = evaluate(trial(folders), told, FakeEncoder())
    assert [failure.path for failure in outcome.failures] == [str(broken)]
    assert told.reports[0].exit_code == 3
    assert outcome.metrics().images == 11


def test_a_calibration_is_fitted_applied_and_bound_to_its_question(folders: Path) -> None:
    encoder = FakeEncoder()
    _, [outcome] = evaluate(trial(folders), encoder=encoder)
    found = calibrate(outcome, CalibrationOptions(biases=True)).calibration
    scoring = ScoringOptions(calibration=found)
    _, [after] = evaluate(trial(folders, scoring=scoring), encoder=encoder)
    before = outcome.scores().ranks
    expected = before / found.temperature + found.biases
    assert after.scores().ranks == pytest.approx(expected, rel=1e-4, abs=1e-3)
    other = trial(folders, scoring=scoring, templates=("<>",))
    with pytest.raises(CalibrationError, match="of 'blue' it was 'a photo of blue' and is now"):
        evaluate(other, encoder=encoder)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"templates": ("no slot",)}, TemplateError, "no slot"),
        ({"labels": make_labels(["red", "blue"])}, OptionError, "'green' .* --ignore-unknown"),
        ({"changes": {"x": Changes(labels=make_labels(["cat"]))}}, OptionError, "4 rows.*--map"),
        ({"changes": {"x": Changes(templates=("no",))}}, TemplateError, "no"),
        (
            {
                "labels": make_labels(["red", "green", "blue"]),
                "truth": TruthOptions(mapping=(("red", "cat"),)),
            },
            OptionError,
            "--map red=cat: there is no label 'cat'; the labels are",
        ),
    ],
)
def test_what_is_written_wrongly_shows_before_an_image_is_embedded(
    folders: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    encoder = FakeEncoder()
    with pytest.raises(error, match=message) as caught:
        evaluate(trial(folders, **options), encoder=encoder)
    assert "\n" not in str(caught.value)
    assert encoder.batch_sizes == []


def test_a_table_that_is_not_there_is_one_line(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file: .*none.csv"):
        evaluate(trial(colours, tmp_path / "none.csv"), encoder=FakeEncoder())
