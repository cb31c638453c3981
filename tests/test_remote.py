"""The same images from a folder and from elsewhere: the same rows."""

from __future__ import annotations

import csv
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipcls.errors import InputError
from clipcls.labels import make_labels
from clipcls.options import DiscoveryOptions, OutputOptions, RemoteOptions, RuntimeOptions
from clipcls.outputs.manifest import manifest_path
from clipcls.outputs.merge import merge_shards, read_shards
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.records import RunReport
from clipcls.run import Job, run
from clipcls.shards import Shard
from clipcls.testing import FakeEncoder
from tests import elsewhere

COUNT = 240
SECRETS = "user:p4ssw0rd@", "?X-Amz-Signature=s1gnature"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many different images, one of them torn."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for i in range(COUNT):
        small = Image.fromarray(random.integers(0, 256, (3, 4, 3), np.uint8))
        suffix = ("jpg", "png", "webp")[i % 3]
        small.resize((64, 48)).save(folder / f"img{i}.{suffix}")
    torn = folder / "img7.png"
    torn.write_bytes(torn.read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def website(images: Path) -> Iterator[str]:
    """The address at which the images are served, with user and password."""
    with elsewhere.website(images) as host:
        yield f"http://{SECRETS[0]}{host}"


def job_of(inputs: list[str], output: OutputOptions, column: str | None = None) -> Job:
    remote = RemoteOptions(allow_private=True)
    return Job(
        Inputs(tuple(inputs), DiscoveryOptions(remote=remote, image_column=column)),
        Question(make_labels(["red", "green", "blue"]), ("a photo of a <>",)),
        ModelChoice("ViT-B-32:openai", None, RuntimeOptions("cpu", batch_size=16, workers=2)),
        output,
    )


def classify(inputs: list[str], out: Path, column: str | None = None, **changes: Any) -> RunReport:
    return run(job_of(inputs, OutputOptions(out, **changes), column), encoder=FakeEncoder())


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def names(images: Path) -> list[str]:
    return [f"img{i}.{('jpg', 'png', 'webp')[i % 3]}" for i in range(COUNT)]


def same_scores(out: Path, folder: Path, expected_paths: list[str]) -> None:
    here, there = rows(folder), rows(out)
    assert [row.pop("path") for row in there] == expected_paths
    assert len([row for row in here if row["error"]]) == 1
    for row in here:
        del row["path"]
    assert there == here


@pytest.fixture(scope="module")
def folder_rows(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "folder.csv"
    assert classify([str(images)], out).failed == 1
    return out


def test_a_list_of_web_addresses(
    images: Path, website: str, folder_rows: Path, tmp_path: Path
) -> None:
    urls = [f"{website}/{name}{SECRETS[1]}" for name in names(images)]
    (tmp_path / "urls.txt").write_text("\n".join(urls), encoding="utf-8")
    out = tmp_path / "out.csv"
    assert classify([f"@{tmp_path}/urls.txt", urls[0]], out).failed == 1
    written = out.read_text() + manifest_path(out).read_text()
    assert not any(word in written for word in ("p4ssw0rd", "s1gnature", "user:"))
    assert json.loads(manifest_path(out).read_text())["inputs"][1].endswith(
        "/img0.jpg?X-Amz-Signature=***"
    )
    # The last row is the image that was named once more.
    assert rows(out)[-1] == rows(out)[0]
    assert classify([f"@{tmp_path}/urls.txt"], tmp_path / "list.csv").failed == 1
    shown = [
        f"{website.replace(SECRETS[0], '')}/{name}?X-Amz-Signature=***" for name in names(images)
    ]
    same_scores(tmp_path / "list.csv", folder_rows, shown)


def table(kind: str, rows: list[Any], folder: Path) -> Path:
    """A table with a column `image`."""
    path = folder / f"table.{kind}"
    if kind == "parquet":
        # Smaller row groups than batches.
        pq.write_table(pa.table({"image": rows}), path, row_group_size=COUNT // 24)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"image": row}) + "\n" for row in rows))
    else:
        path.write_text("\n".join(["id;image", *(f"{i};{row}" for i, row in enumerate(rows))]))
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_of_paths(kind: str, images: Path, folder_rows: Path, tmp_path: Path) -> None:
    paths = [str(images / name) for name in names(images)]
    out = tmp_path / "out.csv"
    assert classify([str(table(kind, paths, tmp_path))], out, "image").failed == 1
    same_scores(out, folder_rows, paths)


@pytest.mark.parametrize("form", ["bytes", "bytes and path"])
def test_a_table_of_bytes(form: str, images: Path, folder_rows: Path, tmp_path: Path) -> None:
    cells: list[Any] = [(images / name).read_bytes() for name in names(images)]
    if form == "bytes and path":
        cells = [{"bytes": data, "path": "x.jpg"} for data in cells]
    path = table("parquet", cells, tmp_path)
    out = tmp_path / "out.csv"
    assert classify([str(path)], out, "image").failed == 1
    same_scores(out, folder_rows, [f"{path}#{i}" for i in range(COUNT)])


def test_a_table_of_addresses(
    images: Path, website: str, folder_rows: Path, tmp_path: Path
) -> None:
    urls = [f"{website}/{name}{SECRETS[1]}" for name in names(images)]
    out = tmp_path / "out.csv"
    assert classify([str(table("jsonl", urls, tmp_path))], out, "image").failed == 1
    shown = [
        f"{website.replace(SECRETS[0], '')}/{name}?X-Amz-Signature=***" for name in names(images)
    ]
    same_scores(out, folder_rows, shown)
    # A table on the web is itself downloaded, and is bound by the same rules.
    table("csv", ["", "gone.jpg"], images)
    assert classify([f"{website}/table.csv"], out, "image", overwrite=True).failed == 2
    host = website.replace(SECRETS[0], "")
    assert [row["path"] for row in rows(out)] == [f"{host}/table.csv#0", "gone.jpg"]
    (images / "table.csv").unlink()
    with pytest.raises(InputError, match=r"cannot be read: download failed: HTTP 404"):
        classify([f"{website}/table.csv"], out, "image", overwrite=True)


def test_a_zip_archive(images: Path, folder_rows: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in reversed(names(images)):
            archive.write(images / name, f"a/{name}")
    out = tmp_path / "out.csv"
    assert classify([f"zip://{tmp_path}/images.zip"], out).failed == 1
    same_scores(out, folder_rows, [f"zip://a/{n}::{tmp_path}/images.zip" for n in names(images)])


def make_shards(images: Path, folder: Path) -> list[str]:
    """Put the images into three shards of a webdataset, and return what they should be called."""
    shown = []
    for i in range(3):
        name = f"s-{i:02}.tar{'.gz' if i == 2 else ''}"
        with tarfile.open(folder / name, "w:gz" if i == 2 else "w") as archive:
            for image in names(images)[80 * i : 80 * (i + 1)]:
                archive.add(images / image, f"a/{image}")
                archive.addfile(tarfile.TarInfo(f"a/{image[:-4].rstrip('.')}.json"))
                shown.append(f"tar://a/{image}::{{}}{name}")
    return shown


def test_shards_of_a_webdataset(images: Path, folder_rows: Path, tmp_path: Path) -> None:
    shown = make_shards(images, tmp_path)
    out = tmp_path / "out.csv"
    report = classify([f"{tmp_path}/s-{{00..01}}.tar", f"{tmp_path}/s-02.tar.gz"], out)
    assert report.failed == 1
    assert report.skipped == {}
    same_scores(out, folder_rows, [path.format(f"{tmp_path}/") for path in shown])
    written = out.read_bytes()
    again = classify([f"{tmp_path}/s-0{{0,1}}.tar", f"{tmp_path}/s-02.tar.gz"], out, resume=True)
    assert (again.resumed, out.read_bytes()) == (COUNT, written)


def test_shards_are_read_as_the_parts_of_a_run(images: Path, tmp_path: Path) -> None:
    shown = make_shards(images, tmp_path)
    inputs = [f"{tmp_path}/s-{{00..01}}.tar", f"{tmp_path}/s-02.tar.gz"]
    for i in (1, 2):
        out = OutputOptions(tmp_path / f"part-{i}.csv")
        run(replace(job_of(inputs, out), inputs=Inputs(tuple(inputs), shard=Shard(i, 2))),
            encoder=FakeEncoder())  # fmt: skip
    parts = [tmp_path / "part-1.csv", tmp_path / "part-2.csv"]
    assert all(rows(part) for part in parts)
    merge_shards(read_shards([str(part) for part in parts]), str(tmp_path / "out.csv"))
    found = [row["path"] for row in rows(tmp_path / "out.csv")]
    assert found == [path.format(f"{tmp_path}/") for path in shown]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with elsewhere.bucket(monkeypatch) as client:
        yield client


def test_a_prefix_in_s3(images: Path, folder_rows: Path, tmp_path: Path, bucket: Any) -> None:
    for name in names(images):
        bucket.put_object(Bucket="pictures", Key=f"a/{name}", Body=(images / name).read_bytes())
    for key in ("a/", "a/notes.txt", "other/img.jpg"):
        bucket.put_object(Bucket="pictures", Key=key, Body=b"")
    out = tmp_path / "out.csv"
    report = classify(["s3://pictures/a"], out)
    assert report.failed == 1
    assert report.skipped == {"not an image": 1}
    same_scores(out, folder_rows, [f"s3://pictures/a/{name}" for name in names(images)])
    classify(
        ["s3://pictures/a/gone.jpg", "s3://none/a.jpg", "s3://pictures/other/"], out, overwrite=True
    )
    found = [(row["path"], row["error"]) for row in rows(out)]
    assert found == [
        ("s3://pictures/a/gone.jpg", "file not found"),
        ("s3://none/a.jpg", "file not found"),
        ("s3://pictures/other/img.jpg", "empty file"),
    ]


def test_shards_in_s3_and_on_the_web(
    images: Path,
    folder_rows: Path,
    tmp_path: Path,
    bucket: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In parts from the store; whole from a server that gives none."""
    monkeypatch.setattr("clipcls.inputs.stores.PART_BYTES", 30_000)
    shown = make_shards(images, tmp_path)
    for path in tmp_path.glob("s-*"):
        bucket.put_object(Bucket="pictures", Key=f"t/{path.name}", Body=path.read_bytes())
    out = tmp_path / "s3.csv"
    report = classify(["s3://pictures/t/s-{00..01}.tar", "s3://pictures/t/s-02.tar.gz"], out)
    assert report.failed == 1
    same_scores(out, folder_rows, [path.format("s3://pictures/t/") for path in shown])
    # A shard that is not there costs no other.
    report = classify(["s3://pictures/t/s-{01..03}.tar"], tmp_path / "gone.csv")
    assert report.reasons["file not found"] == 2
    assert report.done == 80
    with elsewhere.website(tmp_path) as host:
        website = f"http://{SECRETS[0]}{host}"
        urls = [f"{website}/s-{{00..01}}.tar{SECRETS[1]}", f"{website}/s-02.tar.gz{SECRETS[1]}"]
        out = tmp_path / "web.csv"
        assert classify(urls, out).failed == 1
    written = out.read_text() + manifest_path(out).read_text()
    assert not any(word in written for word in ("p4ssw0rd", "s1gnature", "user:"))
    start, end = website.replace(SECRETS[0], "") + "/", "?X-Amz-Signature=***"
    same_scores(out, folder_rows, [path.format(start) + end for path in shown])


def test_tables_in_s3_and_in_an_archive(
    images: Path, folder_rows: Path, tmp_path: Path, bucket: Any
) -> None:
    cells = [(images / name).read_bytes() for name in names(images)]
    path = table("parquet", cells, tmp_path)
    bucket.put_object(Bucket="pictures", Key="t.parquet", Body=path.read_bytes())
    out = tmp_path / "out.csv"
    assert classify(["s3://pictures/t.parquet"], out, "image").failed == 1
    same_scores(out, folder_rows, [f"s3://pictures/t.parquet#{i}" for i in range(COUNT)])
    paths = [str(images / name) for name in names(images)]
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.write(table("csv", paths, tmp_path), "a/t.csv")
    classify([f"zip://a/t.csv::{tmp_path}/t.zip"], out, "image", overwrite=True)
    same_scores(out, folder_rows, paths)
    with pytest.raises(InputError, match=r"s3://pictures/gone\.parquet .*: file not found"):
        classify(["s3://pictures/gone.parquet"], out, "image", overwrite=True)


def test_a_signature_that_was_renewed_resumes(website: str, tmp_path: Path) -> None:
    out, url = tmp_path / "out.csv", f"{website}/img0.jpg?sig="
    classify([f"{url}old"], out)
    assert classify([f"{url}new"], out, resume=True).resumed == 1
