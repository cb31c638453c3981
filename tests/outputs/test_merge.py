"""The outputs of shards become the output of the run without shards, or nothing at all."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcls import Classifier, merge_shards, read_results, read_shards
from clipcls.errors import MergeError, OptionError, OutputExistsError, ResumeError
from clipcls.options import DiscoveryOptions, OutputFormat, OutputOptions, RuntimeOptions
from clipcls.outputs.manifest import manifest_path, packed, unpacked
from clipcls.shards import Shard
from clipcls.testing import save_colours
from tests.test_run import changed, classify, job, resuming

FORMATS = list(OutputFormat)
ONLY_SHARDS_SAY = {"started", "finished", "shards"}


@pytest.fixture
def images(colours: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with eight images, one of them broken.

    By a relative path, as the folder of a test is another each time and so would be the shards.
    """
    (colours / "3-broken.png").write_bytes(b"")
    monkeypatch.chdir(colours.parent)
    return Path(colours.name)


def in_shards(images: Path, folder: Path, of: int, suffix: str, **output: Any) -> list[Path]:
    """Classify a folder in shards."""
    paths = [folder / f"part-{number}.{suffix}" for number in range(1, of + 1)]
    for number, path in enumerate(paths, start=1):
        whole = job(images, output=OutputOptions(path, **output))
        classify(changed(whole, "inputs", shard=Shard(number, of)))
    return paths


def described(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(manifest_path(path).read_text(encoding="utf-8"))
    return content


def describe(path: Path, **changes: Any) -> None:
    manifest_path(path).write_text(json.dumps(described(path) | changes), encoding="utf-8")


def problems(paths: Sequence[Path]) -> list[str]:
    """What `read_shards` finds, without the folder."""
    with pytest.raises(MergeError) as caught:
        read_shards(paths)
    folder = f"{paths[0].parent}{os.sep}"
    return [text.replace(folder, "") for text in caught.value.problems]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "output", [{}, {"top_k": 2}, {"logits": True, "similarities": True}], ids=str
)
@pytest.mark.parametrize("of", [1, 3, 20])
def test_merged_shards_are_the_output_of_the_run_without_shards(
    images: Path, tmp_path: Path, suffix: str, output: dict[str, Any], of: int
) -> None:
    """With 20 shards of 8 images, most are empty."""
    whole, merged = tmp_path / f"whole.{suffix}", tmp_path / f"merged.{suffix}"
    classify(job(images, output=OutputOptions(whole, **output)))
    parts = in_shards(images, tmp_path, of, suffix, **output)
    report = merge_shards(read_shards(reversed(parts)), merged)
    assert merged.read_bytes() == whole.read_bytes()
    assert (report.failed, report.exit_code) == (1, 3)
    expected, found = described(whole), described(merged)
    for key in ONLY_SHARDS_SAY:
        expected.pop(key, None)
        found.pop(key)
    assert found == expected
    assert list(found["counts"]) == list(expected["counts"])


@pytest.mark.parametrize("suffix", FORMATS)
def test_kept_columns_come_together_too(images: Path, tmp_path: Path, suffix: str) -> None:
    files = sorted(images.iterdir())
    rows = [{"image": file.read_bytes(), "n": i, "at": None} for i, file in enumerate(files)]
    pq.write_table(pa.Table.from_pylist(rows), "t.parquet")
    discovery = DiscoveryOptions(image_column="image", keep=("n", "at"))
    whole = job(images, tmp_path / f"whole.{suffix}", inputs=("t.parquet",), discovery=discovery)
    classify(whole)
    parts = [tmp_path / f"part-{number}.{suffix}" for number in (1, 2, 3)]
    for number, path in enumerate(parts, start=1):
        part = changed(changed(whole, "inputs", shard=Shard(number, 3)), "output", path=path)
        classify(part)
    merged = tmp_path / f"merged.{suffix}"
    merge_shards(read_shards(parts), merged)
    assert merged.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    assert list(read_results(merged)["n"].astype(int)) == list(range(len(files)))
    again = classify(resuming(changed(whole, "output", path=merged)))
    assert again.resumed == len(files)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_shard_is_an_output_without_rows(
    images: Path, tmp_path: Path, suffix: str
) -> None:
    parts = in_shards(images, tmp_path, 20, suffix)
    sizes = [len(read_results(part)) for part in parts]
    assert sum(sizes) == 8
    assert 0 in sizes


PATHS = st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name)


