"""`clipcls report`, and `--report` of the commands that score."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipcls.testing import save_colours
from tests.cli.conftest import Invoke
from tests.page.made import embedded

COLOURS = ("red", "green", "blue")
LABELS = ("--labels", "red,green,blue", "--model", "fast")


@pytest.fixture
def classified(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures, a broken one, and their output."""
    monkeypatch.chdir(tmp_path)
    save_colours(tmp_path / "in", COLOURS)
    job = ("classify", "in", *LABELS, "-o", "out.csv", "--no-cache")
    assert invoke(*job).exit_code == 0
    return tmp_path


def test_a_report_says_what_was_run(invoke: Invoke, classified: Path) -> None:
    result = invoke("report", "out.csv", "-o", "report")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Open report/index.html" in result.stderr
    text = Path("report/index.html").read_text(encoding="utf-8")
    for part in ("ViT-B-32-256", "fp32", "a photo of a green", "Date"):
        assert part in text
    assert "no manifest" not in text


@pytest.mark.parametrize("extra", [[], ["--top-k", "2"], ["--logits"]])
@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.parquet"])
def test_every_output_has_a_page(
    invoke: Invoke, classified: Path, name: str, extra: list[str]
) -> None:
    assert invoke("classify", "in", *LABELS, "-o", name, *extra).exit_code == 0
    assert invoke("report", name, "-o", "p.html", "--single-file").exit_code == 0
    content = embedded(Path("p.html"))
    assert content["labels"] == list(COLOURS)
    assert [content["labels"][i] for i in content["predicted"]] == list(COLOURS)
    assert all(len(bars) >= 2 for bars in content["bars"])


def test_without_a_manifest_the_page_says_so(invoke: Invoke, classified: Path) -> None:
    Path("out.csv.manifest.json").unlink()
    assert invoke("report", "out.csv", "-o", "report").exit_code == 0
    assert "There is no manifest" in Path("report/index.html").read_text(encoding="utf-8")


def test_images_that_are_gone_are_said_and_end_nothing(invoke: Invoke, classified: Path) -> None:
    Path("in").rename("elsewhere")
    result = invoke("report", "out.csv", "-o", "report")
    assert result.exit_code == 3
    assert "3 images of 3 cannot be shown" in result.stderr
    assert "in which classify ran" in result.stderr
    assert embedded(Path("report/index.html"))["missing"] == dict.fromkeys("012", "file not found")


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the files of a folder; the embedding cache closes its own when it pleases."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix[:7] != ".sqlite")
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv", "-o", "r"], "none.csv cannot be read"),
        (["table.csv", "-o", "r"], "no output of clipcls classify"),
        (["empty.csv", "-o", "r"], "holds no scored image"),
        (["out.csv", "-o", "in"], "choose another folder"),
        (["out.csv", "-o", "out.csv"], "is no folder"),
        (["out.csv", "-o", "in", "--single-file"], "is a folder"),
        (["out.csv", "-o", "out.csv", "--single-file"], "is read by this run"),
        (["out.csv", "-o", "table.csv", "--single-file"], "not written by clipcls"),
        (["out.csv", "-o", "done"], "--overwrite replaces it"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    invoke: Invoke, classified: Path, arguments: list[str], message: str
) -> None:
    Path("table.csv").write_text("a,b\n1,2\n")
    Path("empty.csv").write_text("path,prediction,probability,red,green,note,error\n")
    assert invoke("report", "out.csv", "-o", "done").exit_code == 0
    before = contents(classified)
    result = invoke("report", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert contents(classified) == before


def test_a_report_is_replaced_when_asked(invoke: Invoke, classified: Path) -> None:
    for extra in ([], ["--overwrite"]):
        assert invoke("report", "out.csv", "-o", "report", *extra).exit_code == 0


# ---- of other commands


def test_classify_makes_a_page_of_its_output(invoke: Invoke, classified: Path) -> None:
    (classified / "in" / "broken.png").write_bytes(b"")
    job = ["classify", "in", *LABELS, "-o", "b.csv", "--report", "page"]
    assert invoke(*job).exit_code == 3
    content = embedded(Path("page/index.html"))
    assert list(content["errors"].values()) == ["empty file"]
    assert invoke(*job, "--overwrite").exit_code == 3
    refused = invoke("classify", "in", *LABELS, "--report", "page2")
    assert refused.exit_code == 2
    assert "-o FILE" in refused.stderr


def test_evaluate_makes_a_page_with_the_truth(invoke: Invoke, classified: Path) -> None:
    names = sorted(path.name for path in Path("in").iterdir())
    lines = [f"{name},{label}" for name, label in zip(names, ("red", "red", "blue"), strict=True)]
    Path("truth.csv").write_text("\n".join(["path,label", *lines]))
    result = invoke("evaluate", "in", "truth.csv", *LABELS, "--report", "report")
    assert result.exit_code == 0
    assert embedded(Path("report/index.html"))["truth"] == [[0], [0], [2]]
    again = invoke("report", "report/predictions.csv", "-o", "p.html", "--single-file")
    assert again.exit_code == 0
    content = embedded(Path("p.html"))
    assert (content["truth"], content["multiLabel"]) == ([[0], [0], [2]], False)


def test_evaluate_never_replaces_a_page_of_somebody_else(invoke: Invoke, classified: Path) -> None:
    Path("site").mkdir()
    Path("site/index.html").write_text("mine")
    Path("truth.csv").write_text("path,label\n" + f"{next(Path('in').iterdir()).name},red\n")
    result = invoke("evaluate", "in", "truth.csv", *LABELS, "--report", "site", "--overwrite")
    assert result.exit_code == 2
    assert "not written by clipcls" in result.stderr
    assert [path.name for path in Path("site").iterdir()] == ["index.html"]


def test_evaluate_judges_the_random_part_of_labels_csv(invoke: Invoke, classified: Path) -> None:
    names = sorted(path.name for path in Path("in").iterdir())
    chosen = [("red", "chance"), ("red", "person"), ("blue", "chance")]
    lines = [f"{n},{a},{b}" for n, (a, b) in zip(names, chosen, strict=True)]
    Path("labels.csv").write_text("\n".join(["path,label,chosen_by", *lines]))
    for job in (["evaluate", "in", "labels.csv", *LABELS],
                ["evaluate", "--predictions", "out.csv", "labels.csv"]):  # fmt: skip
        result = invoke(*job)
        assert result.exit_code == 0
        assert result.stdout.startswith("2 images")
        assert "only the rows drawn at random count" in result.stderr.lower()
