"""The arithmetic of the speed benchmark, and a small run of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import speed
from benchmarks.speed import Bench, Contender, Run
from tests.e2e.conftest import ROOT

PHOTOS = ROOT / "examples" / "photos"


def test_limits_are_those_of_shared_and_of_separate_processors() -> None:
    assert speed.shared_limit(100, 25) == pytest.approx(20)
    assert speed.separate_limit(100, 25) == 25
    figures = {
        Contender("", "classify", "bf16"): Run(18, 0, 0, None),
        Contender("", "decode"): Run(100, 0, 0, None),
        Contender("", "encode", "bf16"): Run(25, 0, 0, None),
    }
    shared, separate = speed.limits(figures)[-2:]
    assert shared == "| shared cores, 1/(1/d + 1/e), bf16 | 100.0 | 25.0 | 20.0 | 0.90 |"
    assert separate == "| separate device, min(d, e), bf16 | 100.0 | 25.0 | 25.0 | 0.72 |"


def test_agreement_counts_the_best_labels_and_the_distances() -> None:
    share, apart = speed.agreement([[0.6, 0.4], [0.9, 0.1]], [[0.7, 0.3], [0.4, 0.6]])
    assert share == 0.5
    assert apart == pytest.approx(0.3)


def test_medians_and_ratios_make_the_row() -> None:
    runs = [Run(rate, 2 * rate, 100, [[0.4, 0.6]]) for rate in (9.0, 30.0, 12.0)]
    row = speed.line_of(speed.middle(runs), Run(6, 0, 0, [[0.6, 0.4]]), [9, 30, 12])
    assert row == "12.0 | 9.0 to 30.0 | 2.00 | 24.0 | 100 | 0.0 % | 2.0e-01"


class Scripted(Bench):
    """Answers in place of the processes that would load a model."""

    def contend(self, who: Contender, images: Sequence[Path]) -> Run | str:
        return "not here" if who.name == "loader" else Run(10, 1, 1, [[0.6, 0.4]])


def test_who_cannot_take_part_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    table = speed.contest(Scripted(tmp_path, [tmp_path / "a.jpg"], "m"))
    rows = [line for line in table if line.startswith("| (")]
    assert [("skipped: not here" in row) for row in rows] == [False, True, *[False] * 4]


def test_large_images_have_12_megapixels_and_mini_is_measured_alone(tmp_path: Path) -> None:
    bench = Scripted(tmp_path, [PHOTOS / "cat.jpg", PHOTOS / "rocket.jpg"], "m")
    assert len([line for line in speed.large(bench) if line.startswith("| (")]) == 5
    with Image.open(tmp_path / "large" / "001.jpg") as image:
        assert image.size == (4000, 3000)
    # Without decoding there is no limit to speak of.
    [same, other] = speed.mini(bench)[2:]
    assert same.endswith("| 100.0 % | 0.0e+00 |")
    assert other.endswith("| - | - |"), "another model has other answers"


def test_images_are_repeated_under_names_of_their_own(tmp_path: Path) -> None:
    links = command.repeated(PHOTOS, 30, tmp_path / "links")
    assert len(set(links)) == 30
    assert len({link.resolve() for link in links}) == 12
    with pytest.raises(SystemExit, match="there are no images"):
        command.repeated(tmp_path / "none", 3, tmp_path / "more")


@pytest.mark.slow
def test_everything_is_measured_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("cat.jpg", "rocket.jpg"):
        shutil.copy(PHOTOS / name, photos)
    output = tmp_path / "speed.md"
    small = ["--count", "6", "--runs", "1", "--model", "tiny", "--listed", "2000"]
    only = ["--only", "contest", "help", "memory", "cache"]
    command.main(["--images", str(photos), *small, *only, "--output", str(output)])
    written = output.read_text(encoding="utf-8")
    assert written.strip() == capsys.readouterr().out.strip()
    contest = [line.split(" | ") for line in written.splitlines() if line.startswith("| (")]
    assert len(contest) == 6
    for cells in contest:
        assert float(cells[1]) > 0
        if "decode only" in cells[0]:
            assert cells[6] == "-"
        else:
            assert float(cells[6].removesuffix(" %")) > 80
    for row in (
        *("| shared cores", "| separate device", "| `clipcls --help` |", "| 2,000 paths |"),
        *("| more |", "| second run, other labels |", "| third run, the first labels |"),
    ):
        assert row in written