@settings(max_examples=25, deadline=None)
@given(
    paths=st.lists(PATHS | st.sampled_from([b"red", b"blue"]), min_size=1, max_size=12),
    of=st.integers(1, 5),
    suffix=st.sampled_from(FORMATS),
)
def test_any_list_comes_together_again(paths: list[bytes], of: int, suffix: str) -> None:
    """Names with commas, quotes, line ends, invalid UTF-8, names that come twice, missing files."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        red, blue = save_colours(folder / "images", ["red", "blue"])
        known = {b"red": os.fsencode(red), b"blue": os.fsencode(blue)}
        listed = b"".join(known.get(path, b"/none/" + path) + b"\0" for path in paths)
        outputs = []
        for shard in [None, *(Shard(number, of) for number in range(1, of + 1))]:
            outputs.append(folder / f"{shard.number if shard else 0}.{suffix}")
            asked = job(folder, outputs[-1], inputs=("-",))
            asked = changed(asked, "inputs", shard=shard, discovery=DiscoveryOptions(True, True))
            classify(asked, stdin=io.BytesIO(listed))
        whole, *parts = outputs
        merge_shards(read_shards(parts), folder / f"out.{suffix}")
        assert (folder / f"out.{suffix}").read_bytes() == whole.read_bytes()


def test_an_interrupted_shard_is_named_and_can_be_resumed(images: Path, tmp_path: Path) -> None:
    parts = in_shards(images, tmp_path, 2, "csv")
    largest = max(parts, key=lambda part: len(read_results(part)))
    again = changed(job(images, largest), "output", overwrite=True)
    again = changed(again, "inputs", shard=Shard(parts.index(largest) + 1, 2))
    before = largest.read_bytes()
    assert classify(again, stops_after=1).interrupted
    largest.unlink()
    said = f"{largest.name}.part is not finished: run that shard again with --resume"
    assert problems(parts) == [said]
    assert problems(sorted(tmp_path.glob("part-*"))) == [said]
    assert classify(resuming(changed(again, "output", overwrite=False))).resumed == 2
    assert largest.read_bytes() == before
    merge_shards(read_shards(tmp_path.glob("part-*")), tmp_path / "out.csv")


def test_missing_and_repeated_shards_are_named(images: Path, tmp_path: Path) -> None:
    one, two, *_, last = in_shards(images, tmp_path, 9, "csv")
    copy = tmp_path / "copy.csv"
    copy.write_bytes(two.read_bytes())
    manifest_path(copy).write_bytes(manifest_path(two).read_bytes())
    assert problems([one, two, last, copy]) == [
        "shard 2/9 is there twice: part-2.csv and copy.csv",
        "shards 3-8 of 9 are missing",
    ]
    assert problems([two]) == ["shards 1, 3-9 of 9 are missing"]


def test_what_is_no_shard_is_named(images: Path, tmp_path: Path) -> None:
    classify(job(images, tmp_path / "whole.csv"))
    (tmp_path / "bare.csv").touch()
    paths = [tmp_path / name for name in ("whole.csv", "bare.csv", "gone.csv", "pictures")]
    found = problems(paths)
    assert found[0].startswith("whole.csv: is the output of a whole run, not of a shard")
    assert found[1].startswith("bare.csv: bare.csv.manifest.json is missing")
    assert found[1].endswith(
        "; bring it here from where that shard was run, or run that shard again"
    )
    assert found[2:] == ["gone.csv: no such file", "pictures: is a folder"]
    assert problems([tmp_path / "x.lock"]) == ["no outputs of shards are given"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"name": "other"}}, "the model (--model) was"),
        ({"decode": {"fit": "pad"}}, "--fit was model and is now pad"),
        ({"device_kind": "cuda"}, "the device (--device) was cpu and is now cuda"),
        ({"listed": 9}, "the number of images was 8 and is now 9"),
        ({"inputs_sha256": "0" * 64}, "the list of images is another one"),
        ({"shard": "2/3"}, "the number of shards was 2 and is now 3"),
        ({"output": {"format": "jsonl"}}, "--format was csv and is now jsonl"),
    ],
)
def test_shards_of_different_runs_are_told_apart(
    images: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    one, two = in_shards(images, tmp_path, 2, "csv")
    describe(two, **changes)
    assert f"part-2.csv is of another run than part-1.csv: {said}" in problems([one, two])[0]


def test_mixed_formats_are_refused(images: Path, tmp_path: Path) -> None:
    paths = [in_shards(images, tmp_path, 2, suffix)[i] for i, suffix in enumerate(("csv", "jsonl"))]
    assert problems(paths) == [
        "part-2.jsonl is of another run than part-1.csv: --format was csv and is now jsonl"
    ]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda one, two: one.write_bytes(one.read_bytes()[:-9]),
        lambda one, two: one.write_bytes(b""),
        lambda one, two: one.write_bytes(two.read_bytes()),
        lambda one, two: describe(one, places=described(two)["places"]),
        lambda one, two: describe(one, places=packed([9, 10, 11])),
        lambda one, two: describe(one, places="&"),
        lambda one, two: describe(one, places=None),
        lambda one, two: describe(one, images="many"),
    ],
    ids=["torn", "empty", "exchanged", "places", "beyond", "no base64", "no text", "no number"],
)
def test_damage_is_found_and_nothing_is_left(
    images: Path, tmp_path: Path, suffix: str, damage: Callable[[Path, Path], object]
) -> None:
    one, two = in_shards(images, tmp_path, 2, suffix)
    damage(one, two)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MergeError):
        merge_shards(read_shards([one, two]), tmp_path / f"out.{suffix}")
    assert sorted(tmp_path.iterdir()) == before


def test_rows_in_another_order_are_found(images: Path, tmp_path: Path) -> None:
    paths = in_shards(images, tmp_path, 1, "csv")
    head, first, second, *rest = paths[0].read_bytes().splitlines(keepends=True)
    paths[0].write_bytes(b"".join([head, second, first, *rest]))
    with pytest.raises(MergeError, match="not those of the list"):
        merge_shards(read_shards(paths), tmp_path / "out.csv")


def test_the_output_is_never_a_shard_nor_replaced_unasked(images: Path, tmp_path: Path) -> None:
    parts = in_shards(images, tmp_path, 2, "csv")
    shards, before = read_shards(parts), parts[0].read_bytes()
    with pytest.raises(OutputExistsError):
        merge_shards(shards, parts[0])
    with pytest.raises(OptionError, match="is read by this run"):
        merge_shards(shards, parts[0], overwrite=True)
    with pytest.raises(OptionError, match=r"name it \.csv, or add --format csv"):
        merge_shards(shards, tmp_path / "out.parquet")
    assert parts[0].read_bytes() == before
    out = tmp_path / "out.dat"
    merge_shards(shards, out, format=OutputFormat.CSV)
    merge_shards(shards, out, format=OutputFormat.CSV, overwrite=True)


def test_a_merged_output_is_complete_for_the_run_without_shards(
    images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    merge_shards(read_shards(in_shards(images, tmp_path, 3, "csv")), out)
    report = classify(resuming(job(images, out)))
    assert (report.resumed, report.done, report.failed) == (8, 0, 1)


def test_a_shard_is_resumed_as_itself_only(images: Path, tmp_path: Path) -> None:
    one, _ = in_shards(images, tmp_path, 2, "csv")
    again = resuming(job(images, one))
    rows = len(read_results(one))
    assert classify(changed(again, "inputs", shard=Shard(1, 2))).resumed == rows
    for other in (None, Shard(2, 2), Shard(1, 3)):
        with pytest.raises(ResumeError, match="--shard was 1/2 and is now"):
            classify(changed(again, "inputs", shard=other))
    save_colours(images / "more", ["red"])
    with pytest.raises(ResumeError, match="of 8 images, the inputs now have 9"):
        classify(changed(again, "inputs", shard=Shard(1, 2)))


def test_a_shard_does_not_write_over_the_image_of_another(images: Path) -> None:
    for image in images.glob("*.png"):
        asked = job(images, output=OutputOptions(image, OutputFormat.CSV, overwrite=True))
        for number in (1, 2):
            with pytest.raises(OptionError, match="is read by this run"):
                classify(changed(asked, "inputs", shard=Shard(number, 2)))


@given(places=st.lists(st.integers(0, 2**40), unique=True).map(sorted))
def test_places_come_back_as_they_were_packed(places: list[int]) -> None:
    assert unpacked(packed(places), len(places)).tolist() == places
    with pytest.raises(ValueError, match="not .* places"):
        unpacked(packed(places), len(places) + 1)


def test_places_take_little_room() -> None:
    mine = np.flatnonzero(np.random.default_rng(0).integers(0, 8, 100_000) == 0)
    assert len(packed(mine.tolist())) < 100_000 / 8


def test_the_rows_of_the_bundled_model_are_those_of_the_whole_run(tmp_path: Path) -> None:
    """Other neighbours in a batch may round differently, in the sixth decimal."""
    images = Path(__file__).parents[2] / "examples" / "photos"
    runtime = RuntimeOptions(device="cpu", batch_size=5, workers=2)
    encoder = Classifier(["red"], model="mini", runtime=runtime).encoder
    outputs = [tmp_path / f"{number}.csv" for number in range(3)]
    for number, path in enumerate(outputs):
        asked = job(images, path, model="mini", runtime=runtime)
        shard = Shard(number, 2) if number else None
        classify(changed(asked, "inputs", shard=shard), encoder=encoder)
    whole, *parts = outputs
    merge_shards(read_shards(parts), tmp_path / "out.csv")
    expected, found = read_results(whole), read_results(tmp_path / "out.csv")
    assert list(found["path"]) == list(expected["path"])
    assert list(found["prediction"]) == list(expected["prediction"])
    scores = ["probability", "red", "green", "blue"]
    np.testing.assert_allclose(found[scores], expected[scores], atol=2e-6)
