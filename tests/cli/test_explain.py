"""`clipcls explain`: pictures, JSON, a folder of both, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipcls.heads import read_head
from clipcls.testing import COLOURS, save_colours
from tests.cli.conftest import Invoke

JOB = ("explain", "in", "--labels", "red,blue", "--model", "fast")


@pytest.fixture(autouse=True)
def _images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_colours(tmp_path / "in", ["red", "blue"])
    whole = Image.new("RGB", (64, 64), COLOURS["red"])
    whole.paste(COLOURS["blue"], (32, 0, 64, 64))
    whole.save("in/half.png")


def broken() -> None:
    Path("in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")


def test_the_json_says_what_was_asked_and_where_the_heat_is(invoke: Invoke) -> None:
    broken()
    result = invoke(*JOB)
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert content["prompts"]["red"] == ["a photo of a red"]
    images = {Path(image["path"]).name: image for image in content["images"]}
    assert list(images) == ["0-red.png", "1-blue.png", "broken.png", "half.png"]
    assert set(images["broken.png"]) == {"path", "error"}
    half = images["half.png"]
    whole = {"left": 0.0, "top": 0.0, "right": 1.0, "bottom": 1.0}
    assert half["seen"] == pytest.approx(whole, abs=0.02)
    assert sum(label["probability"] for label in half["labels"]) == pytest.approx(1, abs=1e-5)
    rows, columns = half["grid"]
    red = half["labels"][0]["heat"]
    assert (len(red), len(red[0])) == (rows, columns)
    assert all(row[0] > 0 > row[-1] for row in red)


def test_a_head_takes_the_place_of_prompts(invoke: Invoke) -> None:
    save_colours(Path("more"), ["red", "blue"] * 3)
    names = sorted(path.name for path in Path("more").iterdir())
    rows = [f"{name},{'first' if 'red' in name else 'second'}\n" for name in names]
    Path("truth.csv").write_text("file,label\n" + "".join(rows))
    asked = ("--labels", "first=red,second=blue", "--model", "fast")
    # So few are no reason to leave zero-shot, and its head decides by the same parts.
    learned = invoke("learn", "more", "truth.csv", *asked, "-o", "a.head.safetensors")
    assert learned.exit_code == 0, learned.stderr
    head = ("explain", "in", "--head", "a.head.safetensors")
    by_head, by_prompts = (
        json.loads(invoke(*job).stdout) for job in (head, ("explain", "in", *asked))
    )
    assert by_head["head"] == read_head(Path("a.head.safetensors")).digest
    assert by_prompts["head"] is None
    for one, other in zip(by_head["images"], by_prompts["images"], strict=True):
        for mine, yours in zip(one["labels"], other["labels"], strict=True):
            assert mine["label"] == yours["label"]
            np.testing.assert_allclose(mine["heat"], yours["heat"], atol=1e-3)
    refused = invoke(*head, "--model", "RN50", "-o", "why")
    assert refused.exit_code == 2
    assert "--head was learned for the model" in refused.stderr
    assert not Path("why").exists()
    assert "--labels and --head" in invoke(*head, "--labels", "a,b").stderr


def test_one_picture_has_a_row_per_image(invoke: Invoke) -> None:
    assert invoke(*JOB, "-o", "all.png", "-o", "all.json").exit_code == 0
    assert invoke("explain", "in/half.png", *JOB[2:], "-o", "one.png").exit_code == 0
    with Image.open("all.png") as several, Image.open("one.png") as one:
        assert several.width == pytest.approx(one.width, abs=4)
        assert several.height > 2.5 * one.height
    assert len(json.loads(Path("all.json").read_text(encoding="utf-8"))["images"]) == 3


def test_a_folder_has_a_picture_per_image_and_an_index(invoke: Invoke) -> None:
    broken()
    assert invoke(*JOB, "-o", "why").exit_code == 3
    names = sorted(path.name for path in Path("why").iterdir())
    assert names == ["000000.png", "000001.png", "000003.png", "index.json"]
    index = json.loads(Path("why/index.json").read_text(encoding="utf-8"))
    assert [image.get("picture") for image in index["images"]] == [
        "000000.png", "000001.png", None, "000003.png",
    ]  # fmt: skip
    for name in names[:3]:
        with Image.open(Path("why") / name) as picture:
            assert picture.format == "PNG"


def test_a_folder_is_replaced_only_when_asked_and_only_what_is_ours(invoke: Invoke) -> None:
    assert invoke(*JOB, "-o", "why").exit_code == 0
    again = invoke(*JOB, "-o", "why")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    Path("why/mine.txt").write_text("mine")
    one = ("explain", "in/half.png", *JOB[2:])
    assert invoke(*one, "-o", "why", "--overwrite").exit_code == 0
    names = sorted(path.name for path in Path("why").iterdir())
    assert names == ["000000.png", "index.json", "mine.txt"]


def test_the_same_picture_comes_out_twice(invoke: Invoke) -> None:
    for name in ("a.png", "b.png"):
        assert invoke(*JOB, "-o", name).exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.xlsx"], "says no format"),
        (["-o", "one", "-o", "two"], "names two folders"),
        (["-o", "in"], "no explanations of clipcls"),
        (["-o", "none/out.png"], "does not exist"),
        (["-o", "there.png"], "--overwrite"),
    ],
)
def test_what_cannot_be_written_is_refused_before_a_model_is_loaded(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    Path("there.png").write_bytes(b"")
    monkeypatch.setattr("clipcls.classifier.load_encoder", None)
    result = invoke(*JOB, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_too_many_rows_for_one_picture_are_refused(invoke: Invoke) -> None:
    result = invoke("explain", *["in/half.png"] * 21, *JOB[2:], "-o", "all.png")
    assert result.exit_code == 2
    assert "name a folder" in result.stderr


def test_without_an_explained_image_there_is_no_picture(invoke: Invoke) -> None:
    broken()
    result = invoke("explain", "in/broken.png", *JOB[2:], "-o", "out.png")
    assert result.exit_code == 3
    assert not Path("out.png").exists()
    assert "Written to" not in result.stderr


def test_the_last_line_says_where_it_was_written(invoke: Invoke) -> None:
    job = ("explain", "in/half.png", *JOB[2:], "-o", "-", "-o", "why", "-o", "out.png")
    result = invoke(*job)
    assert result.stderr.splitlines()[-1] == "Written to out.png, why"
    assert invoke(*job, "--overwrite", "--quiet").stderr == ""
