"""The files of a page: what is in them, and what is left alone."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from clipcls.errors import InputError, OptionError, OutputExistsError
from clipcls.observer import Observer
from clipcls.page.build import check_folder, check_page, write_page
from clipcls.page.subject import Subject
from tests.page.made import embedded, pictures, prediction, subject_of, with_failure

HOSTILE = "</script><img src=x onerror=alert(1)>.png"


def folders(where: Path) -> list[str]:
    return sorted(path.name for path in where.iterdir() if path.is_dir())


def test_a_page_is_a_file_and_its_thumbnails(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in")
    made = write_page(subject_of(paths), tmp_path / "report" / "index.html")
    assert (made.images, made.missing) == (6, 0)
    content = embedded(made.path)
    assert content["paths"] == paths
    for i, link in enumerate(content["links"]):
        with Image.open(made.path.parent / content["folder"] / f"{i:06}.jpg") as small:
            assert small.format == "JPEG"
            assert max(small.size) <= 256
        assert os.path.samefile(made.path.parent / unquote(link), paths[i])


def test_the_thumbnails_of_a_single_file_are_in_it(tmp_path: Path) -> None:
    made = write_page(subject_of(pictures(tmp_path / "in")), tmp_path / "r.html", single_file=True)
    assert folders(tmp_path) == ["in"]
    text = made.path.read_text(encoding="utf-8")
    found = re.search(r'id="thumbnails-0">\["(.*?)"', text)
    assert found
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as small:
        assert small.convert("RGB").getpixel((2, 2))[0] > 200  # type: ignore[index]


def explained(folder: Path, **pictures: str) -> Path:
    """Write a folder of explanations, as `clipcls explain` would: file name -> path of an image."""
    images = []
    for number, (colour, path) in enumerate(pictures.items()):
        name = f"{number:06}.png"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (40, 20), colour).save(folder / name)
        images.append({"path": path, "picture": name})
    index = {"schema": 1, "images": [*images, {"path": "broken.png", "error": "corrupt"}]}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def why(page: Path) -> dict[str, str]:
    """Return image -> address of its explanation, as the page's script reads it."""
    found = re.search(r'id="why">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found
    addresses: dict[str, str] = json.loads(found[1])
    return addresses


def test_a_page_has_a_copy_of_each_explanation(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", 3)
    made_by = explained(tmp_path / "why", orange=paths[2], navy=paths[0])
    made = write_page(subject_of(paths), tmp_path / "r" / "index.html", explanations=made_by)
    addresses = why(made.path)
    assert set(addresses) == {"0", "2"}
    copied = (made.path.parent / addresses["2"]).read_bytes()
    assert copied == (made_by / "000000.png").read_bytes()
    # Made again without them, and of other images, nothing of them stays.
    write_page(subject_of(paths[:2]), made.path)
    assert why(made.path) == {}
    assert not list(made.path.parent.rglob("*-why.png"))


def test_the_explanations_of_a_single_file_are_in_it(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", 2)
    made_by = explained(tmp_path / "why", orange=paths[1])
    made = write_page(
        subject_of(paths), tmp_path / "r.html", single_file=True, explanations=made_by
    )
    [(place, address)] = why(made.path).items()
    assert place == "1"
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert data == (made_by / "000000.png").read_bytes()
    assert folders(tmp_path) == ["in", "why"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "index.json").unlink(), "clipcls explain IMAGES -o"),
        (lambda folder: (folder / "index.json").write_text('{"images": []}'), "no folder that"),
        (
            lambda folder: (folder / "index.json").write_text(
                '{"schema": 1, "images": [{"path": "a.png", "picture": "../secret.png"}]}'
            ),
            "no folder that",
        ),
        (lambda folder: (folder / "000000.png").unlink(), "cannot be read"),
        (lambda folder: explained(folder, red="elsewhere.png"), "explains none of the 2 images"),
    ],
)
def test_explanations_that_cannot_be_used_leave_no_page(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    paths = pictures(tmp_path / "in", 2)
    made_by = explained(tmp_path / "why", orange=paths[0])
    spoil(made_by)
    with pytest.raises(InputError, match=message):
        write_page(subject_of(paths), tmp_path / "r" / "index.html", explanations=made_by)
    assert not (tmp_path / "r").exists()


def test_another_page_of_the_same_images_takes_their_thumbnails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = pictures(tmp_path / "in", 3)
    Image.new("RGB", (40, 30)).save(tmp_path / "in" / "old.tiff")
    paths += [str(tmp_path / "in" / "old.tiff"), str(tmp_path / "gone.png")]
    subject = subject_of(paths)
    first = write_page(subject, tmp_path / "a" / "index.html")
    monkeypatch.setattr("clipcls.page.thumbnails.load_image", None)
    page = tmp_path / "b" / "deep" / "index.html"
    again = write_page(replace(subject, labels=("other", "green", "blue")), page, like=first)
    assert (again.missing, again.reason) == (first.missing, first.reason) == (1, "file not found")
    assert first.folder is not None
    assert again.folder is not None
    assert again.folder.name != first.folder.name
    for name in ("000000.jpg", "000003.jpg", "000003-large.jpg"):
        assert (again.folder / name).read_bytes() == (first.folder / name).read_bytes()
    links = embedded(page)["links"]
    assert links[3] == f"{again.folder.name}/000003-large.jpg"
    assert all((page.parent / unquote(link)).resolve().is_file() for link in links[:4])
    assert links[4] == ""


def test_names_and_labels_stay_text(tmp_path: Path) -> None:
    labels = ('a "quoted" label', "<b>bold</b>", "it's & more")
    subject = with_failure(subject_of([HOSTILE], labels), "x", "<script>alert(2)</script>")
    made = write_page(subject, tmp_path / "index.html")
    text = made.path.read_text(encoding="utf-8")
    assert embedded(made.path)["labels"] == list(labels)
    assert embedded(made.path)["paths"] == [HOSTILE, "x"]
    for raw in ("<img src=x", "<b>bold", "<script>alert"):
        assert raw not in text


@pytest.mark.parametrize("name", ["a.tif", "b.png", "c.gif"])
def test_what_a_browser_cannot_show_is_converted(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / name)
    made = write_page(subject_of([str(tmp_path / name)]), tmp_path / "report" / "index.html")
    [link] = embedded(made.path)["links"]
    opened = made.path.parent / link
    converted = name == "a.tif"
    assert os.path.samefile(opened, tmp_path / name) != converted
    with Image.open(opened) as image:
        assert image.format == ("JPEG" if converted else name[-3:].upper())


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_images_in_archives_of_this_machine_are_shown(tmp_path: Path, kind: str) -> None:
    pictures(tmp_path / "in", 2)
    archive = shutil.make_archive(str(tmp_path / "in"), kind, tmp_path / "in")
    paths = [f"{kind}://{name}::{archive}" for name in sorted(os.listdir(tmp_path / "in"))]
    paths += [f"{kind}://gone.png::{archive}", f"{kind}://a.png::https://localhost/a.{kind}"]
    made = write_page(subject_of(paths), tmp_path / "report" / "index.html")
    elsewhere = "no file of this machine (a web address)"
    assert embedded(made.path)["missing"] == {"2": "file not found", "3": elsewhere}
    for link in embedded(made.path)["links"][:2]:
        with Image.open(made.path.parent / link) as image:
            assert image.format == "JPEG"


def test_images_that_are_no_files_here_are_not_called_missing(tmp_path: Path) -> None:
    places = {
        "https://example.org/a.png": "a web address",
        "s3://bucket/a.png": "in a store",
        "tar://a.png::s3://bucket/photos.tar": "in a store",
        "photos.parquet#12": "in a table",
    }
    made = write_page(subject_of(list(places)), tmp_path / "r" / "index.html")
    reasons = [f"no file of this machine ({place})" for place in places.values()]
    assert list(embedded(made.path)["missing"].values()) == reasons


def test_missing_images_are_counted_and_say_why(tmp_path: Path) -> None:
    paths = [*pictures(tmp_path / "in", 2), "gone.jpg"]
    counted: list[int] = []

    class Counts(Observer):
        def working(self, total: int) -> None:
            counted.append(total)

        def worked(self) -> None:
            counted.append(1)

    made = write_page(subject_of(paths), tmp_path / "r" / "index.html", observer=Counts())
    assert (made.images, made.missing, made.reason) == (3, 1, "file not found")
    assert embedded(made.path)["missing"] == {"2": "file not found"}
    assert counted == [3, 1, 1, 1]


def test_scores_that_an_output_does_not_have_are_left_out(tmp_path: Path) -> None:
    record = prediction(0, "a.jpg", ("a", "b", "c"), [0.7, 0.2, float("nan")])
    made = write_page(Subject("out", ("a", "b", "c"), [record]), tmp_path / "index.html")
    content = embedded(made.path)
    assert content["bars"] == [[0, 0.7, 1, 0.2]]
    assert content["margin"] == [pytest.approx(0.5)]
    assert content["entropy"] == [None]


def test_entropy_and_margin_are_those_of_the_probabilities(tmp_path: Path) -> None:
    rows = ([0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0])
    labels = ("a", "b", "c", "d")
    records = [prediction(i, f"{i}", labels, row) for i, row in enumerate(rows)]
    content = embedded(write_page(Subject("o", labels, records), tmp_path / "index.html").path)
    assert content["entropy"] == [1.0, 0.0, 0.5]
    assert content["margin"] == [0.0, 1.0, 0.0]
    assert content["bars"][2] == [0, 0.5, 1, 0.5]


# ---- what is there already


def test_a_report_is_replaced_when_asked_and_its_old_thumbnails_go(tmp_path: Path) -> None:
    page = tmp_path / "report" / "index.html"
    write_page(subject_of(pictures(tmp_path / "in", 3)), page)
    [first] = folders(page.parent)
    (page.parent / first / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        check_folder(page.parent, overwrite=False)
    check_folder(page.parent, overwrite=True)
    write_page(subject_of(pictures(tmp_path / "in", 5)), page)
    assert len(folders(page.parent)) == 2
    assert [path.name for path in (page.parent / first).iterdir()] == ["holiday.jpg"]


def test_only_a_report_is_ever_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="choose another folder"):
        check_folder(tmp_path, overwrite=True)
    (tmp_path / "index.html").write_text("<html>mine</html>")
    with pytest.raises(OptionError, match="not written by clipcls"):
        check_page(tmp_path / "index.html", overwrite=True)
    with pytest.raises(OptionError, match="no folder"):
        check_folder(tmp_path / "notes.txt", overwrite=True)
    check_folder(tmp_path / "new", overwrite=False)
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", overwrite=False)


def test_the_same_output_keeps_its_corrections_and_another_one_does_not(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", 4)
    pages = [write_page(subject_of(paths), tmp_path / f"{i}.html") for i in range(2)]
    digests = {embedded(page.path)["digest"] for page in pages}
    assert len(digests) == 1
    other = write_page(subject_of(paths, ("red", "green", "yellow")), tmp_path / "3.html")
    assert embedded(other.path)["digest"] not in digests


def test_explanations_of_something_else_are_refused(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", 2)
    made_by = explained(tmp_path / "why", orange=paths[0])
    index = json.loads((made_by / "index.json").read_text())
    prompts = {"cat": ["a photo of a cat"], "dog": ["a photo of a dog"]}
    page = tmp_path / "r" / "index.html"
    asked: list[dict[str, Any]] = [{"prompts": {"cat": ["a cat"]}, "head": None}]
    asked += [{"prompts": prompts, "head": head} for head in (None, "1a2b", "3c4d")]
    for own in asked[1:]:
        (made_by / "index.json").write_text(json.dumps({**index, **own}))
        for other in (other for other in asked if other != own):
            with pytest.raises(InputError, match="explains other prompts, or another head"):
                write_page(replace(subject_of(paths), made_by=other), page, explanations=made_by)
        write_page(replace(subject_of(paths), made_by=own), page, explanations=made_by)
        assert set(why(page)) == {"0"}
