"""`clipcls learn` and `--head`: exit code, stdout, stderr, the file."""

from __future__ import annotations

import csv
import io
import json
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipcls import Classifier
from clipcls.evaluation.bootstrap import Figure
from clipcls.heads import read_head
from clipcls.learning.curve import Point
from clipcls.testing import COLOURS, FakeEncoder
from tests.cli.conftest import Invoke

CPU = ("--device", "cpu")
# What zero-shot gets wrong: the wordings of two labels are exchanged.
SWAPPED = ("--labels", "warm=blue,cold=red")
SHADES = {"warm": "red", "cold": "blue", "fresh": "green"}


def shades(folder: Path, labels: list[str], seed: int = 0) -> list[str]:
    """Write images in a shade of the colour of their label; return the rows of a table."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, label in enumerate(labels):
        colour = np.array(COLOURS[SHADES[label]]) * 0.6 + rng.uniform(0, 100, 3)
        name = f"{seed}-{number}.png"
        Image.new("RGB", (32, 24), tuple(colour.astype(int))).save(folder / name)
        rows.append(f"{name},{label},person {number % 10}\n")
    return rows


def table(path: Path, rows: list[str], header: str = "file,label,person") -> Path:
    path.write_text(header + "\n" + "".join(rows))
    return path


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """32 labelled images, and ten others to use a head on."""
    table(tmp_path / "truth.csv", shades(tmp_path / "images", ["warm", "cold"] * 16))
    table(tmp_path / "new.csv", shades(tmp_path / "new", ["warm", "cold"] * 5, seed=1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


LEARN = ("learn", "images", "truth.csv", *SWAPPED, *CPU, "-o", "a.head.safetensors")


def accuracy(stdout: str) -> float:
    value: float = json.loads(stdout)["headline"]["accuracy"]["value"]
    return value


def test_a_head_is_learned_and_used(invoke: Invoke, labelled: Path) -> None:
    result = invoke(*LEARN)
    assert result.exit_code == 0, result.stderr
    assert "32 images, 2 labels" in result.stdout
    assert "gda (alpha" in result.stdout
    assert re.search(r"beyond chance, by [\d.]+ points \([\d.]+ to [\d.]+ points\)", result.stdout)
    head = ("--head", "a.head.safetensors", *CPU)
    rows = list(csv.DictReader(io.StringIO(invoke("classify", "new", *head).stdout)))
    assert [row["prediction"] for row in rows] == ["warm", "cold"] * 5
    new = ("evaluate", "new", "new.csv", "--json", *CPU)
    assert accuracy(invoke(*new, *SWAPPED).stdout) < 0.2
    assert accuracy(invoke(*new, *head).stdout) == 1.0


def test_images_that_a_head_was_learned_from_are_told(invoke: Invoke, labelled: Path) -> None:
    invoke(*LEARN)
    head = ("--head", "a.head.safetensors", *CPU, "--json")
    # Under other names, in another format, and beside others.
    names = [f"{i}.bmp" for i in range(10)]
    (labelled / "copies").mkdir()
    for name in names:
        with Image.open(labelled / "images" / f"0-{name}".replace("bmp", "png")) as image:
            image.save(labelled / "copies" / name)
    rows = [f"{name},{'warm' if i % 2 == 0 else 'cold'},\n" for i, name in enumerate(names)]
    others = [row.replace("fresh", "warm") for row in shades(labelled / "copies", ["fresh"] * 5, 2)]
    table(labelled / "both.csv", [*rows, *others])
    told = "learned from 10 of the 15 images, or from nearly the same"
    assert told in invoke("evaluate", "copies", "both.csv", *head).stderr
    table(labelled / "others.csv", others)
    assert "learned" not in invoke("evaluate", "copies", "others.csv", *head).stderr


def test_the_head_says_how_good_it_is(invoke: Invoke, labelled: Path) -> None:
    invoke(*LEARN)
    head = read_head(labelled / "a.head.safetensors")
    assert head.figures["examples"] == {"warm": 16, "cold": 16}
    judged = head.figures["judged"]
    assert judged["is_better"]
    assert judged["head"]["value"] > 0.9 > 0.2 > judged["zero_shot"]["value"]
    assert head.prompts == (("a photo of a blue",), ("a photo of a red",))


def test_what_is_no_better_is_not_written(invoke: Invoke, labelled: Path) -> None:
    right = ("--labels", "warm=red,cold=blue")
    result = invoke("learn", "images", "truth.csv", *right, *CPU, "-o", "a.head.safetensors")
    assert result.exit_code == 0
    assert "No better than zero-shot beyond chance" in result.stdout
    assert "What is written is the zero-shot classifier" in result.stdout
    assert read_head(labelled / "a.head.safetensors").method == "zero-shot"
    by_head = invoke("classify", "new", "--head", "a.head.safetensors", *CPU).stdout
    assert by_head == invoke("classify", "new", *right, *CPU).stdout


@pytest.mark.parametrize("method", ["gda", "probe"])
def test_a_label_of_the_truth_without_prompts_is_learned(
    invoke: Invoke, labelled: Path, method: str
) -> None:
    rows = shades(labelled / "three", ["warm", "cold", "fresh"] * 10, seed=2)
    table(labelled / "three.csv", rows)
    given = ("three", "three.csv", *SWAPPED, *CPU, "-o", "b.head.safetensors", "--method", method)
    result = invoke("learn", *given)
    assert result.exit_code == 0, result.stderr
    assert "without prompts, learned from examples alone: 'fresh'" in result.stderr.replace(
        "Without", "without"
    )
    head = read_head(labelled / "b.head.safetensors")
    assert head.labels == ("warm", "cold", "fresh")
    assert head.prompts[2] == ()
    new = table(labelled / "new3.csv", shades(labelled / "new3", ["fresh", "warm"] * 4, seed=3))
    result = invoke("evaluate", "new3", new, "--head", "b.head.safetensors", "--json", *CPU)
    assert accuracy(result.stdout) == 1.0


def test_a_label_of_the_prompts_without_examples_is_kept(invoke: Invoke, labelled: Path) -> None:
    labels = ("--labels", "warm=blue,fresh=green,cold=red")
    given = ("images", "truth.csv", *labels, *CPU, "--method", "probe")
    invoke("learn", *given, "-o", "c.head.safetensors")
    shades(labelled / "green", ["fresh"] * 6, seed=4)
    rows = csv.DictReader(
        io.StringIO(invoke("classify", "green", "--head", "c.head.safetensors", *CPU).stdout)
    )
    assert [row["prediction"] for row in rows] == ["fresh"] * 6


def test_groups_are_read_and_the_curve_is_drawn(invoke: Invoke, labelled: Path) -> None:
    result = invoke(*LEARN, "--group-column", "person", "--curve")
    assert result.exit_code == 0, result.stderr
    assert "none, zero-shot" in result.stdout
    assert "From 6 to 12 of each label:" in result.stdout
    with Image.open(labelled / "a.curve.png") as picture:
        assert picture.width > 500
    curve = read_head(labelled / "a.head.safetensors").figures["curve"]
    assert [point["examples"] for point in curve] == [1, 2, 4, 6, 8, 12]


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ((0.05, 0.01, 0.09), "still rises beyond chance"),
        ((0.004, -0.01, 0.019), "The curve is flat"),
        ((0.05, -0.01, 0.09), "these images cannot tell"),
    ],
)
def test_the_curve_says_whether_more_will_pay(
    invoke: Invoke,
    labelled: Path,
    monkeypatch: pytest.MonkeyPatch,
    gain: tuple[float, float, float],
    verdict: str,
) -> None:
    points = [Point(6, Figure(0.8, 0.7, 0.9)), Point(12, Figure(0.9, 0.8, 1.0), Figure(*gain))]
    monkeypatch.setattr("clipcls.learning.learn.learning_curve", lambda *_: points)
    assert verdict in invoke(*LEARN, "--curve").stdout


def test_near_duplicates_are_reported(invoke: Invoke, labelled: Path) -> None:
    rows = (labelled / "truth.csv").read_text().splitlines(keepends=True)[1:]
    (labelled / "images" / "again.png").write_bytes((labelled / "images" / "0-3.png").read_bytes())
    table(labelled / "truth.csv", [*rows, "again.png,cold,person 3\n"])
    result = invoke(*LEARN)
    assert result.exit_code == 0
    assert "are nearly the same" in result.stderr
    assert "--group-column" in result.stderr


def test_rows_that_somebody_chose_teach_and_do_not_judge(invoke: Invoke, labelled: Path) -> None:
    rows = (labelled / "truth.csv").read_text().splitlines()[1:]
    marked = [f"{row},{'chance' if i < 12 else 'queue'}\n" for i, row in enumerate(rows)]
    table(labelled / "truth.csv", marked, "file,label,person,chosen_by")
    result = invoke(*LEARN)
    assert "32 images, 2 labels" in result.stdout
    assert "Judged on 12 images" in result.stdout


def test_a_damaged_image_teaches_nothing_and_is_named(invoke: Invoke, labelled: Path) -> None:
    (labelled / "images" / "0-5.png").write_bytes(b"no image")
    result = invoke(*LEARN)
    assert result.exit_code == 3
    assert "31 images, 2 labels" in result.stdout
    assert "1 image failed and taught nothing (images/0-5.png:" in result.stderr
    assert (labelled / "a.head.safetensors").exists()
    for path in (labelled / "images").iterdir():
        path.write_bytes(b"no image")
    result = invoke(*LEARN, "--overwrite")
    assert result.exit_code == 2
    assert "no image could be read: images/0-0.png:" in result.stderr


def test_a_variant_stands_beside_the_head(invoke: Invoke, labelled: Path) -> None:
    invoke(*LEARN)
    result = invoke(
        *("evaluate", "new", "new.csv", "--head", "a.head.safetensors", *CPU, "--json"),
        *("--variant", "zero-shot:labels=warm=blue,cold=red"),
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["ranking"] == ["base", "zero-shot"]
    assert [v["headline"]["accuracy"]["value"] for v in found["variants"]][0] == 1.0


def test_heads_are_variants(invoke: Invoke, labelled: Path) -> None:
    """Of the head's own model, and with the labels in whatever order the flags have them."""
    invoke(*LEARN, "--model", "RN50:openai")
    Path("two.toml").write_text('[again]\nhead = "a.head.safetensors"\n')
    given = ("evaluate", "new", "new.csv", "--labels", "cold=red,warm=blue", "--json", *CPU)
    variants = ("--variant", "learned:head=a.head.safetensors", "--variants", "two.toml")
    result = invoke(*given, *variants)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [v["headline"]["accuracy"]["value"] for v in found["variants"]] == [1.0, 1.0]
    single = json.loads(invoke(*given, *variants[:2]).stdout)
    assert single["ranking"] == ["learned", "base"]
    assert {v["made_by"]["model"]["name"] for v in single["variants"]} == {"RN50:openai"}
    for flags, message in (
        (("--variant", "learned:template=<>"), "'learned' has head and template: give one"),
        (("--variant", "other:head=new.csv"), "the variant 'other': --head: new.csv is no head"),
        (("--labels", "warm,cold,hot"), "'hot' is missing in the variant 'learned'"),
    ):
        refused = invoke("evaluate", "new", "new.csv", *CPU, *variants[:2], *flags)
        assert refused.exit_code == 2
        assert message in refused.stderr


