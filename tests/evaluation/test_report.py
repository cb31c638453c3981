"""An evaluation on disk: valid JSON without NaN, a row for each image, every plot."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipcls.errors import OptionError, OutputError
from clipcls.evaluation.bootstrap import Figure
from clipcls.evaluation.compare import Outcome, compare
from clipcls.evaluation.join import JoinReport
from clipcls.evaluation.metrics import Metrics
from clipcls.evaluation.report import (
    check_folder,
    comparison_document,
    document,
    write_json,
    write_report,
)
from tests.evaluation.made import example, multi_label_example, multi_label_outcome, outcome_of

PLOTS = {"classes", "precision_recall", "confusion", "reliability", "thresholds"}


def write(folder: Path, outcome: Outcome) -> dict[str, Any]:
    metrics = outcome.metrics()
    write_report(folder, outcome, metrics, document(outcome, metrics, JoinReport()))
    return read(folder / "metrics.json")


def write_metrics(folder: Path, outcome: Outcome, join: JoinReport) -> dict[str, Any]:
    write_json(folder / "metrics.json", document(outcome, outcome.metrics(), join))
    return read(folder / "metrics.json")


def read(file: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content: dict[str, Any] = json.loads(file.read_text("utf-8"), parse_constant=refuse)
    return content


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def plots(folder: Path) -> set[str]:
    for file in folder.glob("*.png"):
        with Image.open(file) as image:
            image.verify()
    return {file.stem for file in folder.glob("*.png")}


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize(
    ("labels", "images", "options"),
    [
        (2, 40, {}),
        (30, 50, {"absent": True}),
        (1, 1, {}),
    ],
)
def test_a_report_is_whole(
    tmp_path: Path, labels: int, images: int, options: dict[str, bool]
) -> None:
    scores = example(labels, images, **options)
    outcome = outcome_of(scores.ranks, scores.truth, threshold=0.4)
    content = write(tmp_path, outcome)
    assert list(content) == [
        *("schema", "clipcls", "name", "made_by", "multi_label", "labels", "images", "headline"),
        *("averages", "per_class", "resamples", "confusion", "calibration", "thresholds"),
    ]
    assert (content["schema"], content["name"], content["multi_label"]) == (1, "base", False)
    assert content["labels"] == list(outcome.labels)
    for figure in content["headline"].values():
        assert set(figure) == {"value", "low", "high", "method"}
    assert np.isfinite(numbers(content)).all()
    assert [row["label"] for row in content["per_class"]] == content["labels"]
    assert content["confusion"]["columns"] == [*outcome.labels, "unknown"]
    assert np.array(content["confusion"]["counts"]).shape == (labels, labels + 1)
    assert np.sum(content["confusion"]["counts"]) == images
    assert (len(content["calibration"]), len(content["thresholds"])) == (15, 101)
    assert plots(tmp_path) == PLOTS
    assert len(table(tmp_path)) == images


def test_what_is_undefined_is_null(tmp_path: Path) -> None:
    scores = example(3, 30, absent=True)
    content = write_metrics(tmp_path, outcome_of(scores.ranks, scores.truth), JoinReport())
    row = content["per_class"][2]
    assert row["support"] == 0
    assert row["recall"] is row["f1"] is row["roc_auc"] is row["average_precision"] is None


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    outcome = outcome_of(np.eye(2), [0, 1])
    metrics = Metrics(1, {"accuracy": Figure(1.0, np.nan, np.inf)}, (), {"macro": {"f1": np.nan}})
    write_json(tmp_path / "metrics.json", document(outcome, metrics, JoinReport()))
    content = read(tmp_path / "metrics.json")
    assert content["headline"]["accuracy"] == {
        "value": 1.0,
        "low": None,
        "high": None,
        "method": "bootstrap",
    }
    assert content["averages"] == {"macro": {"f1": None}}


def test_each_image_has_a_row_also_a_failed_one(tmp_path: Path) -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [0.1, 0.0]])
    write(tmp_path, outcome_of(logits, [0, 0, 1], failed=[1], threshold=0.8))
    columns = ["path", "truth", "prediction", "probability", "label 0", "label 1", "note", "error"]
    rows = table(tmp_path)
    assert [list(row) for row in rows] == [columns] * 3
    assert [",".join(row.values()) for row in rows] == [
        "0.jpg,label 0,label 0,0.880797,0.880797,0.119203,,",
        "1.jpg,label 0,,,,,,corrupt",
        "2.jpg,label 1,unknown,0.524979,0.524979,0.475021,,",
    ]


def test_failures_and_what_did_not_join_are_counted(tmp_path: Path) -> None:
    scores = example(2, 20)
    join = JoinReport(
        notes=("guessed",),
        rows_without_image=("x.jpg",),
        ambiguous=(("1", "is several"),),
        unknown_values={"cat": 3},
        left_out=4,
    )
    outcome = outcome_of(scores.ranks, scores.truth, failed=[0, 5])
    images = write_metrics(tmp_path, outcome, join)["images"]
    right = outcome.scores().correct.sum()
    assert images.pop("accuracy_if_failures_are_wrong") == pytest.approx(right / 20)
    assert images == {
        "scored": 18,
        "failed": 2,
        "failures": [["0.jpg", "corrupt"], ["5.jpg", "corrupt"]],
        "rows_without_image": ["x.jpg"],
        "images_without_row": [],
        "ambiguous": [["1", "is several"]],
        "unknown_values": {"cat": 3},
        "without_truth": [],
        "not_by_chance": 0,
        "left_out": 4,
    }


def test_names_that_are_no_text_do_not_break_the_report(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg") if sys.platform != "win32" else "caf\udce9.jpg"
    join = JoinReport(
        rows_without_image=(name,),
        images_without_row=(name,),
        ambiguous=((name, f"is like {name}"),),
        without_truth=(name,),
    )
    scores = example(2, 10)
    images = write_metrics(tmp_path, outcome_of(scores.ranks, scores.truth), join)["images"]
    assert images["without_truth"] == ["caf\\udce9.jpg"]
    assert images["ambiguous"] == [["caf\\udce9.jpg", "is like caf\\udce9.jpg"]]


@pytest.mark.parametrize(("labels", "images"), [(2, 40), (30, 60), (1, 1)])
def test_a_report_of_several_labels_is_whole(tmp_path: Path, labels: int, images: int) -> None:
    truth, probabilities = multi_label_example(labels, images)
    content = write(tmp_path, multi_label_outcome(truth, probabilities, failed=range(1, 3)))
    assert content["multi_label"] is True
    assert not {"confusion", "calibration", "thresholds"} & set(content)
    assert "accuracy_if_failures_are_wrong" not in content["images"]
    assert plots(tmp_path) == {"classes", "precision_recall"}
    rows = table(tmp_path)
    assert len(rows) == images
    expected = [";".join(f"label {i}" for i in np.flatnonzero(row)) for row in truth]
    assert [row["truth"] for row in rows] == expected


def compared(names: Sequence[str]) -> dict[str, Any]:
    scores = example(3, 40)
    outcomes = [outcome_of(scores.ranks, scores.truth, name=name) for name in names]
    outcomes[0] = outcome_of(-scores.ranks, scores.truth, name=names[0])
    documents = [document(outcome, outcome.metrics(), JoinReport()) for outcome in outcomes]
    return comparison_document(compare(outcomes), documents)


def test_a_comparison_is_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "comparison.json", compared(["a", "b", "c"]))
    content = read(tmp_path / "comparison.json")
    assert list(content) == [
        *("schema", "clipcls", "figure", "images", "ranking", "winner", "rivals", "pairs"),
        "variants",
    ]
    assert (content["schema"], content["figure"], content["images"]) == (1, "accuracy", 40)
    assert (content["ranking"], content["winner"]) == (["b", "c", "a"], None)
    assert content["rivals"] == ["c"]
    assert [variant["name"] for variant in content["variants"]] == ["a", "b", "c"]
    pair = content["pairs"][1]
    assert (pair["first"], pair["second"], pair["is_beyond_chance"]) == ("b", "a", True)
    assert set(pair["difference"]) == {"value", "low", "high", "method"}


def test_variants_have_a_folder_each(tmp_path: Path) -> None:
    scores = example(2, 10)
    outcome = outcome_of(scores.ranks, scores.truth, name="long one")
    metrics = outcome.metrics()
    content = document(outcome, metrics, JoinReport())
    # As after --overwrite.
    (tmp_path / "long one").mkdir()
    (tmp_path / "long one" / "metrics.json").write_text("old")
    write_report(tmp_path, outcome, metrics, content, own_folder=True)
    assert read(tmp_path / "long one" / "metrics.json")["name"] == "long one"
    assert plots(tmp_path / "long one") == PLOTS
    assert not (tmp_path / "metrics.json").exists()


def test_a_file_in_the_way_of_a_variants_folder_is_one_line(tmp_path: Path) -> None:
    scores = example(2, 10)
    outcome = outcome_of(scores.ranks, scores.truth, name="short")
    (tmp_path / "short").write_text("")
    metrics = outcome.metrics()
    content = document(outcome, metrics, JoinReport())
    with pytest.raises(OutputError, match="--report: cannot make .*short: File exists"):
        write_report(tmp_path, outcome, metrics, content, own_folder=True)


# --- the folder -----------------------------------------------------------------------------------


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b", overwrite=False)
    check_folder(tmp_path / "a" / "b", overwrite=False)
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["metrics.json", "comparison.json"])
def test_a_report_is_not_replaced_unless_asked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(OptionError, match=f"{name} exists: add --overwrite to replace it"):
        check_folder(tmp_path, overwrite=False)
    check_folder(tmp_path, overwrite=True)
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--report: cannot make .*: (File|Not a)") as caught:
        check_folder(tmp_path / place, overwrite=False)
    assert "\n" not in str(caught.value)


def test_json_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write .*x.json"):
        write_json(tmp_path / "none" / "x.json", {})
