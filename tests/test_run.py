"""A run from inputs to a file: resuming, refusing, and never losing or mixing up a row."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import sys
import tarfile
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipcls import read_results
from clipcls.columns import Columns
from clipcls.errors import (
    ClipclsError,
    DeviceError,
    InputError,
    LabelError,
    MissingExtraError,
    ModelDownloadError,
    ModelError,
    OptionError,
    OutputError,
    OutputExistsError,
    OutputLockedError,
    ResumeError,
)
from clipcls.labels import make_labels
from clipcls.models.names import ModelSpec, Published
from clipcls.observer import Observer
from clipcls.options import (
    CacheOptions,
    DecodeOptions,
    DiscoveryOptions,
    OutputFormat,
    OutputOptions,
    Precision,
    RuntimeOptions,
    ScoringOptions,
    UnknownOptions,
)
from clipcls.outputs.manifest import COMPARED, difference, manifest_path
from clipcls.outputs.parquet import ParquetWriter
from clipcls.outputs.sink import open_sink
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.records import RunReport
from clipcls.run import Job, run
from clipcls.testing import FakeEncoder, save_colours
from tests.hub_cache import HubCache, hub_cache

__all__ = ["hub_cache"]

LABELS = make_labels(["red", "green", "blue"])
TABLES = DiscoveryOptions(image_column="image", keep=("n", "name"))


class Collecting(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)


def job(folder: Path, to: Path | None = None, **changes: Any) -> Job:
    """A job with one of its parts' fields changed."""
    get = changes.pop
    made = Job(
        Inputs(
            get("inputs", (str(folder),)),
            get("discovery", DiscoveryOptions()),
            get("decode", DecodeOptions()),
        ),
        Question(
            get("labels", LABELS),
            get("templates", ("a photo of a <>",)),
            get("scoring", ScoringOptions()),
        ),
        ModelChoice(
            get("model", "ViT-B-32:openai"),
            get("architecture", None),
            get("runtime", RuntimeOptions(device="cpu", batch_size=2, workers=2)),
        ),
        get("output", OutputOptions(to)),
        get("reads", ()),
    )
    assert not changes
    return made


def changed(job: Job, part: str, **fields: Any) -> Job:
    """The same job with other fields in one of its parts."""
    return dataclasses.replace(job, **{part: dataclasses.replace(getattr(job, part), **fields)})


def classify(job: Job, stops_after: int | None = None, **changes: Any) -> RunReport:
    """Run with the fake encoder; after `stops_after` batches an interrupt arrives."""
    encoder = changes.setdefault("encoder", FakeEncoder())

    def should_stop() -> bool:
        return stops_after is not None and len(encoder.batch_sizes) >= stops_after

    return run(job, should_stop=should_stop, **changes)


def resuming(first: Job) -> Job:
    return changed(first, "output", resume=True)


@pytest.fixture(params=list(OutputFormat))
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"out.{request.param}"


def test_rows_go_to_standard_output_without_a_file(colours: Path) -> None:
    stdout = io.BytesIO()
    report = classify(job(colours), stdout=stdout)
    lines = stdout.getvalue().decode().splitlines()
    assert lines[0] == "path,prediction,probability,red,green,blue,note,error"
    assert [line.split(",")[1] for line in lines[1:4]] == ["red", "green", "blue"]
    assert (report.done, report.failed, report.exit_code) == (7, 0, 0)
    assert sum(report.counts.values()) == 7


def test_only_the_output_and_its_manifest_stay(colours: Path, out: Path) -> None:
    classify(job(colours, out))
    assert sorted(p.name for p in out.parent.iterdir() if p != colours) == [
        out.name,
        f"{out.name}.manifest.json",
    ]