def test_a_calibration_is_for_its_head(invoke: Invoke, labelled: Path) -> None:
    invoke(*LEARN)
    head = ("--head", "a.head.safetensors", *CPU)
    assert invoke("calibrate", "images", "truth.csv", *head, "-o", "c.json").exit_code == 0
    calibrated = invoke("classify", "new", *head, "--calibration", "c.json")
    assert calibrated.exit_code == 0
    assert calibrated.stdout != invoke("classify", "new", *head).stdout
    without = invoke("classify", "new", *SWAPPED, *CPU, "--calibration", "c.json")
    assert without.exit_code == 2
    # As `sha256sum` says it of the file.
    file = labelled / "a.head.safetensors"
    was = f"the head of warm, cold (SHA-256 {sha256(file.read_bytes()).hexdigest()[:12]}...)"
    assert f"for {was}, and this run uses the prompts of warm, cold" in without.stderr
    invoke(*LEARN, "--overwrite", "--seed", "5")
    now = f"the head of warm, cold (SHA-256 {sha256(file.read_bytes()).hexdigest()[:12]}...)"
    other = invoke("classify", "new", *head, "--calibration", "c.json")
    assert now != was
    assert f"for {was}, and this run uses {now}" in other.stderr
    plain = invoke("calibrate", "images", "truth.csv", *SWAPPED, *CPU, "-o", "d.json")
    assert plain.exit_code == 0
    mixed = invoke("classify", "new", *head, "--calibration", "d.json")
    assert f"for the prompts of warm, cold, and this run uses {now}" in mixed.stderr


