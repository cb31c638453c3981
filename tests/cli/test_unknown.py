"""`--unknown`: its flags, its column in every format, what a resumed run compares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipcls import read_results
from clipcls.outputs.manifest import manifest_path
from clipcls.testing import save_colours
from tests.cli.conftest import Invoke

CPU = ("--device", "cpu", "--labels", "red,blue", "-t", "<>")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    file = tmp_path / "words.txt"
    file.write_text("green\nyellow\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("extra", [(), ("--top-k", "1"), ("--logits", "--similarities")])
@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_every_format_has_the_column(
    invoke: Invoke, colours: Path, words: Path, tmp_path: Path, extension: str, extra: tuple[str]
) -> None:
    out = tmp_path / f"out.{extension}"
    (colours / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    asked = ("classify", colours, *CPU, *extra, "-o", out, "--unknown", "auto")
    result = invoke(*asked, "--unknown-words", words)
    assert result.exit_code == 3, result.output
    frame = read_results(out)
    assert list(frame.columns[-3:]) == ["p_unknown", "note", "error"]
    *scored, failed = frame["p_unknown"]
    assert failed != failed
    assert all(0 <= value <= 1 for value in scored)
    assert list(frame["prediction"] == "unknown") == [*(value > 0.5 for value in scored), False]
    assert list(frame["prediction"])[:5] == ["red", "unknown", "blue", "red", "unknown"]


def test_a_resumed_run_needs_the_same_words_and_threshold(
    invoke: Invoke, colours: Path, words: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    asked = ("classify", colours, *CPU, "-o", out, "--resume", "--unknown", "auto")
    own = (*asked, "--unknown-words", words)
    assert invoke(*own).exit_code == 0
    before = out.read_bytes()
    assert invoke(*own).exit_code == 0
    refused = invoke(*own, "--unknown-threshold", "0.4")
    assert (refused.exit_code, "--unknown-threshold was" in refused.stderr) == (2, True)
    assert "--unknown-words was given and is now not given" in invoke(*asked).stderr
    words.write_text("green\n", encoding="utf-8")
    assert "--unknown-words is another one" in invoke(*own).stderr
    assert out.read_bytes() == before


def test_the_manifest_names_the_lexicon(invoke: Invoke, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert invoke("classify", colours, *CPU, "-o", out, "--unknown", "auto").exit_code == 0
    manifest = json.loads(manifest_path(out).read_text())
    assert len(manifest["versions"]["lexicon"]) == 64
    assert manifest["scoring"]["unknown"] == {"words": None, "threshold": None}


def test_shards_are_merged_with_the_column(
    invoke: Invoke, colours: Path, words: Path, tmp_path: Path
) -> None:
    own = ("--unknown", "auto", "--unknown-words", words)
    whole, merged = tmp_path / "whole.csv", tmp_path / "merged.csv"
    assert invoke("classify", colours, *CPU, *own, "-o", whole).exit_code == 0
    parts = [tmp_path / f"part-{i}.csv" for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        asked = ("classify", colours, *CPU, *own, "-o", part, "--shard", f"{i}/2")
        assert invoke(*asked).exit_code == 0
    assert invoke("merge", merged, *parts).exit_code == 0
    assert merged.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--unknown-threshold", "0.4"), "--unknown-threshold needs --unknown auto"),
        (("--unknown-words", "words.txt"), "--unknown-words needs --unknown auto"),
        (("--unknown", "auto", "--unknown-words", "no.txt"), "no.txt: cannot be read"),
        (("--unknown", "auto", "--unknown-threshold", "2"), "--unknown-threshold is 2.0"),
        (("--unknown", "auto", "--multi-label"), "--unknown and --multi-label contradict"),
        (("--unknown", "auto", "--label", "unknown"), "the label 'unknown' could not be told"),
        (("--unknown", "auto", "--labels", "object,thing,matter,process,group"), "words FILE"),
        (("--label", "p_unknown"), "p_unknown"),
    ],
)
def test_a_slip_is_one_line(
    invoke: Invoke, colours: Path, flags: tuple[str, ...], said: str
) -> None:
    result = invoke("classify", colours, *CPU, *flags)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert result.stderr.startswith("Error: ")


@pytest.fixture
def truth(tmp_path: Path, colours: Path) -> Path:
    save_colours(colours, ["red", "green", "blue", "yellow"] * 5)
    file = tmp_path / "truth.csv"
    rows = [f"{path.name},{path.stem.partition('-')[2]}" for path in colours.iterdir()]
    file.write_text("\n".join(["image,label", *rows]), encoding="utf-8")
    return file


def test_evaluate_says_how_well_the_unknown_are_told(
    invoke: Invoke, colours: Path, words: Path, truth: Path, tmp_path: Path
) -> None:
    own = ("--unknown", "auto", "--unknown-words", words, "--other-as", "unknown")
    report = tmp_path / "report"
    result = invoke("evaluate", colours, truth, *CPU, *own, "--report", report)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "known images against" in text
    assert "With --unknown, of the known images: --threshold 0.5 keeps 100.0 %, 100.0 %" in text
    assert "share of the words 1.000" in text
    assert "highest probability" in text
    assert "p_unknown" not in text
    content = json.loads((report / "metrics.json").read_text())
    assert content["unknown"]["told_by"]["p_unknown"]["roc_auc"]["value"] == 1.0
    assert content["unknown"]["known_kept"]["value"] == 1.0
    assert content["headline"]["accuracy"]["value"] == 1.0
    # What it wrote can be shown and judged again, with the truth `unknown` in it.
    rows = report / "predictions.csv"
    assert invoke("report", rows, "-o", tmp_path / "page").exit_code == 0
    frame = read_results(rows)
    assert set(frame["truth"]) == {"red", "blue", "unknown"}
    again = tmp_path / "again.csv"
    frame[["path", "truth"]].to_csv(again, index=False)
    judged = invoke("evaluate", "--predictions", rows, again, "--json")
    assert judged.exit_code == 0, judged.output
    assert json.loads(judged.stdout)["unknown"]["unknown"] == content["unknown"]["unknown"]


def test_calibrate_fits_the_threshold_that_classify_uses(
    invoke: Invoke, colours: Path, words: Path, truth: Path, tmp_path: Path
) -> None:
    own = ("--unknown", "auto", "--unknown-words", words)
    file = tmp_path / "calib.json"
    asked = ("calibrate", colours, truth, *CPU, "-o", file, "--other-as", "unknown")
    refused = invoke(*asked)
    assert (refused.exit_code, "needs --unknown auto" in refused.stderr) == (2, True)
    result = invoke(*asked, *own)
    assert result.exit_code == 0, result.output
    threshold = json.loads(file.read_text())["unknown_threshold"]
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert f"Unknown threshold {threshold:.4f}, in place of 0.5" in lines
    assert any(line.startswith("accuracy, unknown aside ") for line in lines)
    [row] = [line for line in lines if line.startswith("unknown found")]
    assert row.count("100.0 %") >= 2
    out = tmp_path / "out.csv"
    assert invoke("classify", colours, *CPU, *own, "--calibration", file, "-o", out).exit_code == 0
    frame = read_results(out)
    assert list(frame["prediction"] == "unknown") == list(frame["p_unknown"] > threshold)


def test_calibrate_without_an_unknown_image_says_what_it_lacks(
    invoke: Invoke, colours: Path, words: Path, truth: Path, tmp_path: Path
) -> None:
    own = ("--unknown", "auto", "--unknown-words", words, "--ignore-unknown")
    file = tmp_path / "calib.json"
    result = invoke("calibrate", colours, truth, *CPU, *own, "-o", file)
    assert result.exit_code == 0, result.output
    assert json.loads(file.read_text())["unknown_threshold"] is None
    assert "No threshold for the unknown: no image is unknown in truth" in result.stdout
    plain = invoke("calibrate", colours, truth, *CPU, "--ignore-unknown", "-o", file, "--overwrite")
    assert "unknown" not in plain.stdout
