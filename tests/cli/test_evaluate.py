"""`clipcls evaluate`: exit code, stdout, stderr, and the files of a report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipcls.inputs.decode import Decoded, Source, load_image
from clipcls.options import DecodeOptions
from clipcls.testing import save_colours
from tests.cli.conftest import Invoke

CPU = ("--device", "cpu")
GLASSES = ("--label-column", "glasses", "--map", "0=no-glasses,1=glasses")
FACES = ("--image-pattern", "face-{id}.png", *GLASSES)
WORDINGS = ("--labels", "no-glasses=blue,glasses=red")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """The layout of the Kaggle set "glasses or no glasses": 20 faces, red where there are some."""
    folder = tmp_path / "faces"
    glasses = [number % 3 == 0 for number in range(1, 21)]
    for old in save_colours(folder, ["red" if worn else "blue" for worn in glasses]):
        number = int(old.name.partition("-")[0]) + 1
        old.rename(folder / f"face-{number}.png")
    latent = [f"v{i}" for i in range(1, 513)]
    with (tmp_path / "train.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", *latent, "glasses"])
        for number, worn in enumerate(glasses, 1):
            writer.writerow([number, *(["0.123"] * 512), int(worn)])
    return tmp_path


def figures(stdout: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stdout)
    return found


def test_the_glasses_set_is_one_command(invoke: Invoke, faces: Path) -> None:
    result = invoke("evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS, *CPU)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "20 images, 2 labels, model ViT-B-32-256:datacomp_s34b_b86k"
    assert any(line.startswith("accuracy 100.0 % 83.9 to 100.0 %") for line in lines)
    assert any(line.startswith("no-glasses 14 100.0 %") for line in lines)
    assert "2 labels, 2 prompts, 20 images" in result.stderr


def test_the_first_so_many_and_a_random_choice(invoke: Invoke, faces: Path) -> None:
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS, *CPU, "--json")
    first = figures(invoke(*base, "--limit", "5").stdout)
    assert (first["images"]["scored"], first["images"]["left_out"]) == (5, 15)
    assert [row["support"] for row in first["per_class"]] == [4, 1]
    chosen = [figures(invoke(*base, "--sample", "7", "--seed", "3").stdout) for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert chosen[0]["images"]["scored"] == 7


def test_stdout_is_json_alone_and_quiet_is_quiet(invoke: Invoke, faces: Path) -> None:
    result = invoke(
        "evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS, "--json", "--quiet"
    )
    assert result.stderr == ""
    found = figures(result.stdout)
    assert found["headline"]["accuracy"]["value"] == 1.0
    assert found["confusion"]["counts"] == [[14, 0, 0], [0, 6, 0]]


def test_failures_are_counted_and_never_dropped(invoke: Invoke, faces: Path) -> None:
    (faces / "faces" / "face-2.png").write_bytes(b"")
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS)
    result = invoke(*base)
    assert result.exit_code == 3
    text = " ".join(result.stdout.split())
    assert "1 image failed and counted in no figure" in text
    assert "face-2.png: empty file" in text
    assert "taken for wrong, accuracy is 95.0 %" in text
    images = figures(invoke(*base, "--json").stdout)["images"]
    assert (images["scored"], images["failed"]) == (19, 1)
    assert images["failures"][0][1] == "empty file"
    assert images["accuracy_if_failures_are_wrong"] == pytest.approx(0.95)


def test_what_does_not_come_together_is_told(invoke: Invoke, colours: Path) -> None:
    (colours.parent / "truth.csv").write_text(
        "file;colour\n0-red.png;red\n1-green.png;green\nmissing.png;red\n2-blue.png;\n"
    )
    result = invoke("evaluate", colours, colours.parent / "truth.csv", *CPU)
    assert result.exit_code == 0
    assert "Images are named by the column 'file'" in result.stderr
    assert "The truth is the column 'colour'" in result.stderr
    assert "The labels are those of the truth: 'green', 'red'" in result.stderr
    assert "1 row without an image, left out: missing.png" in result.stderr
    assert "4 images without a row, left out" in result.stderr
    assert "1 image without a label, left out" in result.stderr


def test_a_folder_per_label_needs_no_table(invoke: Invoke, tmp_path: Path) -> None:
    save_colours(tmp_path / "red", ["red", "red", "blue"])
    save_colours(tmp_path / "blue" / "deep", ["blue"])
    found = figures(invoke("evaluate", tmp_path, "--from-folders", "--json", *CPU).stdout)
    assert found["labels"] == ["blue", "red"]
    assert found["headline"]["accuracy"]["value"] == 0.75


def test_class_without_images_shows_as_such(invoke: Invoke, colours: Path) -> None:
    (colours.parent / "truth.csv").write_text("file,label\n0-red.png,red\n1-green.png,green\n")
    base = ("evaluate", colours, colours.parent / "truth.csv", "--labels", "red,green,black", *CPU)
    row = next(line for line in invoke(*base).stdout.splitlines() if line.startswith("black"))
    assert "no images" in row
    assert " 0.0 %" not in row
    assert figures(invoke(*base, "--json").stdout)["per_class"][2]["recall"] is None


def test_variants_are_ranked_and_only_a_real_winner_is_named(invoke: Invoke, faces: Path) -> None:
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, *CPU)
    right = "right:labels=no-glasses=blue,glasses=red"
    wrong = "wrong:labels=no-glasses=red,glasses=blue"
    other = "other:labels=no-glasses=a blue one,glasses=a red one"
    told = invoke(*base, "--variant", wrong, "--variant", right)
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    names = [line.split()[0] for line in lines if line.startswith(("right", "wrong"))]
    assert names == ["right", "wrong"]
    assert "The winner is right: better than every other variant beyond chance." in lines
    # A difference of two percentages is no percentage.
    [behind] = [line for line in lines if line.startswith("wrong")]
    assert behind.startswith("wrong 0.0 % ")
    assert "100.0 points 100.0 to 100.0 points < 0.001" in behind
    equal = " ".join(invoke(*base, "--variant", right, "--variant", other).stdout.split())
    assert "No winner: with 20 images, right cannot be told from other." in equal


def test_one_variant_is_compared_with_the_flags(invoke: Invoke, faces: Path) -> None:
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS, "--json")
    found = figures(invoke(*base, "--variant", "bare:template=<>").stdout)
    assert [variant["name"] for variant in found["variants"]] == ["base", "bare"]
    assert found["winner"] is None


def test_a_variant_keeps_its_wordings_to_itself(invoke: Invoke, faces: Path) -> None:
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, "--json")
    worded = "worded:labels=no-glasses=blue,glasses=red"
    found = figures(invoke(*base, "--variant", worded, "--variant", "bare:template=<>").stdout)
    assert found["variants"][1]["made_by"]["prompts"] == {
        "no-glasses": ["no glasses"],
        "glasses": ["glasses"],
    }


def test_variants_from_a_file(invoke: Invoke, faces: Path) -> None:
    file = faces / "wordings.toml"
    file.write_text(
        '[right]\nlabels = { no-glasses = "blue", glasses = ["red", "very red"] }\n'
        '[bare]\ntemplate = ["<>", "a <>"]\nlabels = "glasses=red,no-glasses=blue"\n'
    )
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, "--json")
    found = figures(invoke(*base, "--variants", file).stdout)
    prompts = {v["name"]: v["made_by"]["prompts"] for v in found["variants"]}
    assert prompts["right"]["glasses"] == ["a photo of a red", "a photo of a very red"]
    assert prompts["bare"] == {"no-glasses": ["blue", "a blue"], "glasses": ["red", "a red"]}


def test_an_output_is_judged_without_a_model(
    invoke: Invoke, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = faces / "out.csv"
    assert invoke("classify", faces / "faces", *WORDINGS, "-o", out).exit_code == 0
    live = figures(
        invoke("evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS, "--json").stdout
    )

    def load(*arguments: object) -> None:
        raise AssertionError("no model is needed")

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    result = invoke("evaluate", "--predictions", out, faces / "train.csv", *FACES, "--json")
    assert result.exit_code == 0
    for name, figure in figures(result.stdout)["headline"].items():
        assert figure["value"] == pytest.approx(live["headline"][name]["value"], abs=1e-5)


def test_a_report_has_figures_rows_and_plots(invoke: Invoke, faces: Path) -> None:
    folder = faces / "report"
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS)
    assert invoke(*base, "--report", folder).exit_code == 0
    assert json.loads((folder / "metrics.json").read_text()) == figures(
        invoke(*base, "--json").stdout
    )
    with (folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    assert (rows[2]["truth"], rows[2]["prediction"]) == ("glasses", "glasses")
    plots = sorted(path.stem for path in folder.glob("*.png"))
    assert plots == ["classes", "confusion", "precision_recall", "reliability", "thresholds"]
    for plot in plots:
        with Image.open(folder / f"{plot}.png") as image:
            assert min(image.size) > 200
    again = invoke(*base, "--report", folder)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert invoke(*base, "--report", folder, "--overwrite").exit_code == 0


def test_each_variant_has_a_folder_in_the_report(
    invoke: Invoke, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def load(source: Source, options: DecodeOptions) -> Decoded:
        drawn.append(source)
        return load_image(source, options)

    monkeypatch.setattr("clipcls.page.thumbnails.load_image", load)
    folder = faces / "report"
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS)
    variants = ("--variant", "one:template=<>", "--variant", "two:template=a <>")
    assert invoke(*base, *variants, "--report", folder).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.json", "one", "two"]
    assert (folder / "one" / "metrics.json").is_file()
    # Thumbnails are made once, and each page has its own.
    assert len(drawn) == 20
    assert [len(list((folder / n).glob("images-*/*.jpg"))) for n in ("one", "two")] == [20, 20]


def test_several_labels_to_an_image(invoke: Invoke, colours: Path) -> None:
    (colours.parent / "tags.csv").write_text(
        "file,tags\n0-red.png,red;warm\n1-green.png,green\n2-blue.png,\n4-yellow.png,warm\n"
    )
    base = ("evaluate", colours, colours.parent / "tags.csv", "--multi-label", *CPU)
    result = invoke(*base)
    assert result.exit_code == 0
    assert "mean average precision" in result.stdout
    assert "best threshold" in result.stdout
    found = figures(invoke(*base, "--json").stdout)
    assert found["labels"] == ["green", "red", "warm"]
    assert found["images"]["scored"] == 4
    assert [row["support"] for row in found["per_class"]] == [1, 1, 2]


def test_the_threshold_counts_with_several_labels_too(invoke: Invoke, colours: Path) -> None:
    (colours.parent / "tags.csv").write_text("file,tags\n0-red.png,red\n1-green.png,green\n")
    base = ("evaluate", colours, colours.parent / "tags.csv", "--multi-label", "--json", *CPU)
    usual, strict = (figures(invoke(*base, *more).stdout) for more in ((), ("--threshold", "1")))
    assert [row["predicted"] for row in usual["per_class"]] == [1, 1]
    assert [row["predicted"] for row in strict["per_class"]] == [0, 0]


def test_rows_of_a_report_are_those_of_classify(invoke: Invoke, faces: Path) -> None:
    (faces / "faces" / "face-2.png").write_bytes(b"")
    base = ("evaluate", faces / "faces", faces / "train.csv", *FACES, *WORDINGS)
    assert invoke(*base, "--report", faces / "report").exit_code == 3
    out = faces / "out.csv"
    assert invoke("classify", faces / "faces", *WORDINGS, "-o", out).exit_code == 3
    with (faces / "report" / "predictions.csv").open(newline="") as stream:
        reported = {row["path"]: row for row in csv.DictReader(stream)}
    with out.open(newline="") as stream:
        for row in csv.DictReader(stream):
            assert row.items() <= reported[row["path"]].items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["faces"], "1 of them is given; --from-folders"),
        ([], "0 of them is given"),
        (["faces", "none.csv"], "no such file: none.csv"),
        (["faces", "train.csv"], "no column of train.csv names the images"),
        (["faces", "train.csv"], "perhaps --image-pattern 'face-{id}.png'"),
        (["none", "train.csv"], "no such file or folder: none"),
        (["faces", "train.csv", *FACES, "--limit", "0"], "--limit is 0"),
        (["faces", "train.csv", *FACES, "--labels", "a,b"], "there is no label 'no-glasses'"),
        (["faces", "train.csv", *FACES[:4]], "say what the numbers mean, with --map 0=NAME"),
        (["faces", "train.csv", *FACES[:2]], "choose one with --label-column"),
        (["faces", "train.csv", "--image-pattern", "face-{nr}.png"], "has no column 'nr'"),
        (["faces", "train.csv", *FACES, "--variant", "x"], "is not NAME:KEY=VALUE"),
        (["faces", "train.csv", *FACES, *WORDINGS, "--variant", "x:labels=a,b"], "in wordings"),
        (["faces", "train.csv", *FACES, "--threshold", "7"], "give a number from 0 to 1"),
        (["faces", "train.csv", *FACES, "--calibration", "none.json"], "cannot be read"),
        (["train.csv", "--predictions", "none.csv"], "none.csv cannot be read"),
        (["faces", "train.csv", "--predictions", "out.csv"], "takes the table of labels alone"),
        (["train.csv", "--predictions", "o.csv", "--labels", "a,b"], "contradict each other"),
        (["faces", "--from-folders"], "no image lies in a folder"),
        (["faces", "train.csv", *FACES, "--report", "train.csv/x"], "cannot make train.csv/x"),
    ],
)
def test_a_slip_is_one_line_and_loads_nothing(
    invoke: Invoke,
    faces: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("nothing is to be loaded")

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    monkeypatch.chdir(faces)
    result = invoke("evaluate", *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert [line[:7] for line in result.stderr.splitlines() if "Error" in line] == ["Error: "]
    assert result.stdout == ""


def test_unknown_labels_are_an_error_unless_they_are_to_be_left_out(
    invoke: Invoke, colours: Path
) -> None:
    (colours.parent / "truth.csv").write_text("file,label\n0-red.png,red\n4-yellow.png,yellow\n")
    base = ("evaluate", colours, colours.parent / "truth.csv", "--labels", "red,blue", *CPU)
    refused = invoke(*base)
    assert refused.exit_code == 2
    assert "the truth 'yellow' (1 row) is not among the labels 'red', 'blue'" in refused.stderr
    assert "--map yellow=LABEL" in refused.stderr
    found = figures(invoke(*base, "--ignore-unknown", "--json").stdout)
    assert found["images"]["unknown_values"] == {"yellow": 1}
    assert found["images"]["scored"] == 1
