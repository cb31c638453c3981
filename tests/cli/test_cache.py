"""`clipcls cache`, and the flags of the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

RGB = ("--labels", "red,green,blue", "--device", "cpu")


def test_a_second_run_loads_no_model(
    invoke: Invoke, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = invoke("classify", colours, *RGB)

    def load(*_: object) -> None:
        raise AssertionError("no model is needed")

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    second = invoke("classify", colours, *RGB)
    assert second.exit_code == 0
    assert second.stdout == first.stdout
    assert "(7 from the cache)" in second.stderr
    anew = invoke("classify", colours, *RGB, "--no-cache")
    assert isinstance(anew.exception, AssertionError)


def test_the_cache_is_shown_pruned_and_cleared(invoke: Invoke, colours: Path) -> None:
    place = ("--cache-dir", colours.parent / "here")
    assert invoke("classify", colours, *RGB, *place).exit_code == 0
    shown = invoke("cache", *place)
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(str(colours.parent / "here"))
    # Equal images are one entry.
    assert lines[1].endswith("4 images")
    assert lines[2] == "prompts\t3"
    pruned = invoke("cache", "prune", "--max-size", "1KB", *place)
    assert "4 image embeddings deleted" in pruned.stderr
    cleared = invoke("cache", "clear", *place)
    assert (cleared.exit_code, cleared.stdout) == (0, "")
    assert "MB deleted" in cleared.stderr
    assert list((colours.parent / "here").iterdir()) == []


def test_looking_at_no_cache_makes_none(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("cache", "--cache-dir", tmp_path / "none")
    assert shown.exit_code == 0
    assert shown.stdout.endswith("0.0 MB\n")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "x", *RGB, "--no-cache", "--verify-cache"], "--no-cache contradicts"),
        (["cache", "prune", "--max-size", "much"], "give a number with KB, MB, GB or TB"),
        (["cache", "prune", "--max-size", "1MB", "--cache-dir", "/dev/null/x"], "cannot be used"),
    ],
)
def test_slips_are_one_line(invoke: Invoke, arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