def test_the_manifest_says_what_made_the_output(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    (colours / "9-broken.png").write_bytes(b"")
    report = classify(job(colours, out, scoring=ScoringOptions(threshold=0.4)))
    content = json.loads(manifest_path(out).read_text(encoding="utf-8"))
    assert report.exit_code == 3
    assert content["manifest"] == 1
    assert content["model"] == {
        "name": "fake",
        "precision": "fp32",
        "fingerprint": FakeEncoder().fingerprint,
    }
    assert content["prompts"]["red"] == ["a photo of a red"]
    assert content["scoring"]["threshold"] == 0.4
    assert (content["images"], content["failed"]) == (8, 1)
    assert content["reasons"] == {"empty file": 1}


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    colours: Path, out: Path, batches: int
) -> None:
    (colours / "1-green.png").write_bytes(b"no picture")
    whole = out.with_name("whole" + out.suffix)
    classify(job(colours, whole))
    first = job(colours, out)
    stopped = classify(first, stops_after=batches)
    assert stopped.interrupted
    assert stopped.exit_code == 130
    assert not out.exists()
    report = classify(resuming(first))
    assert report.resumed == 2 * batches
    assert report.done == 7 - 2 * batches
    assert sum(report.counts.values()) + report.failed == 7
    assert out.read_bytes() == whole.read_bytes()


