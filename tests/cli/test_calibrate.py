"""`clipcls calibrate` and `--calibration`: exit code, stdout, stderr, the file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from clipcls.testing import save_colours
from tests.cli.conftest import Invoke

LABELS = ("--labels", "red,green,blue", "--device", "cpu")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Sixty images whose colour is their label, one in six of them wrongly labelled."""
    colours = ["red", "green", "blue"] * 20
    save_colours(tmp_path / "images", colours)
    with (tmp_path / "truth.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label"])
        for i, colour in enumerate(colours):
            writer.writerow([f"{i}-{colour}.png", "red" if i % 6 == 1 else colour])
    return tmp_path


def test_the_file_is_what_classify_takes(invoke: Invoke, labelled: Path) -> None:
    calib = labelled / "calib.json"
    images, truth = labelled / "images", labelled / "truth.csv"
    result = invoke("calibrate", images, truth, *LABELS, "--coverage", "0.5", "-o", calib)
    assert result.exit_code == 0
    assert "Fitted on 30 images, judged on 30 others" in result.stdout
    assert "log loss" in result.stdout
    content = json.loads(calib.read_text())
    assert content["temperature"] > 0
    assert content["threshold"] is not None
    assert list(content["prompts"]) == ["red", "green", "blue"]
    assert (
        content["judged"]["after"]["log_loss"]["value"]
        <= (content["judged"]["before"]["log_loss"]["value"])
    )
    plain = invoke("classify", images, *LABELS)
    used = invoke("classify", images, *LABELS, "--calibration", calib)
    assert used.exit_code == 0
    before, after = (list(csv.DictReader(io.StringIO(r.stdout, newline=""))) for r in (plain, used))
    assert before[0]["red"] != after[0]["red"]
    named = {row["prediction"] for row in after}
    assert named <= {"red", "green", "blue", "unknown"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--labels", "red,green"), "was fitted for the labels red, green, blue"),
        (("--labels", "red=a crimson red,green,blue"), "was fitted for other prompts: of 'red'"),
        (("--labels", "red,green,blue", "-t", "<>"), "was fitted for other prompts"),
        (("--labels", "red,green,blue", "--model", "ViT-B/32"), "was fitted for the model"),
        (("--labels", "red,green,blue", "--decode", "exact"), "preprocessing, --fit or --decode:"),
        (("--labels", "red,green,blue", "--multi-label"), "contradict each other"),
    ],
)
def test_what_it_was_not_fitted_for_is_refused(
    invoke: Invoke, labelled: Path, changed: tuple[str, ...], message: str
) -> None:
    calib = labelled / "calib.json"
    images = labelled / "images"
    fitted = invoke("calibrate", images, labelled / "truth.csv", *LABELS, "-o", calib)
    assert fitted.exit_code == 0
    refused = invoke("classify", images, *changed, "--calibration", calib, "--device", "cpu")
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert refused.stdout == ""


def test_the_table_is_never_written_over(invoke: Invoke, labelled: Path) -> None:
    truth = labelled / "truth.csv"
    before = truth.read_bytes()
    given = ("calibrate", labelled / "images", truth, *LABELS, "-o", truth, "--overwrite")
    result = invoke(*given)
    assert result.exit_code == 2
    assert "is read by this run" in result.stderr
    assert truth.read_bytes() == before


def test_an_explicit_threshold_goes_first(invoke: Invoke, labelled: Path) -> None:
    calib = labelled / "calib.json"
    images = labelled / "images"
    invoke("calibrate", images, labelled / "truth.csv", *LABELS, "--coverage", "0.2", "-o", calib)
    use = ("classify", images, *LABELS, "--calibration", calib)
    assert "unknown" not in invoke(*use, "--threshold", "0").stdout


def test_evaluate_takes_a_calibration_too(invoke: Invoke, labelled: Path) -> None:
    calib = labelled / "calib.json"
    given = (labelled / "images", labelled / "truth.csv", *LABELS)
    invoke("calibrate", *given, "-o", calib)
    plain = json.loads(invoke("evaluate", *given, "--json").stdout)
    used = json.loads(invoke("evaluate", *given, "--json", "--calibration", calib).stdout)
    loss = [found["headline"]["log_loss"]["value"] for found in (plain, used)]
    assert loss[1] < loss[0]
    accuracy = [found["headline"]["accuracy"]["value"] for found in (plain, used)]
    assert accuracy[1] == accuracy[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images", "truth.csv"], "--output"),
        (["images", "-o", "c.json"], "1 of them is given"),
        (["images", "truth.csv", "-o", "none/c.json"], "the folder none does not exist"),
        (["images", "truth.csv", "-o", "truth.csv"], "truth.csv exists: --overwrite"),
        (["images", "truth.csv", "-o", "c.json", "--precision", "2"], "--precision is 2.0"),
        (
            ["images", "truth.csv", "-o", "c.json", "--precision", "0.9", "--coverage", "0.5"],
            "--precision and --coverage contradict each other",
        ),
        (["images", "truth.csv", "-o", "c.json", "--held-out", "1"], "--held-out is 1.0"),
    ],
)
def test_a_slip_is_one_line_and_loads_nothing(
    invoke: Invoke,
    labelled: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("nothing is to be loaded")

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    monkeypatch.chdir(labelled)
    result = invoke("calibrate", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (labelled / "c.json").exists()


def test_a_wish_that_cannot_be_met_says_what_can(invoke: Invoke, labelled: Path) -> None:
    # Of each colour, every second one is called by the next colour's name.
    names = ["red", "green", "blue"]
    rows = [f"{i}-{names[i % 3]}.png,{names[(i + i // 3 % 2) % 3]}\n" for i in range(60)]
    (labelled / "half.csv").write_text("file,label\n" + "".join(rows))
    result = invoke(
        *("calibrate", labelled / "images", labelled / "half.csv", *LABELS),
        *("--precision", "0.999", "-o", labelled / "c.json"),
    )
    assert result.exit_code == 2
    assert "no threshold gives a precision of 0.999" in result.stderr
    assert "the highest is" in result.stderr
