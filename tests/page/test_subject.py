"""What a page shows, read from outputs and evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipcls.page.facts import facts_of
from clipcls.page.subject import Subject, read_subject, subject_of
from clipcls.records import Prediction
from tests.evaluation.made import example, multi_label_outcome, outcome_of
from tests.page.made import COLOURS, with_failure
from tests.page.made import subject_of as made_up

HEAD = "path,truth,prediction,probability,cat,dog,note,error\n"


def written(folder: Path, rows: str, head: str = HEAD) -> Path:
    path = folder / "predictions.csv"
    path.write_text(head + rows)
    return path


def test_the_truth_of_an_evaluation_is_read_with_its_predictions(tmp_path: Path) -> None:
    rows = "a,dog,cat,0.9,0.9,0.1,cut,\nb,cat,,,,,,corrupt\nc,cat,unknown,0.6,0.6,0.4,,\n"
    subject = read_subject(written(tmp_path, rows))
    assert subject.labels == ("cat", "dog")
    assert subject.truth == [("dog",), ("cat",), ("cat",)]
    assert not subject.multi_label
    first = subject.records[0]
    assert isinstance(first, Prediction)
    assert (first.prediction, first.note) == ("cat", "cut")
    assert facts_of(subject).reasons == (("corrupt", 1),)


def test_several_labels_to_an_image_are_told_by_the_semicolon(tmp_path: Path) -> None:
    rows = "a,cat;dog,cat,0.9,0.9,0.8,,\nb,,cat,0.2,0.2,0.1,,\n"
    subject = read_subject(written(tmp_path, rows))
    assert subject.multi_label
    assert subject.truth == [("cat", "dog"), ()]


def test_a_label_called_truth_is_a_label(tmp_path: Path) -> None:
    head = "path,prediction,probability,truth,lie,note,error\n"
    subject = read_subject(written(tmp_path, "a,truth,0.9,0.9,0.1,,\n", head))
    assert subject.truth is None
    assert subject.labels == ("truth", "lie")


@pytest.mark.parametrize("multi_label", [False, True])
def test_an_outcome_keeps_its_truth(multi_label: bool) -> None:
    scores = example(3, 12)
    outcome = (
        multi_label_outcome(scores.onehot, scores.probabilities)
        if multi_label
        else outcome_of(scores.ranks, scores.truth)
    )
    subject = subject_of(outcome, "Evaluation")
    assert subject.truth == outcome.truth
    assert subject.multi_label == multi_label
    facts = facts_of(subject)
    assert ("Model", "fake") in facts.known or multi_label
    assert facts.complete != multi_label


def test_long_lists_of_prompts_and_reasons_are_counted() -> None:
    subject = with_failure(made_up(["a.jpg"]), "b.jpg", "corrupt")
    prompts = {"red": [f"prompt {i}" for i in range(7)]}
    facts = facts_of(Subject("x", COLOURS, subject.records, made_by={"prompts": prompts}))
    assert facts.prompts[0] == ("red", ("prompt 0", "prompt 1", "prompt 2"), 4)
    assert facts.prompts[1] == ("green", (), 0)
    assert (facts.images, facts.failed, facts.complete) == (2, 1, False)


@pytest.mark.parametrize(
    ("scoring", "said"),
    [
        ({"words": None, "threshold": None}, "auto"),
        ({"words": "0f", "threshold": 0.4}, "words of your own, above 0.4"),
    ],
)
def test_the_head_of_the_page_tells_of_the_unknown(scoring: dict[str, object], said: str) -> None:
    made_by = {"scoring": {"unknown": scoring}}
    facts = facts_of(Subject("x", COLOURS, made_up(["a.jpg"]).records, made_by=made_by))
    assert ("Unknown", said) in facts.known
