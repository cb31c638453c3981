"""The same images from a folder and from everywhere else, through the real program and `mini`."""

from __future__ import annotations

import csv
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import elsewhere
from tests.e2e.conftest import command

COUNT = 12


def test_the_same_images_have_the_same_probabilities_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(COUNT):
        small = Image.fromarray(random.integers(0, 256, (3, 4, 3), np.uint8))
        small.resize((300, 200)).save(folder / f"{i:02}.{('jpg', 'png', 'webp')[i % 3]}")
    images = sorted(folder.iterdir())
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for image in images:
            archive.write(image, image.name)
    for i in range(3):
        with tarfile.open(tmp_path / f"s-{i}.tar", "w") as shard:
            for image in images[4 * i : 4 * i + 4]:
                shard.add(image, image.name)
    monkeypatch.chdir(tmp_path)
    with elsewhere.website(tmp_path) as host, elsewhere.bucket(monkeypatch) as store:
        for image in images:
            store.put_object(Bucket="pictures", Key=f"a/{image.name}", Body=image.read_bytes())
        for i in range(3):
            body = Path(f"s-{i}.tar").read_bytes()
            store.put_object(Bucket="pictures", Key=f"s-{i}.tar", Body=body)
        urls = "".join(f"http://{host}/images/{image.name}\n" for image in images)
        Path("urls.txt").write_text(urls, encoding="utf-8")
        inputs = [
            *("images", "zip://images.zip", "s-{0..2}.tar", "@urls.txt"),
            *("s3://pictures/a/", "s3://pictures/s-{0..2}.tar", f"http://{host}/s-{{0..2}}.tar"),
        ]
        # In batches of their number, so that each has the same neighbours everywhere.
        finished = subprocess.run(
            command(
                *("classify", *inputs, "--labels", "cat,dog,sea", "--model", "mini", "--no-cache"),
                *("--device", "cpu", "--batch-size", COUNT, "--allow-private-urls"),
            ),
            capture_output=True,
            timeout=300,
        )
    assert finished.returncode == 0, finished.stderr.decode()
    rows = [list(row.values()) for row in csv.DictReader(io.StringIO(finished.stdout.decode()))]
    assert len(rows) == COUNT * len(inputs)
    expected = [row[1:] for row in rows[:COUNT]]
    assert len({tuple(row) for row in expected}) == COUNT
    for start in range(0, len(rows), COUNT):
        assert [row[1:] for row in rows[start : start + COUNT]] == expected, rows[start][0]
    assert [row[0] for row in rows[::COUNT]] == [
        *("images/00.jpg", "zip://00.jpg::images.zip", "tar://00.jpg::s-0.tar"),
        *(f"http://{host}/images/00.jpg", "s3://pictures/a/00.jpg"),
        *("tar://00.jpg::s3://pictures/s-0.tar", f"tar://00.jpg::http://{host}/s-0.tar"),
    ]
