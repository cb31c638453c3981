"""The figures of `benchmarks/mini.py` against cases that can be counted by hand."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import mini
from tests.e2e.conftest import ROOT

SURE = np.array([[0.95, 0.05, 0], [0.94, 0.06, 0], [0.1, 0.3, 0.6], [0.2, 0.55, 0.25]], np.float32)
TARGET = np.array([0, 1, 2, 0])


def test_shares_and_their_interval() -> None:
    assert mini.top_k(SURE, TARGET, 1).tolist() == [True, False, True, False]
    assert mini.top_k(SURE, TARGET, 2).tolist() == [True, True, True, False]
    assert mini.with_interval(np.arange(1000) < 548) == "54.8 (51.7 to 57.9)"


def test_the_calibration_error_weighs_bins_by_their_images() -> None:
    # 0.95 and 0.94 share a bin, one of them right; 0.6 and 0.55 have bins of their own.
    expected = abs(0.5 - 0.945) / 2 + abs(1 - 0.6) / 4 + abs(0 - 0.55) / 4
    assert mini.calibration_error(SURE, TARGET) == pytest.approx(expected, abs=1e-6)
    certain = np.eye(3, dtype=np.float32)
    assert mini.calibration_error(certain, np.arange(3)) == pytest.approx(0)


def test_ranks_count_from_one_and_ties_against_the_image() -> None:
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.3, 0.2, 0.1]], np.float32)
    assert mini.ranks_of(scores, np.array([0, 1, 2])).tolist() == [1, 2, 3]


def test_captions_stay_with_their_image(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "test-00.tar", "w") as tar:
        for name in ("b", "a"):
            image = io.BytesIO()
            Image.new("RGB", (4 if name == "a" else 6, 4)).save(image, "JPEG")
            said = json.dumps({"captions": [name, name.upper()]}).encode()
            for suffix, data in ((".jpg", image.getvalue()), (".json", said)):
                info = tarfile.TarInfo(name + suffix)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    found = [(i.width, texts) for i, texts in mini.captioned([tmp_path / "test-00.tar"])]
    assert found == [(4, ["a", "A"]), (6, ["b", "B"])]


def test_any_tree_of_class_folders_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, photo in (("Cat", "cat"), ("space_rocket", "rocket"), ("dog", "")):
        folder = tmp_path / label / "deeper"
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("no image")
        if photo:
            data = (ROOT / "examples" / "photos" / f"{photo}.jpg").read_bytes()
            (folder / f"{photo}.jpg").write_bytes(data)
    (tmp_path / "dog" / "broken.jpg").write_bytes(b"no image")
    mini.main(["--only", "trees", "--tree", f"pets={tmp_path}"])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| pets, 2, 1 not readable | 3 | 100.0 (100.0 to 100.0) | 100.0 | 0.")


def test_an_empty_tree_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--tree pets=.*no folder with images"):
        mini.main(["--only", "trees", "--tree", f"pets={tmp_path}"])