def test_the_manifest_knows_the_head_and_resume_compares_it(invoke: Invoke, labelled: Path) -> None:
    invoke(*LEARN)
    run = ("classify", "new", "--head", "a.head.safetensors", *CPU, "-o", "out.csv")
    invoke(*run)
    manifest = json.loads((labelled / "out.csv.manifest.json").read_text())
    assert manifest["head"] == read_head(labelled / "a.head.safetensors").digest
    assert invoke(*run, "--resume").exit_code == 0
    invoke(*LEARN, "--overwrite", "--method", "probe")
    refused = invoke(*run, "--resume")
    assert refused.exit_code == 2
    assert "--head is another one" in refused.stderr


def test_a_head_names_its_model(invoke: Invoke, labelled: Path) -> None:
    invoke(*LEARN, "--model", "ViT-B/32")
    result = invoke("classify", "new", "--head", "a.head.safetensors", *CPU, "-o", "o.csv")
    assert "ViT-B-32:openai" in result.stderr
    for changed, what in (
        (("--model", "RN50"), "for the model ViT-B-32:openai, and this run uses RN50:openai"),
        (("--decode", "exact"), "other weights, preprocessing, --fit or --decode"),
    ):
        refused = invoke("classify", "new", "--head", "a.head.safetensors", *CPU, *changed)
        assert refused.exit_code == 2
        assert what in refused.stderr
        assert refused.stdout == ""


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--labels", "a,b"), "--labels and --head"),
        (("-t", "<>"), "--template and --head"),
        (("--similarities",), "--similarities and --head"),
        (("--multi-label",), "--head and --multi-label"),
    ],
)
def test_what_a_head_takes_the_place_of_is_refused(
    invoke: Invoke, labelled: Path, flags: tuple[str, ...], named: str
) -> None:
    invoke(*LEARN)
    result = invoke("classify", "new", "--head", "a.head.safetensors", *flags)
    assert result.exit_code == 2
    assert f"{named} contradict each other" in result.stderr


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0-0.png,warm\n", "0-2.png,warm\n"], "of the labelled images all 2 are 'warm'"),
        (["0-0.png,warm\n", "0-1.png,cold\n"], "'warm' has 1, so label one more of it"),
        (
            ["0-0.png,warm\n", "0-2.png,warm\n", "0-1.png,cold\n"],
            "'cold' has 1, so label one more of it",
        ),
    ],
)
def test_too_few_examples_are_refused_before_a_model_is_loaded(
    invoke: Invoke,
    labelled: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[str],
    message: str,
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("nothing is to be loaded")

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    table(labelled / "few.csv", rows, "file,label")
    result = invoke("learn", "images", "few.csv", *SWAPPED, "-o", "f.head.safetensors")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("Error") == 1
    assert not (labelled / "f.head.safetensors").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--group-column", "camera"), "has no column 'camera'"),
        (("--map", "warm=hot"), "there is no label 'hot'"),
        (("-o", "none/a"), "the folder none does not exist"),
        (("-o", "truth.csv"), "truth.csv exists: --overwrite"),
        (("--method", "forest"), "--method"),
    ],
)
def test_a_slip_is_one_line(
    invoke: Invoke, labelled: Path, flags: tuple[str, ...], message: str
) -> None:
    result = invoke(*LEARN, *flags)
    assert result.exit_code == 2
    assert message in result.stderr


