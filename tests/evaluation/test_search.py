"""The search for templates and wordings: what it finds, and that it does not believe in luck."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipcls.errors import LabelError, OptionError
from clipcls.evaluation import search as searching
from clipcls.evaluation.search import FOLDS, Found, search
from clipcls.evaluation.trial import Trial
from clipcls.evaluation.truth import TruthOptions
from clipcls.labels import make_labels, read_labels
from clipcls.observer import Observer
from clipcls.prompts import load_templates
from clipcls.question import Inputs, ModelChoice
from clipcls.testing import FakeEncoder, save_colours

COLOURS = ("red", "green", "blue")
IMAGES = 60


class Heard(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """Images of three colours whose labels, a, b and c, name none; their truth is right."""
    paths = save_colours(tmp_path / "in", [COLOURS[i % 3] for i in range(IMAGES)])
    rows = [f"{path.name},{'abc'[i % 3]}" for i, path in enumerate(paths)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["image,label", *rows]) + "\n", encoding="utf-8")
    return Trial(
        inputs=Inputs((str(tmp_path / "in"),)),
        table=table,
        model=ModelChoice("mini"),
        templates=("a photo of a <>",),
        labels=make_labels(["a", "b", "c"]),
        truth=TruthOptions(),
    )


def wordings(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "wordings.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def found_with(trial: Trial, file: Path | None = None, observer: Observer | None = None) -> Found:
    return search(trial, file, observer, FakeEncoder())


def test_the_wordings_that_fit_are_found(trial: Trial, tmp_path: Path) -> None:
    file = wordings(tmp_path, "a=a thing", "a=something red", "b=green|a cup", "c=blue")
    found = found_with(trial, file)
    chosen = {label.name: label.wordings for label in found.labels}
    # With those two right, any wording of c will do, so its own stays.
    assert chosen == {"a": ("something red",), "b": ("green",), "c": ("c",)}
    assert [len(choices) for choices in found.choices] == [4, 4, 2]
    assert [choices[0] for choices in found.choices] == [("a",), ("b",), ("c",)]
    assert found.is_better
    assert found.after.value > 0.9 > found.before.value
    assert found.difference.value == pytest.approx(found.after.value - found.before.value)


def test_what_is_no_better_changes_nothing(trial: Trial, tmp_path: Path) -> None:
    named = make_labels({"a": "red", "b": "green", "c": "blue"})
    right = Trial(**{**vars(trial), "labels": named})
    found = found_with(right, wordings(tmp_path, "a=a red thing", "c=a blue thing"))
    assert not found.is_better
    assert (found.templates.name, found.chosen_in) == ("photo", FOLDS)
    assert found.default == found.templates
    assert found.labels == named
    assert found.difference.value == 0.0


def test_luck_is_not_taken_for_skill(trial: Trial, tmp_path: Path) -> None:
    """With labels drawn by chance, the best of many looks good where it was chosen, not beyond."""
    assert trial.table is not None
    names = [line.split(",")[0] for line in trial.table.read_text().splitlines()[1:]]
    file = wordings(tmp_path, *(f"{label}=thing {label}{i}" for label in "abc" for i in range(4)))
    claims, gaps = 0, []
    for seed in range(6):
        drawn = np.random.default_rng(seed).choice(list("abc"), IMAGES)
        rows = [f"{name},{label}" for name, label in zip(names, drawn, strict=True)]
        trial.table.write_text("\n".join(["image,label", *rows]) + "\n", encoding="utf-8")
        found = found_with(trial, file)
        claims += found.is_better
        gaps.append(found.ranking[0][1] - found.after.value)
    assert claims == 0
    assert np.mean(gaps) > 0


def test_what_is_written_is_what_classify_takes(trial: Trial, tmp_path: Path) -> None:
    found = found_with(trial, wordings(tmp_path, "a=red", "b=green", "c=blue, or so"))
    found.save(tmp_path / "out" / "found")
    folder = tmp_path / "out" / "found"
    assert read_labels(folder / searching.LABELS) == found.labels
    assert load_templates(str(folder / searching.TEMPLATES)) == found.templates.templates


def test_few_images_are_warned_of_and_fewer_are_refused(trial: Trial) -> None:
    heard = Heard()
    found_with(trial, observer=heard)
    assert heard.warnings == []
    few = Trial(**{**vars(trial), "truth": TruthOptions(limit=30)})
    found_with(few, observer=heard)
    assert [text for text in heard.warnings if "mostly luck" in text]
    with pytest.raises(OptionError, match="too few for 5 folds"):
        found_with(Trial(**{**vars(trial), "truth": TruthOptions(limit=9)}))


def test_what_would_be_too_much_is_left_out_or_refused(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found_with(trial).left_out == ()
    monkeypatch.setattr(searching, "MOST_PROMPTS", 200)
    found = found_with(trial)
    assert found.left_out == ("openai80",)
    assert "openai80" not in [templates.name for templates, _ in found.ranking]
    monkeypatch.setattr(searching, "MOST_SCORES", 1000)
    with pytest.raises(OptionError, match="--sample"):
        found_with(trial)


def test_a_wording_of_no_label_is_refused(trial: Trial, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"wordings.txt:2: there is no label 'd'"):
        found_with(trial, wordings(tmp_path, "a=red", "d=dog"))


def test_the_same_seed_finds_the_same(trial: Trial, tmp_path: Path) -> None:
    file = wordings(tmp_path, "a=red", "a=orange", "b=lime")
    assert vars(found_with(trial, file)) == vars(found_with(trial, file))
