"""`clipcls classify`: exit code, stdout, stderr."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

from clipcls.errors import ModelDownloadError
from clipcls.models.names import ModelSpec, Published
from clipcls.options import Decoding, Fit
from clipcls.outputs.manifest import manifest_path
from clipcls.records import RunReport
from clipcls.run import Job
from clipcls.testing import save_colours
from tests.cli.conftest import Invoke

RGB = ("--labels", "red,green,blue", "--device", "cpu")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_stdout_is_data_and_stderr_is_everything_else(invoke: Invoke, colours: Path) -> None:
    result = invoke("classify", colours, *RGB)
    assert result.exit_code == 0
    found = rows(result.stdout)
    assert [row["prediction"] for row in found][:3] == ["red", "green", "blue"]
    assert list(found[0]) == [
        "path", "prediction", "probability", "red", "green", "blue", "note", "error",
    ]  # fmt: skip
    assert "3 labels, 3 prompts, 7 images" in result.stderr
    assert "on cpu, fp32" in result.stderr
    assert "Done: 7 scored, 0 failed" in result.stderr
    assert result.stderr.rstrip().endswith(", model ViT-B-32-256:datacomp_s34b_b86k")


def test_images_that_cannot_be_counted_before_come_as_they_come(
    invoke: Invoke, colours: Path
) -> None:
    listed = "\n".join(map(str, sorted(colours.iterdir()))).encode()
    packed = colours.parent / "t.tar.gz"
    with tarfile.open(packed, "w:gz") as made:
        made.add(colours, "t")
    for result in (invoke("classify", "-", *RGB, stdin=listed), invoke("classify", packed, *RGB)):
        assert "3 labels, 3 prompts, images as they come\n" in result.stderr
        assert "Done: 7 scored, 0 failed" in result.stderr


def test_a_table_of_images_with_its_own_columns(invoke: Invoke, colours: Path) -> None:
    out, table = colours.parent / "out.csv", colours.parent / "t.csv"
    table.write_text(
        'image,"a,b",truth label\n'
        + "".join(f"{path},{i},red\n" for i, path in enumerate(sorted(colours.iterdir()))),
    )
    given = (table, "--image-column", "image", "--keep", '"a,b",truth label', *RGB, "-o", out)
    result = invoke("classify", *given)
    assert result.exit_code == 0
    found = rows(out.read_text(encoding="utf-8"))
    assert list(found[0])[:4] == ["path", "a,b", "truth label", "prediction"]
    assert [row["a,b"] for row in found] == list("0123456")
    # What reads outputs reads this one, and it is its own table of labels.
    judged = invoke(
        "evaluate", "--predictions", out, out, "--image-column", "path", "--label-column",
        "truth label", "--json",
    )  # fmt: skip
    assert json.loads(judged.stdout)["headline"]["accuracy"]["value"] == pytest.approx(4 / 7)
    assert invoke("report", out, "-o", colours.parent / "page").exit_code == 0
    assert invoke("sort", out, colours.parent / "sorted").exit_code == 0
    assert len(list((colours.parent / "sorted" / "red").iterdir())) == 4


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "similarity"])
def test_other_commands_take_no_tables_of_images(
    invoke: Invoke, tmp_path: Path, command: str
) -> None:
    more = {"calibrate": ("-o", "c.json"), "similarity": ("--text", "a")}.get(command, ())
    inputs = ("t.parquet",) if command == "similarity" else ("t.parquet", "labels.csv")
    result = invoke(command, *inputs, "--image-column", "image", *more)
    assert result.exit_code == 2
    assert "t.parquet is no image, and only clipcls classify takes tables" in result.stderr


def test_flags_of_tables_need_each_other(invoke: Invoke, colours: Path) -> None:
    for flags, message in (
        (("--keep", "id"), "--keep copies columns of tables of images: give --image-column too"),
        (("--image-column", "image"), "--image-column is for tables of images, and none"),
    ):
        result = invoke("classify", colours, *RGB, *flags)
        assert result.exit_code == 2
        assert message in result.stderr


def test_the_summary_counts_classes_and_explains_failures(invoke: Invoke, colours: Path) -> None:
    (colours / "zero.png").write_bytes(b"")
    (colours / "notes.txt").write_text("words")
    result = invoke("classify", colours, *RGB, "-o", colours.parent / "out.csv")
    assert result.exit_code == 3
    assert result.stdout == ""
    lines = [" ".join(line.split()) for line in result.stderr.splitlines()]
    assert any(line.startswith("blue 2") for line in lines)
    assert "empty file 1 12.5 %" in lines
    assert "Skipped: 1 not an image" in lines


def test_quiet_says_nothing_and_verbose_says_more(invoke: Invoke, colours: Path) -> None:
    (colours / "zero.png").write_bytes(b"")
    assert invoke("classify", colours, *RGB, "--quiet").stderr == ""
    verbose = invoke("classify", colours, *RGB, "--verbose").stderr
    assert "red: a photo of a red" in verbose
    assert "zero.png: empty file" in verbose


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "a,a"], "a"),
        ([], "--labels"),
        (["--labels", "a,b", "--threshold", "2"], "--threshold is 2.0: give a number from 0 to 1"),
        (
            ["--labels", "a,b", "--batch-size", "many"],
            "--batch-size is 'many': give auto",
        ),
        (["--labels", "a,b", "--workers", "0"], "--workers is '0': give auto, or a whole number"),
        (["--labels", "a,b", "-t", "no slot"], "no slot"),
        (["--labels", "a,b", "--templates", "photoo"], "photo"),
        (["--labels", "a,b", "--resume"], "--resume needs the file to continue"),
        (["--labels", "a,b", "--format", "parquet"], "Parquet cannot be streamed"),
        (["--labels", "a,b", "--quiet", "--verbose"], "contradict each other"),
        (["--labels", "a,b", "--model", "ViT-B-33"], "ViT-B-32"),
    ],
)
def test_a_slip_is_one_line_and_exit_code_2(
    invoke: Invoke, colours: Path, arguments: list[str], message: str
) -> None:
    result = invoke("classify", colours, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_path_that_leads_nowhere_is_named(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("classify", tmp_path / "none", *RGB)
    assert result.exit_code == 2
    assert "none" in result.stderr


def test_paths_from_a_pipe_separated_by_nul(invoke: Invoke, tmp_path: Path) -> None:
    path = save_colours(tmp_path / "with\nnewline, and comma", ["blue"])[0]
    result = invoke("classify", "-", "--null", *RGB, stdin=str(path).encode() + b"\0")
    assert result.exit_code == 0
    assert [(r["path"], r["prediction"]) for r in rows(result.stdout)] == [(str(path), "blue")]


def test_jsonl_with_raw_columns(invoke: Invoke, colours: Path) -> None:
    result = invoke(
        "classify", colours, *RGB, "--format", "jsonl", "--logits", "--similarities", "--top-k", 1
    )
    first = json.loads(result.stdout.splitlines()[0])
    assert first["top"] == [{"label": "red", "probability": first["probability"]}]
    assert first["logits"]["red"] == pytest.approx(10 * first["similarities"]["red"], abs=1e-4)


def test_weak_predictions_become_unknown(invoke: Invoke, colours: Path) -> None:
    result = invoke("classify", colours, *RGB, "--threshold", "1")
    assert {row["prediction"] for row in rows(result.stdout)} == {"unknown"}
    assert all(float(row["probability"]) > 0.3 for row in rows(result.stdout))


def test_one_image_on_a_terminal_is_shown_as_bars(
    invoke: Invoke, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = colours / "2-blue.png"
    monkeypatch.setattr("clipcls.cli.classify.on_terminal", lambda: True)
    shown = invoke("classify", path, *RGB).stdout
    assert shown.splitlines()[0].endswith("2-blue.png: blue")
    assert "█" in shown
    assert "path,prediction" in invoke("classify", path, *RGB, "--format", "csv").stdout
    assert "path,prediction" in invoke("classify", path, *RGB, "-o", "-").stdout
    assert "path,prediction" in invoke("classify", colours, *RGB).stdout
    (colours / "zero.png").write_bytes(b"")
    broken = invoke("classify", colours / "zero.png", *RGB)
    assert (broken.exit_code, broken.stdout) == (3, "")
    assert "zero.png: empty file" in broken.stderr


def test_names_cannot_style_or_move_the_terminal(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "[red]x\x1b[2J.png"
    path.write_bytes(b"")
    result = invoke("classify", path, "--labels", "[bold]a[/bold],b", "--verbose")
    assert "[red]x\\x1b[2J.png: empty file" in result.stderr
    assert "\x1b[2J" not in result.stderr
    assert "[bold]a[/bold]: a photo of a [bold]a[/bold]" in result.stderr


def test_an_error_message_is_one_plain_line_whatever_the_name(
    invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke("classify", tmp_path / "\x1b[31mred\n.png", *RGB)
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_model_may_come_from_the_environment(
    invoke: Invoke, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPCLS_MODEL", "RN50:openai")
    assert "Model RN50:openai on" in invoke("classify", colours, *RGB).stderr
    named = invoke("classify", colours, *RGB, "--model", "balanced").stderr
    assert "Model PE-Core-B-16:meta on" in named


@pytest.fixture
def without_fast(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    """Nothing is in the cache, and nothing can be downloaded."""

    def pull(spec: ModelSpec, tell: object) -> Path:
        raise ModelDownloadError("long advice", "the disk is full")

    monkeypatch.setattr(Published, "checkpoint", pull)


@pytest.mark.usefixtures("without_fast")
@pytest.mark.parametrize("model", [[], ["--model", "auto"]])
def test_without_fast_it_is_mini_with_one_warning_and_every_report_says_so(
    invoke: Invoke, colours: Path, model: list[str]
) -> None:
    out = colours.parent / "out.csv"
    result = invoke("classify", colours, *RGB, *model, "-o", out, "--verbose")
    assert (result.exit_code, result.stdout) == (0, "")
    first, second, *_, last = result.stderr.splitlines()
    assert first.startswith("Warning: mini, ")
    assert "the disk is full" in first
    assert result.stderr.count("Warning") == 1
    assert second.startswith("Model mini on cpu")
    assert last.startswith("Done: 7 scored")
    assert last.endswith(", model mini")
    assert json.loads(manifest_path(out).read_bytes())["model"]["name"] == "mini"


@pytest.mark.usefixtures("without_fast")
def test_quiet_keeps_the_warning_and_a_named_mini_has_none(invoke: Invoke, colours: Path) -> None:
    quiet = invoke("classify", colours, *RGB, "--quiet")
    assert quiet.stderr.count("\n") == 1
    assert quiet.stderr.startswith("Warning: mini, ")
    named = invoke("classify", colours, *RGB, "--quiet", "--model", "mini")
    assert named.stderr == ""
    assert named.stdout == quiet.stdout


@pytest.mark.usefixtures("without_fast")
def test_the_environment_may_ask_for_auto_too(
    invoke: Invoke, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("auto", ""):
        monkeypatch.setenv("CLIPCLS_MODEL", value)
        assert "Model mini on cpu" in invoke("classify", colours, *RGB).stderr


def test_arch_needs_a_weight_file(invoke: Invoke, colours: Path) -> None:
    result = invoke("classify", colours, *RGB, "--arch", "RN50")
    assert result.exit_code == 2
    assert (
        "--arch belongs to a weight file, and there is none: give one with --model FILE"
        in result.stderr
    )


def test_fit_decoding_and_exclusions_reach_the_run(
    invoke: Invoke, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []

    def run(job: Job, **_: object) -> RunReport:
        jobs.append(job)
        return RunReport()

    monkeypatch.setattr("clipcls.run.run", run)
    flags = ("--fit", "pad", "--decode", "exact", "--exclude", "*_thumb.*", "--exclude", "drafts")
    assert invoke("classify", colours, *RGB, *flags).exit_code == 0
    assert invoke("classify", colours, *RGB).exit_code == 0
    assert [job.inputs.decode.fit for job in jobs] == [Fit.PAD, Fit.MODEL]
    assert [job.inputs.decode.decoding for job in jobs] == [Decoding.EXACT, Decoding.FAST]
    assert [job.inputs.discovery.exclude for job in jobs] == [("*_thumb.*", "drafts"), ()]