def test_labels_that_no_example_has_are_refused(invoke: Invoke, labelled: Path) -> None:
    result = invoke("learn", "images", "truth.csv", "--labels", "cat,dog", "-o", "a.safetensors")
    assert result.exit_code == 2
    assert "no label has an example: the labels are 'cat', 'dog'" in result.stderr
    assert "the truth is 'cold', 'warm'" in result.stderr


def test_one_group_is_too_few(invoke: Invoke, labelled: Path) -> None:
    rows = [row.replace(row.split(",")[2], "eve\n") for row in
            (labelled / "truth.csv").read_text().splitlines(keepends=True)[1:]]  # fmt: skip
    table(labelled / "truth.csv", rows)
    result = invoke(*LEARN, "--group-column", "person")
    assert result.exit_code == 2
    assert "all images are of one group" in result.stderr


def test_python_takes_a_head_too(invoke: Invoke, labelled: Path) -> None:
    invoke(*LEARN)
    encoder = FakeEncoder()
    head = read_head(labelled / "a.head.safetensors")
    encoder.fingerprint = head.model_fingerprint
    for given in (head, labelled / "a.head.safetensors", "a.head.safetensors"):
        classifier = Classifier(head=given, model=encoder)
        assert classifier.labels == ("warm", "cold")
        assert classifier(labelled / "new" / "1-0.png").prediction == "warm"
