"""The program with `mini`, the bundled model, on real images: a cat is a cat."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from clipcls import Classifier
from tests.e2e.conftest import ROOT, command

PHOTOS = ROOT / "examples" / "photos"
EXACT = ("--device", "cpu", "--precision", "fp32")
"""Some of these images are a close call, so the machine must not choose."""
NAMED_OTHERWISE = {"brick": "brick wall", "camera": "photographer", "galaxies": "stars"}


def predictions(*arguments: object) -> dict[str, str]:
    """Run `clipcls classify` with `mini` and return file name -> prediction."""
    done = subprocess.run(
        command("classify", *arguments, "--model", "mini", *EXACT, "--quiet"),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = csv.DictReader(done.stdout.splitlines())
    return {Path(row["path"]).name: row["prediction"] for row in rows}


def test_the_readme_shows_what_the_program_says_and_hides_no_mistake() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = dict(
        re.findall(r"^examples/photos/(\w+\.jpg),([\w ]+),0\.", readme, flags=re.MULTILINE)
    )
    found = predictions(PHOTOS, "--labels-file", ROOT / "examples" / "labels.txt")
    assert len(found) == 12
    assert shown == found
    own = {p.name: NAMED_OTHERWISE.get(p.stem, p.stem) for p in PHOTOS.glob("*.jpg")}
    assert {name for name in own if own[name] != found[name]} == {"brick.jpg", "grass.jpg"}


def test_the_comparison_in_the_readme_is_what_the_program_prints() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(
        r"```sh\nclipcls (evaluate examples/photos .*?)```\n\n```text\n(.*?)```", readme, re.DOTALL
    )
    assert shown is not None
    done = subprocess.run(
        command(*shlex.split(shown[1].replace("\\\n", "")), *EXACT, "--quiet"),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "80"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.rstrip() for line in done.stdout.splitlines()] == shown[2].splitlines()


@pytest.mark.parametrize(
    ("labels", "name", "expected"),
    [
        ("cat,dog,horse,bird,car", "cat.jpg", "cat"),
        ("dog,tree,rocket,ship", "rocket.jpg", "rocket"),
        ("tea,beer,cup of coffee,soup", "coffee.jpg", "cup of coffee"),
        ("animal,building,food", "cat.jpg", "animal"),
        ("animal,person,food", "astronaut.jpg", "person"),
    ],
)
def test_other_words_for_the_same_images(labels: str, name: str, expected: str) -> None:
    assert predictions(PHOTOS / name, "--labels", labels) == {name: expected}


def test_small_mirrored_and_sideways_images_are_what_they_were(tmp_path: Path) -> None:
    with Image.open(PHOTOS / "cat.jpg") as image:
        cat = image.convert("RGB")
    cat.resize((40, 40)).save(tmp_path / "small.png")
    ImageOps.mirror(cat).save(tmp_path / "mirrored.webp")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    cat.rotate(90, expand=True).save(tmp_path / "sideways.jpg", exif=exif)
    found = predictions(tmp_path, "--labels", "cat,truck,bird,flower,boat")
    assert found == dict.fromkeys(["small.png", "mirrored.webp", "sideways.jpg"], "cat")


def test_from_python_the_ranking_is_as_certain_as_the_image_is_clear() -> None:
    classifier = Classifier(["cat", "airplane"], model="mini")
    assert classifier.encoder.name == "mini"
    ranking = classifier(PHOTOS / "cat.jpg").ranking()
    assert [label for label, _ in ranking] == ["cat", "airplane"]
    assert ranking[0][1] > 0.9