def test_a_run_killed_anywhere_resumes_to_the_same_bytes(colours: Path, out: Path) -> None:
    whole = out.with_name("whole" + out.suffix)
    classify(job(colours, whole))
    first = job(colours, out)
    classify(first, stops_after=3)
    part = out.with_name(out.name + ".part")
    rows, described = part.read_bytes(), manifest_path(part).read_bytes()
    for cut in range(0, len(rows), 7):
        part.write_bytes(rows[:cut])
        manifest_path(part).write_bytes(described)
        encoder = FakeEncoder()
        report = classify(resuming(first), encoder=encoder)
        assert out.read_bytes() == whole.read_bytes(), cut
        # Off a batch boundary the same pictures would be in other batches and round differently.
        assert report.resumed % 2 == 0
        assert encoder.batch_sizes == [2, 2, 2, 1][report.resumed // 2 :]
        out.unlink()
        manifest_path(out).unlink()


@pytest.mark.parametrize("stops_after", [1, 2, 3])
def test_a_table_with_kept_columns_resumes_to_the_same_bytes(
    colours: Path, out: Path, stops_after: int
) -> None:
    table = colours.parent / "t.jsonl"
    rows = [{"image": str(path), "n": i} for i, path in enumerate(sorted(colours.iterdir()))]
    rows[2:2] = [{"n": 0.5, "name": '"a",\n'}, rows[0]]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    first = job(colours, out, inputs=(str(table),), discovery=TABLES)
    classify(first)
    whole = out.read_bytes()
    out.unlink()
    classify(first, stops_after=stops_after)
    report = classify(resuming(first))
    assert out.read_bytes() == whole
    assert (report.counts.total(), report.reasons) == (8, {"no image in this row": 1})
    frame = read_results(out)
    assert list(frame["path"])[:4] == [rows[0]["image"], rows[1]["image"], f"{table}#2",
                                       rows[0]["image"]]  # fmt: skip
    assert [float(n) for n in frame["n"]] == [row["n"] for row in rows]
    assert frame["name"][2] == '"a",\n'
    for keep in ((), ("name", "n")):
        other = changed(first, "inputs", discovery=dataclasses.replace(TABLES, keep=keep))
        with pytest.raises(ResumeError, match="--keep (is now|was in the order)"):
            classify(resuming(other))


def test_a_table_is_never_overwritten_by_its_result(colours: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"image,n,name\n{colours}/0-red.png,1,a\n", encoding="utf-8")
    replacing = OutputOptions(table, overwrite=True)
    with pytest.raises(OptionError, match="is read by this run"):
        classify(job(colours, inputs=(str(table),), discovery=TABLES, output=replacing))
    with pytest.raises(OptionError, match="--keep: 'name' is a column of the output itself"):
        classify(
            job(colours, inputs=(str(table),), discovery=TABLES, labels=make_labels(["name", "b"]))
        )


def test_an_interrupt_after_the_last_row_finishes_the_file(colours: Path, out: Path) -> None:
    report = classify(job(colours, out), stops_after=4)
    assert (report.interrupted, report.done) == (False, 7)
    assert len(read_results(out)) == 7
    assert not out.with_name(f"{out.name}.part").exists()


def test_resuming_twice_more_changes_nothing(colours: Path, out: Path) -> None:
    first = job(colours, out)
    classify(first)
    before = out.read_bytes()
    encoder = FakeEncoder()
    report = classify(resuming(first), encoder=encoder)
    assert encoder.batch_sizes == []
    assert out.read_bytes() == before
    assert (report.done, report.resumed, sum(report.counts.values())) == (0, 7, 7)


def test_resume_without_anything_to_resume_starts(colours: Path, out: Path) -> None:
    report = classify(resuming(job(colours, out)))
    assert (report.done, report.resumed) == (7, 0)


def test_a_kill_between_the_last_two_renames_is_mended(colours: Path, out: Path) -> None:
    first = job(colours, out)
    classify(first)
    manifest_path(out).rename(manifest_path(out.with_name(out.name + ".part")))
    assert classify(resuming(first)).resumed == 7
    assert manifest_path(out).exists()


CHANGES: list[tuple[Callable[[Job], Job], str]] = [
    (
        lambda j: changed(j, "question", labels=make_labels(["red", "blue", "green"])),
        "labels was in the order 'red', 'green', 'blue' and is now 'red', 'blue', 'green'",
    ),
    (
        lambda j: changed(j, "question", labels=make_labels(["red", "green", "grey"])),
        "the list of labels is now without 'blue' and with 'grey'",
    ),
    (lambda j: changed(j, "question", templates=("a <>",)), r"for 'red' was \[\"a photo of a"),
    (
        lambda j: changed(j, "question", scoring=ScoringOptions(threshold=0.9)),
        "--threshold was not given and is now 0.9",
    ),
    (
        lambda j: changed(j, "question", scoring=ScoringOptions(unknown=UnknownOptions())),
        "--unknown was not given and is now given",
    ),
    (lambda j: changed(j, "output", logits=True), "--logits was not given and is now given"),
]


@pytest.mark.parametrize("stops_after", [1, None])
@pytest.mark.parametrize(("change", "difference"), CHANGES)
def test_another_run_is_not_resumed(
    colours: Path,
    out: Path,
    stops_after: int | None,
    change: Callable[[Job], Job],
    difference: str,
) -> None:
    first = job(colours, out)
    classify(first, stops_after=stops_after)
    before = {p.name: p.read_bytes() for p in out.parent.iterdir() if p.is_file()}
    with pytest.raises(ResumeError, match=difference):
        classify(change(resuming(first)))
    assert {p.name: p.read_bytes() for p in out.parent.iterdir() if p.is_file()} == before


def test_whatever_differs_is_said_in_the_words_of_users(colours: Path, out: Path) -> None:
    """Also what is described one day: a key of a manifest without such words fails here."""
    scoring = ScoringOptions(unknown=UnknownOptions())
    classify(job(colours, out, scoring=scoring))
    described = json.loads(manifest_path(out).read_text())

    def check(part: dict[str, Any], key: str) -> None:
        before = part[key]
        if isinstance(before, dict) and before:
            for inner in before:
                check(before, inner)
            return
        part[key] = "something else"
        found = difference(was, {name: described[name] for name in COMPARED})
        assert re.match("--|the .* (was|is) ", found or ""), found
        part[key] = before

    was = json.loads(json.dumps(described))
    for key in COMPARED:
        check(described, key)
    assert difference(was, described) is None
    described["output"]["keep"] = {"id": "int64"}
    assert difference(was, {"output": described["output"]}) == "--keep is now with 'id'"


def test_another_model_is_not_resumed(colours: Path, out: Path) -> None:
    first = job(colours, out)
    classify(first, stops_after=1)
    with pytest.raises(ResumeError, match=r"weights or preprocessing of the model .*--overwrite"):
        classify(resuming(first), encoder=FakeEncoder(logit_scale=20))


def test_other_inputs_are_not_resumed(colours: Path, out: Path) -> None:
    first = job(colours, out)
    classify(first, stops_after=1)
    save_colours(colours / "0-first", ["red"])
    with pytest.raises(ResumeError, match=r"row 1 is '.*0-red\.png', the inputs now have"):
        classify(resuming(first))


def test_a_complete_output_of_other_inputs_is_not_resumed(colours: Path, out: Path) -> None:
    first = job(colours, out)
    classify(first)
    (colours / "6-red.png").unlink()
    with pytest.raises(ResumeError, match="of 7 images, the inputs now have 6"):
        classify(resuming(first))


def test_resume_keeps_the_batch_size_of_the_interrupted_run(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    classify(job(colours, out), stops_after=1)
    encoder = FakeEncoder()
    again = resuming(job(colours, out, runtime=RuntimeOptions(device="cpu", batch_size=5)))
    classify(again, encoder=encoder)
    assert encoder.batch_sizes == [2, 2, 1]


def test_an_output_is_never_replaced_without_a_word(colours: Path, out: Path) -> None:
    out.write_text("precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        classify(job(colours, out))
    assert out.read_text() == "precious"


def test_overwriting_keeps_the_old_output_until_the_end(colours: Path, out: Path) -> None:
    out.write_text("precious")
    again = job(colours, output=OutputOptions(out, overwrite=True))
    classify(again, stops_after=1)
    assert out.read_text() == "precious"
    classify(again)
    assert out.read_bytes() != b"precious"


def test_an_interrupted_run_is_not_thrown_away_without_a_word(colours: Path, out: Path) -> None:
    classify(job(colours, out), stops_after=1)
    with pytest.raises(OutputExistsError, match="--resume continues it"):
        classify(job(colours, out))


def test_the_second_run_into_one_file_is_refused(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    options = OutputOptions(out)
    with (
        open_sink(options, Columns(("red",)), {}),
        pytest.raises(OutputLockedError, match=r"another run is writing .*out\.csv"),
    ):
        classify(job(colours, out))
    classify(job(colours, out))


def test_a_missing_folder_for_the_output_costs_no_scoring(colours: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    with pytest.raises(OptionError, match="does not exist: make it, or change -o"):
        classify(job(colours, tmp_path / "none" / "out.csv"), encoder=encoder)
    with pytest.raises(OptionError, match="is a folder"):
        classify(job(colours, tmp_path), encoder=encoder)
    assert encoder.batch_sizes == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has /dev/full")
def test_a_full_disk_is_one_line(colours: Path) -> None:
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OutputError, match="No space left"),
    ):
        classify(job(colours), stdout=full)


def test_an_error_in_the_middle_keeps_the_rows_before_it(colours: Path, tmp_path: Path) -> None:
    class Breaking(FakeEncoder):
        def encode_images(self, batch: Any) -> Any:
            if len(self.batch_sizes) == 2:
                raise ClipclsError("the device is gone")
            return super().encode_images(batch)

    out = tmp_path / "out.csv"
    first = job(colours, out)
    with pytest.raises(ClipclsError, match="the device is gone"):
        classify(first, encoder=Breaking())
    assert classify(resuming(first)).resumed == 4


def test_nothing_is_written_when_there_are_no_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    stdout = io.BytesIO()
    with pytest.raises(InputError, match="empty"):
        classify(job(folder), stdout=stdout)
    assert stdout.getvalue() == b""


def test_two_folders_with_the_same_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    save_colours(tmp_path / "a", ["red"])
    save_colours(tmp_path / "b", ["red"])
    stdout = io.BytesIO()
    inputs = (str(tmp_path / "a"), str(tmp_path / "b"))
    classify(job(tmp_path, inputs=inputs), stdout=stdout)
    assert len(stdout.getvalue().splitlines()) == 3


def test_paths_from_standard_input_are_scored_in_order(colours: Path) -> None:
    paths = [str(colours / name) for name in ("2-blue.png", "gone.png", "0-red.png")]
    stdout = io.BytesIO()
    stdin = io.BytesIO("\n".join(paths).encode())
    report = classify(job(colours, inputs=("-",)), stdin=stdin, stdout=stdout)
    rows = stdout.getvalue().decode().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == paths
    assert rows[1].endswith(",file not found")
    assert report.exit_code == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": make_labels(["red"])}, "'red' is the only label.*always 1.0"),
        ({"scoring": ScoringOptions(multi_label=True)}, "not trained for independent labels"),
        ({"templates": ("word " * 80 + "<>",)}, "tokens, fake reads 77 and ignores the rest"),
    ],
)
def test_a_doubtful_combination_warns(colours: Path, changes: dict[str, Any], message: str) -> None:
    observer = Collecting()
    classify(job(colours, **changes), observer=observer, stdout=io.BytesIO())
    assert len(observer.warnings) == 1

    assert re.search(message, observer.warnings[0])


def test_a_label_called_unknown_and_a_threshold_do_not_mix(colours: Path) -> None:
    labels = make_labels(["red", "unknown"])
    classify(job(colours, labels=labels), stdout=io.BytesIO())
    with pytest.raises(LabelError, match="could not be told from a rejected image"):
        classify(job(colours, labels=labels, scoring=ScoringOptions(threshold=0.5)))


def test_a_copy_of_the_output_without_its_manifest_is_not_resumed(
    colours: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    classify(job(colours, out))
    copy = tmp_path / "copy.csv"
    shutil.copy(out, copy)
    with pytest.raises(ResumeError, match=r"copy\.csv\.manifest\.json is missing"):
        classify(resuming(job(colours, copy)))


def test_another_precision_is_named_and_not_only_its_fingerprint(
    colours: Path, tmp_path: Path
) -> None:
    first = job(colours, tmp_path / "out.csv")
    classify(first, stops_after=1)
    runtime = dataclasses.replace(first.model.runtime, precision=Precision.BF16)
    with pytest.raises(ResumeError, match=r"\(--precision\) was fp32 and is now bf16"):
        classify(changed(resuming(first), "model", runtime=runtime))


def test_a_pipe_or_device_is_written_to_and_never_replaced(colours: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    received: list[bytes] = []
    reader = threading.Thread(
        target=lambda: received.append((tmp_path / "pipe.csv").read_bytes()), daemon=True
    )
    reader.start()
    classify(job(colours, tmp_path / "pipe.csv"))
    reader.join(timeout=20)
    assert len(received[0].splitlines()) == 8
    assert (tmp_path / "pipe.csv").is_fifo()


def test_a_linked_output_is_followed(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    classify(job(colours, tmp_path / "link.csv"))
    assert (tmp_path / "link.csv").is_symlink()
    assert len((tmp_path / "real.csv").read_bytes().splitlines()) == 8


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}])
def test_a_strangers_part_file_is_left_alone(
    colours: Path, tmp_path: Path, flags: dict[str, Any]
) -> None:
    part = tmp_path / "out.csv.part"
    part.write_text("not ours")
    with pytest.raises(OutputExistsError, match="no run of clipcls left it"):
        classify(job(colours, output=OutputOptions(tmp_path / "out.csv", **flags)))
    assert part.read_text() == "not ours"


def test_parquet_is_not_streamed_into_a_pipe(colours: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(OptionError, match="Parquet cannot be streamed into it"):
        classify(job(colours, tmp_path / "pipe.parquet"))


def test_a_missing_extra_leaves_nothing_behind(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"clipcls\[parquet\]"):
        classify(job(colours, tmp_path / "out.parquet"))
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]


def test_a_link_to_an_input_is_not_overwritten_either(colours: Path, tmp_path: Path) -> None:
    picture = colours / "0-red.png"
    before = picture.read_bytes()
    (tmp_path / "out.csv").symlink_to(picture)
    with pytest.raises(OptionError, match="is read by this run"):
        classify(job(colours, output=OutputOptions(tmp_path / "out.csv", overwrite=True)))
    assert picture.read_bytes() == before


def test_a_manifest_of_an_unfinished_run_never_replaces_that_of_an_output(
    colours: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    classify(job(colours, out))
    described = manifest_path(out).read_bytes()
    other = job(colours, labels=LABELS[:2], output=OutputOptions(out, overwrite=True))
    classify(other, stops_after=1)
    (tmp_path / "out.csv.part").unlink()
    with pytest.raises(OutputExistsError):
        classify(job(colours, out))
    assert manifest_path(out).read_bytes() == described


def test_a_lost_row_is_noticed_before_the_partial_file_goes(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of a Parquet run reads the rows back; a read error must not drop them."""
    read = ParquetWriter._batches
    monkeypatch.setattr(ParquetWriter, "_batches", lambda *args: islice(read(*args), 3))
    out = tmp_path / "out.parquet"
    with pytest.raises(OutputError, match="6 readable rows of 7"):
        classify(job(colours, out))
    assert not out.exists()
    monkeypatch.undo()
    classify(resuming(job(colours, out)))
    assert len(read_results(out)) == 7


def test_an_error_while_writing_stops_the_decoding(colours: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        classify(job(colours), stdout=Full())
    assert not [t for t in threading.enumerate() if t.name.startswith("clipcls-")]


def test_an_input_is_never_overwritten_by_its_own_result(colours: Path, tmp_path: Path) -> None:
    picture = colours / "0-red.png"
    before = picture.read_bytes()
    options = OutputOptions(picture, OutputFormat.CSV, overwrite=True)
    with pytest.raises(OptionError, match="is read by this run: choose another output"):
        classify(job(colours, output=options))
    with tarfile.open(archive := tmp_path / "s.tar", "w") as opened:
        opened.add(picture, "a.png")
    options = OutputOptions(archive, OutputFormat.CSV, overwrite=True)
    with pytest.raises(OptionError, match="is read by this run"):
        classify(job(colours, output=options, inputs=(str(archive),)))
    labels = tmp_path / "labels.csv"
    labels.write_text("label\nred\n")
    options = OutputOptions(labels, overwrite=True)
    with pytest.raises(OptionError, match="is read by this run"):
        classify(job(colours, output=options, reads=(labels,)))
    assert (picture.read_bytes(), labels.read_text()) == (before, "label\nred\n")


def test_an_empty_pipe_leaves_nothing_behind(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        classify(job(colours, tmp_path / "out.csv", inputs=("-",)), stdin=io.BytesIO())
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]


def test_a_batch_size_that_cannot_be_kept_is_told(colours: Path, tmp_path: Path) -> None:
    first = job(colours, tmp_path / "out.csv")
    classify(first, stops_after=1)
    observer = Collecting()
    again = changed(resuming(first), "model", runtime=RuntimeOptions("cpu", batch_size=5))
    classify(again, observer=observer)
    assert observer.warnings == ["keeping the batch size of the interrupted run, 2"]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, hub_cache: HubCache) -> list[str]:
    """The names of the models that are loaded; each is the fake encoder under that name."""
    names: list[str] = []

    def load(spec: ModelSpec, *_: object) -> FakeEncoder:
        names.append(spec.name)
        encoder = FakeEncoder()
        encoder.name = spec.name
        encoder.fingerprint = spec.name
        return encoder

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    return names


def unnamed(first: Job) -> Job:
    return changed(first, "model", word="auto")


def stopped(first: Job) -> Job:
    """Run it until its first batch is written, and return what resumes it."""
    assert run(first, should_stop=lambda: True).interrupted
    return resuming(first)


def cache_fast(hub_cache: HubCache) -> None:
    repository = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
    hub_cache.add(repository, "open_clip_model.safetensors", b"never read")


FAST = "ViT-B-32-256:datacomp_s34b_b86k"


def test_what_mini_began_auto_ends_with_mini_even_when_fast_has_come(
    colours: Path, out: Path, hub_cache: HubCache, loaded: list[str]
) -> None:
    again = stopped(unnamed(job(colours, out)))
    cache_fast(hub_cache)
    for _ in range(2):  # the second time the output is complete
        observer = Collecting()
        report = run(again, observer=observer)
        assert report.model == "mini"
        assert len(observer.warnings) == 1
        assert "mini is used, because it made the rows that are there" in observer.warnings[0]
    assert loaded == ["mini"] * 2  # a finished output is checked without a model
    assert json.loads(manifest_path(out).read_bytes())["model"]["name"] == "mini"


def test_what_fast_began_auto_does_not_end_with_mini(
    colours: Path, out: Path, hub_cache: HubCache, loaded: list[str], tmp_path: Path
) -> None:
    cache_fast(hub_cache)
    again = stopped(unnamed(job(colours, out)))
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(ModelDownloadError, match=f"{FAST} is not on this machine"):
        run(again)
    cache_fast(hub_cache)
    assert run(again).model == FAST
    assert loaded == [FAST] * 2


def test_what_a_named_model_began_auto_does_not_end(
    colours: Path, out: Path, hub_cache: HubCache, loaded: list[str]
) -> None:
    hub_cache.add("timm/resnet50_clip.openai", "open_clip_model.safetensors", b"never read")
    again = stopped(job(colours, out, model="RN50:openai"))
    loaded.clear()
    with pytest.raises(ResumeError, match="by RN50:openai: give --model RN50:openai to go on"):
        run(unnamed(again))
    assert loaded == []
    assert run(again).done == 5


def test_another_named_model_does_not_end_what_mini_began(
    colours: Path, out: Path, hub_cache: HubCache, loaded: list[str]
) -> None:
    again = stopped(unnamed(job(colours, out)))
    cache_fast(hub_cache)
    with pytest.raises(ResumeError, match=rf"\(--model\) was mini and is now {FAST}"):
        run(changed(again, "model", word="fast"))


def test_a_device_that_is_not_there_costs_no_download(
    colours: Path, monkeypatch: pytest.MonkeyPatch, hub_cache: HubCache
) -> None:
    def pull(spec: ModelSpec, tell: object) -> Path:
        raise AssertionError("downloads")

    monkeypatch.setattr(Published, "checkpoint", pull)
    with pytest.raises(DeviceError):
        run(unnamed(job(colours, runtime=RuntimeOptions("cuda:99"))))


@pytest.mark.parametrize("cached", [False, True])
def test_the_first_images_are_decoded_while_the_model_is_loaded_and_reads_the_prompts(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cached: bool
) -> None:
    prepared = threading.Semaphore(0)

    class Transform(FakeEncoder):
        def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
            prepared.release()
            return super().prepare(image)

    class Reading(FakeEncoder):
        def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
            assert prepared.acquire(timeout=60)
            return super().encode_texts(prompts)

    def load(*args: Any) -> FakeEncoder:
        *_, ready = args
        ready(Transform())
        assert prepared.acquire(timeout=60)
        return Reading()

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    cache = CacheOptions(tmp_path / "cache") if cached else None
    runtime = RuntimeOptions("cpu", batch_size=2, workers=1, cache=cache)
    report = run(job(colours, tmp_path / "out.csv", model="mini", runtime=runtime))
    assert report.counts.total() == 7
    assert report.counts["blue"] == 2


@pytest.mark.parametrize("known", [False, True])
def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    def load(*args: Any) -> FakeEncoder:
        *_, ready = args
        if known:
            ready(FakeEncoder())
        raise ModelError("the weights are damaged")

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    runtime = RuntimeOptions("cpu", batch_size=2, workers=2)
    with pytest.raises(ModelError, match="the weights are damaged"):
        run(job(colours, tmp_path / "out.csv", model="mini", runtime=runtime))
    assert not [t for t in threading.enumerate() if t.name.startswith("clipcls-")]
    assert not [path for path in tmp_path.glob("out.csv*") if path.suffix != ".lock"]
