"""Outputs of `clipcls classify`, judged without a model."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipcls.classifier import ask
from clipcls.columns import Columns
from clipcls.errors import InputError, OptionError, UsageError
from clipcls.evaluation.compare import Outcome
from clipcls.evaluation.metrics import Metrics
from clipcls.evaluation.predictions import judge_predictions
from clipcls.evaluation.truth import TruthOptions
from clipcls.labels import make_labels
from clipcls.options import DecodeOptions, OutputFormat, OutputOptions, ScoringOptions
from clipcls.outputs import make_writer
from clipcls.outputs.manifest import manifest_path
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.records import Failure, Prediction, Record
from clipcls.run import Job, run
from clipcls.testing import FakeEncoder, save_colours

LABELS = "red,green,blue,yellow"
TRUE = ["red", "green", "blue", "red", "yellow", "blue", "red", "green", "yellow", "blue"]
SEEN = ["red", "green", "blue", "yellow", "yellow", "blue", "red", "black", "white", "green"]
FORMATS = [str(member) for member in OutputFormat]


def question(**scoring: float | bool) -> Question:
    return Question(make_labels(LABELS), ("a <> thing",), ScoringOptions(**scoring))  # type: ignore[arg-type]


def soft_encoder() -> FakeEncoder:
    # Six decimals of a probability near 0 are not enough for its logarithm.
    return FakeEncoder(logit_scale=3)


def pictures(folder: Path) -> Path:
    """Write images into a folder per true label, with a table beside them; one is no image."""
    for i, (truth, colour) in enumerate(zip(TRUE, SEEN, strict=True)):
        made = save_colours(folder / "pictures" / truth, [colour])[0]
        made.rename(made.with_name(f"{i}.png"))
    (folder / "pictures" / "red" / "broken.png").write_bytes(b"")
    lines = [f"{i}.png,{truth}" for i, truth in enumerate(TRUE)]
    (folder / "truth.csv").write_text("\n".join(["path,label", "broken.png,red", *lines]))
    return folder / "pictures"


def classified(folder: Path, asked: Question, output: OutputOptions) -> None:
    job = Job(Inputs((str(folder),)), asked, ModelChoice("fake"), output)
    run(job, encoder=soft_encoder())


def in_memory(outcome: Outcome, asked: Question, *, multi_label: bool = False) -> Outcome:
    """Return the same with the records that the encoder makes, before they were written."""
    classifier = ask(asked, ModelChoice("fake"), DecodeOptions(), soft_encoder())
    classifier.warn = lambda _: None
    records = list(classifier.classify([record.path for record in outcome.records]))
    return replace(outcome, records=records, multi_label=multi_label)


def figures(metrics: Metrics) -> dict[str, float]:
    return {name: figure.value for name, figure in metrics.headline.items()}


# ---- the figures


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_the_figures_are_those_of_the_records(
    tmp_path: Path, suffix: str, logits: bool, with_manifest: bool, threshold: float
) -> None:
    folder, path = pictures(tmp_path), tmp_path / f"out.{suffix}"
    asked = question(threshold=threshold)
    classified(folder, asked, OutputOptions(path, logits=logits))
    if not with_manifest:
        manifest_path(path).unlink()
    truth, outcome = judge_predictions(path, tmp_path / "truth.csv", TruthOptions())
    assert outcome.labels == truth.names == tuple(LABELS.split(","))
    assert [failure.path for failure in outcome.failures] == [str(folder / "red" / "broken.png")]
    assert [os.path.basename(ref.path) for ref in truth.refs[:3]] == [
        *("broken.png", "0.png", "1.png")
    ]
    expected = in_memory(outcome, asked).metrics()
    found = outcome.metrics()
    assert found.images == expected.images == 10
    assert figures(found) == pytest.approx(figures(expected), abs=1e-5)
    assert found.averages["macro"] == pytest.approx(expected.averages["macro"], abs=1e-5)
    assert found.confusion.tolist() == expected.confusion.tolist()
    assert bool(found.confusion[:, -1].sum()) is (threshold > 0)
    assert ("model" in outcome.made_by) is with_manifest


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("top_k", [2, 4])
@pytest.mark.parametrize("with_manifest", [True, False])
def test_what_ranks_alone_can_tell_is_that_of_the_records(
    tmp_path: Path, suffix: str, top_k: int, with_manifest: bool
) -> None:
    folder, path = pictures(tmp_path), tmp_path / f"out.{suffix}"
    classified(folder, question(), OutputOptions(path, top_k=top_k, similarities=True))
    if not with_manifest:
        manifest_path(path).unlink()
    _, outcome = judge_predictions(path, tmp_path / "truth.csv", TruthOptions())
    # Without the manifest, nothing says their order.
    assert sorted(outcome.labels) == sorted(LABELS.split(","))
    expected = replace(in_memory(outcome, question()), labels=tuple(LABELS.split(",")))
    found, known = figures(outcome.metrics()), figures(expected.metrics())
    assert "accuracy" in found
    assert found == pytest.approx({name: known[name] for name in found}, abs=1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
def test_several_labels_to_an_image(tmp_path: Path, suffix: str) -> None:
    folder, path = pictures(tmp_path), tmp_path / f"out.{suffix}"
    asked = question(multi_label=True)
    classified(folder, asked, OutputOptions(path))
    lines = [f"{i}.png,{truth};blue" for i, truth in enumerate(TRUE)]
    table = tmp_path / "several.csv"
    table.write_text("\n".join(["path,label", *lines, "broken.png,"]))
    truth, outcome = judge_predictions(path, table, TruthOptions(multi_label=True))
    assert truth.values[1] == ("green", "blue")
    assert len(outcome.failures) == 1
    expected = in_memory(outcome, asked, multi_label=True).metrics()
    assert figures(outcome.metrics()) == pytest.approx(figures(expected), abs=1e-5)


def test_several_labels_need_all_probabilities(tmp_path: Path) -> None:
    folder, path = pictures(tmp_path), tmp_path / "out.csv"
    classified(folder, question(), OutputOptions(path, top_k=2))
    with pytest.raises(OptionError, match=r"out.csv was written with --top-k.*: write it without"):
        judge_predictions(path, tmp_path / "truth.csv", TruthOptions(multi_label=True))


# ---- records that rounding blurs


def saved(folder: Path, records: list[Record], columns: Columns, suffix: str = "csv") -> Path:
    path, partial = folder / f"out.{suffix}", folder / "partial"
    with partial.open("w+b") as stream:
        writer = make_writer(OutputFormat(suffix), columns, stream)
        writer.start()
        if records:
            writer.write(records)
    writer.finish(partial, path, len(records))
    return path


def scored(path: str, labels: tuple[str, ...], values: list[float], best: int) -> Prediction:
    scores = np.array(values)
    single = scores.astype(np.float32)
    return Prediction(0, path, labels, labels[best], scores[best], scores, single, single)


def truth_table(folder: Path, *lines: str) -> Path:
    path = folder / "truth.csv"
    path.write_text("\n".join(["path,label", *lines]))
    return path


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("top", [1.0, 0.5, 1e-9])
def test_what_was_predicted_ranks_first_where_rounding_made_others_equal(
    tmp_path: Path, suffix: str, logits: bool, top: float
) -> None:
    labels = ("cat", "dog", "cow")
    records: list[Record] = [scored("a.png", labels, [top, top + 1e-10, top], 1)]
    path = saved(tmp_path, records, Columns(labels, logits=logits), suffix)
    _, outcome = judge_predictions(path, truth_table(tmp_path, "a.png,dog"), TruthOptions())
    record = outcome.records[0]
    assert isinstance(record, Prediction)
    assert record.ranking(1)[0][0] == "dog"
    assert outcome.scores().place.tolist() == [0]
    assert record.probabilities == pytest.approx([top] * 3, abs=1e-6)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("top_k", [None, 2])
def test_labels_may_be_called_as_the_columns_of_ranks(
    tmp_path: Path, suffix: str, top_k: int | None
) -> None:
    labels = ("probability_9", "label_1", "NA") if top_k is None else ("cat", "label_1x", "NA")
    records: list[Record] = [
        scored("a.png", labels, [0.1, 0.7, 0.2], 1),
        scored("b.png", labels, [0.1, 0.2, 0.7], 2),
    ]
    path = saved(tmp_path, records, Columns(labels, top_k=top_k), suffix)
    table = truth_table(tmp_path, f"a.png,{labels[1]}", "b.png,NA")
    _, outcome = judge_predictions(path, table, TruthOptions())
    assert figures(outcome.metrics())["accuracy"] == 1
    assert set(outcome.labels) <= set(labels)


# ---- the manifest


def test_a_manifest_of_another_output_is_not_believed(tmp_path: Path) -> None:
    folder, path = pictures(tmp_path), tmp_path / "out.csv"
    classified(folder, question(), OutputOptions(path))
    manifest = manifest_path(path)
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "prompts": {"cat": ["a cat"], "red": ["red"]}}))
    _, outcome = judge_predictions(path, tmp_path / "truth.csv", TruthOptions())
    assert outcome.labels == tuple(LABELS.split(","))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"manifest": 1}', "\0"])
def test_a_damaged_manifest_is_as_none(tmp_path: Path, content: str) -> None:
    folder, path = pictures(tmp_path), tmp_path / "out.csv"
    classified(folder, question(), OutputOptions(path))
    manifest_path(path).write_text(content)
    _, outcome = judge_predictions(path, tmp_path / "truth.csv", TruthOptions())
    assert len(outcome.records) == 11
    assert outcome.made_by == {"predictions": str(path)}


# ---- folders for truth


@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("moved", [True, False])
def test_the_folders_of_the_output_say_the_truth(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_manifest: bool,
    relative: bool,
    moved: bool,
) -> None:
    folder, path = pictures(tmp_path), tmp_path / "out.csv"
    monkeypatch.chdir(tmp_path)
    classified(Path("pictures") if relative else folder, question(), OutputOptions(path))
    if not with_manifest:
        manifest_path(path).unlink()
    if moved:
        # The images are not needed, so they need not be there.
        folder.rename(tmp_path / "elsewhere")
    truth, outcome = judge_predictions(path, None, TruthOptions())
    own = {os.path.basename(r.path): v[0] for r, v in zip(truth.refs, truth.values, strict=True)}
    assert own == {"broken.png": "red", **{f"{i}.png": name for i, name in enumerate(TRUE)}}
    assert len(outcome.records) == 11


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    save_colours(odd / "red", ["red"])
    path = tmp_path / "out.csv"
    classified(odd, question(), OutputOptions(path))
    truth, _ = judge_predictions(path, None, TruthOptions())
    assert truth.values == (("red",),)


# ---- what cannot be judged


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_output_without_rows(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, [], Columns(("cat", "dog")), suffix)
    with pytest.raises(InputError, match="holds no scored image"):
        judge_predictions(path, truth_table(tmp_path, "a.png,cat"), TruthOptions())


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("top_k", [None, 1])
def test_an_output_of_failures_alone(tmp_path: Path, suffix: str, top_k: int | None) -> None:
    records: list[Record] = [Failure(0, "a.png", "empty file")]
    path = saved(tmp_path, records, Columns(("cat", "dog"), top_k), suffix)
    table = truth_table(tmp_path, "a.png,cat")
    with pytest.raises(UsageError, match=r"no scored image|could be scored: a.png: empty file"):
        judge_predictions(path, table, TruthOptions())[1].metrics()


def test_a_truth_that_was_not_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, [scored("a.png", ("cat", "dog"), [1, 0], 0)], Columns(("cat", "dog")))
    with pytest.raises(OptionError, match=r"the truth 'cow' .* 'cat', 'dog': .* --map cow=LABEL"):
        judge_predictions(path, truth_table(tmp_path, "a.png,cow"), TruthOptions())


def test_what_is_no_output(tmp_path: Path) -> None:
    table = truth_table(tmp_path, "a.png,cow")
    with pytest.raises(InputError, match="no output of clipcls classify"):
        judge_predictions(table, table, TruthOptions())
    with pytest.raises(InputError, match="none.csv cannot be read"):
        judge_predictions(tmp_path / "none.csv", table, TruthOptions())
