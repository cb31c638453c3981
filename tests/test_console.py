"""What a person sees: bars that fit, whatever the width and the encoding of the terminal."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from rich.cells import cell_len

from clipcls.console import TerminalObserver, Verbosity, show_image
from clipcls.records import Prediction, RunReport


def prediction(labels: tuple[str, ...]) -> Prediction:
    scores = np.linspace(1, 0, len(labels), dtype=np.float32)
    return Prediction(
        0, "photos/ü 眼鏡.jpg", labels, labels[0], 1.0, scores.astype(np.float64), scores, scores
    )


def shown(
    monkeypatch: pytest.MonkeyPatch,
    found: Prediction,
    *,
    columns: int = 80,
    encoding: str = "utf-8",
    terminal: bool = True,
) -> str:
    """Return what is shown of an image on a terminal of that width and encoding, or in a pipe."""
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding, errors="replace", newline="\n")
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "dumb")  # no colours
    monkeypatch.setenv("COLUMNS", str(columns))
    show_image(found)
    stream.flush()
    return buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [30, 41, 80, 200])
@pytest.mark.parametrize(
    "labels",
    [
        ("cat", "dog"),
        ("a person who wears glasses and a hat in the rain", "dog"),
        ("眼鏡をかけている人の写真、帽子なし", "帽子", "cat"),
        ("x" * 250, "y"),
    ],
    ids=["short", "long", "wide", "longer-than-any-terminal"],
)
def test_bars_fit_the_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int, labels: tuple[str, ...]
) -> None:
    lines = shown(monkeypatch, prediction(labels), columns=width).splitlines()
    assert max(map(cell_len, lines)) <= width
    [first] = [line for line in lines if "1.0000" in line]
    bars = [line for line in lines if "█" in line]
    assert first in bars
    assert first.count("█") >= 8
    whole = [i for i, line in enumerate(lines) if line.count("█") == first.count("█")]
    assert len(whole) == 1, "a bar was wrapped"
    letters = "".join(lines).replace(" ", "")
    assert labels[0].replace(" ", "")[:10] in letters


def test_a_sentence_in_a_pipe_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = prediction(("a person who wears glasses and a hat in the rain", "dog"))
    sentence = f"{found.path}: {found.prediction}"
    for terminal in (False, True):
        text = shown(monkeypatch, found, columns=30, terminal=terminal)
        assert (sentence in text.splitlines()) is not terminal


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_that_lacks_characters_shows_others(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    text = shown(monkeypatch, prediction(("眼鏡", "café")), encoding=encoding)
    assert ("█" in text, "#" in text) == (encoding == "utf-8", encoding != "utf-8")
    assert "1.0000" in text


def test_verbose_names_what_was_skipped_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    report = RunReport()
    report.skipped.update({"not an image": 2, "hidden": 1})
    report.skipped_paths = [("a/notes\n.txt", "not an image"), ("a/.b.png", "hidden")]
    for verbosity in (Verbosity.NORMAL, Verbosity.VERBOSE):
        TerminalObserver(verbosity).finished(report)
    normal, verbose = capsys.readouterr().err.split("Done: ")[:2]
    assert "Skipped: 2 not an image" in normal
    assert ".txt" not in normal
    assert "  a/notes\\n.txt: skipped, not an image" in verbose
    assert "  a/.b.png: skipped, hidden" in verbose


def test_a_stderr_that_cannot_be_written_to_costs_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    observer = TerminalObserver()
    observer.warned("something")
    observer.finished(RunReport())
