"""`clipcls prompts search`: what it prints and writes, and that `classify` takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipcls.testing import save_colours
from tests.cli.conftest import Invoke

JOB = ("prompts", "search", "in", "labels.csv", "--labels", "a,b", "--model", "fast")


@pytest.fixture(autouse=True)
def _images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = save_colours(tmp_path / "in", ["red", "blue"] * 6)
    rows = [f"{path.name},{'ab'[i % 2]}" for i, path in enumerate(paths)]
    Path("labels.csv").write_text("\n".join(["image,label", *rows]) + "\n", encoding="utf-8")
    Path("words.txt").write_text("a=yellow\na=red\nb=black|green\nb=blue\n", encoding="utf-8")


def test_what_is_found_goes_to_classify(invoke: Invoke) -> None:
    result = invoke(*JOB, "--wordings", "words.txt", "-o", "found")
    assert result.exit_code == 0
    assert "mostly luck" in result.stderr
    assert "chosen, on images that did not choose" in result.stdout
    [row] = [line for line in result.stdout.splitlines() if line.startswith("difference")]
    assert (row.count("points"), row.count("%")) == (2, 0)
    assert "33 choices of templates; the default is photo" in result.stdout
    assert "  a: yellow (one of 4; the default is a)\n" in result.stdout
    assert "  b: b (one of 5; the default)\n" in result.stdout
    files = ("--labels-file", "found/labels.json", "--templates", "found/templates.txt")
    scored = invoke("classify", "in", *files, "--model", "fast")
    assert scored.exit_code == 0
    predicted = [line.split(",")[1] for line in scored.stdout.splitlines()[1:]]
    assert predicted == ["a", "b"] * 6


def test_the_default_is_among_the_templates_that_are_shown(invoke: Invoke) -> None:
    job = [text.replace("a,b", "a=red,b=blue") for text in JOB]
    result = invoke(*job, "--template", "red <>", "-o", "found")
    assert "red <> (the default)" in result.stdout
    assert "and 23 more" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "labels.csv"], "labels.csv is no folder"),
        (["-o", "labels.csv/found/deep"], "labels.csv is no folder"),
        (["-o", "there"], "--overwrite"),
        (["-o", "found", "--wordings", "none.txt"], "cannot be read"),
        (["-o", "found", "--limit", "5"], "too few for 5 folds"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    invoke: Invoke, arguments: list[str], message: str
) -> None:
    Path("there").mkdir()
    Path("there/labels.json").write_text("{}")
    result = invoke(*JOB, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not Path("found").exists()


def test_one_label_with_examples_is_too_few(invoke: Invoke) -> None:
    rows = Path("labels.csv").read_text().splitlines()
    Path("labels.csv").write_text("\n".join(row for row in rows if not row.endswith(",b")) + "\n")
    result = invoke(*JOB, "-o", "found")
    assert result.exit_code == 2
    assert "two labels need 2 images each; the truth has '6 of a'" in result.stderr
    assert not Path("found").exists()
