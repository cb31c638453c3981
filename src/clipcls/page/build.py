"""A page on disk: an HTML file with style and script in it, thumbnails beside it or in it too."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import clipcls
from clipcls.errors import InputError, OptionError, OutputError, OutputExistsError
from clipcls.explaining.files import pictures_of, read_index
from clipcls.observer import Observer
from clipcls.options import DecodeOptions, Truncated
from clipcls.outputs.base import write_file
from clipcls.page.content import content_of, shown
from clipcls.page.facts import facts_of
from clipcls.page.subject import Subject
from clipcls.page.thumbnails import Thumbnail, copied, small_name, thumbnails, write_image
from clipcls.text import printable_path, visible

if TYPE_CHECKING:
    from markupsafe import Markup

PAGE = "index.html"
_SCRIPTS = ("state.js", "filter.js", "gallery.js", "viewer.js", "main.js")
_MARK = b'<meta name="generator" content="clipcls'
_HEAD_BYTES = 2000
_CHUNK = 500
"""Thumbnails of one element of a page that holds them; an element is read when it is needed."""
_is_ours = re.compile(r"\d{6}((-large)?\.jpg|-why\.png)").fullmatch


@dataclass(frozen=True)
class PageReport:
    """What became of a page.

    Attributes:
        path: The HTML file.
        images: How many images it shows.
        missing: How many of those have no thumbnail, because they are gone or cannot be decoded.
        reason: Why, of the first one.
        folder: Where the thumbnails lie; None where they are in the page.
        thumbnails: What the page has of each image; where there is a folder, without what is in it.
    """

    path: Path
    images: int
    missing: int
    reason: str = ""
    folder: Path | None = None
    thumbnails: Sequence[Thumbnail] = ()


def check_page(page: Path, *, overwrite: bool) -> None:
    """Make sure, before anything is made, that a page can be written in a folder.

    Args:
        page: The HTML file.
        overwrite: Whether a page of clipcls may be replaced.

    Raises:
        OptionError: Something that clipcls did not write is in its place, or the folder is a file.
        OutputExistsError: A page is there and may not be replaced.
    """
    where = visible(str(page))
    if page.parent.exists() and not page.parent.is_dir():
        raise OptionError(f"{visible(str(page.parent))} is no folder: name another one")
    if not page.exists():
        return
    head = b""
    with suppress(OSError), page.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if _MARK not in head:
        raise OptionError(f"{where} was not written by clipcls: choose another place")
    if not overwrite:
        raise OutputExistsError(f"{where} exists: --overwrite replaces it, or choose another place")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Make sure that a folder is empty, or holds a page that may be replaced.

    Raises:
        OptionError: It holds something else, or is a file.
        OutputExistsError: It holds a page and may not be replaced.
    """
    check_page(folder / PAGE, overwrite=overwrite)
    if not (folder / PAGE).exists() and folder.is_dir() and any(folder.iterdir()):
        raise OptionError(
            f"{visible(str(folder))} holds files but no report of clipcls: choose another folder"
        )


def write_page(
    subject: Subject,
    page: Path,
    *,
    single_file: bool = False,
    explanations: Path | None = None,
    like: PageReport | None = None,
    observer: Observer | None = None,
) -> PageReport:
    """Write the page of a subject, also over another one; `check_page` and `check_folder` ask.

    The thumbnails lie in a folder beside the page whose name comes from the content, and the page
    is written when they are complete. So a page that is replaced is whole until the new one is.

    Args:
        subject: What is shown.
        page: The HTML file; its folder is made.
        single_file: Whether thumbnails go into the page instead.
        explanations: A folder that `clipcls explain` made, whose pictures the page shows too.
        like: A page of the same images whose thumbnails are taken; None makes them.
        observer: Told about the progress.

    Raises:
        InputError: That folder cannot be used, or explains none of the images.
        OptionError: What is in its place was not written by clipcls.
        OutputError: Something cannot be written.
    """
    check_page(page, overwrite=True)
    observer = observer or Observer()
    why = {} if explanations is None else _explained(subject, explanations)
    content = content_of(subject)
    folder = None if single_file else page.parent / f"images-{content['digest'][:8]}"
    try:
        (folder or page.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make {visible(str(folder or page.parent))}: {error.strerror or error}"
        ) from error
    made = []
    observer.working(len(subject.records))
    paths = [record.path for record in subject.records]
    if like is not None and like.folder is not None and folder is not None:
        source = copied(like.thumbnails, like.folder, paths, page, folder)
    else:
        source = thumbnails(paths, page, folder, _decoding(subject))
    for place, thumbnail in enumerate(source):
        if folder is not None and thumbnail.small:
            write_image(folder / small_name(place), thumbnail.small)
            thumbnail = Thumbnail(link=thumbnail.link)
        made.append(thumbnail)
        observer.worked()
    whole = shown(content, made, folder.name if folder else "")
    sources = {place: _source(place, picture, folder) for place, picture in why.items()}
    write_file(page, _html(subject, whole, made if single_file else (), sources).encode())
    _remove_old(page.parent, keep=folder)
    reasons = [thumbnail.reason for thumbnail in made if thumbnail.reason]
    reason = reasons[0] if reasons else ""
    return PageReport(page, len(made), len(reasons), reason, folder, made)


def _explained(subject: Subject, folder: Path) -> dict[int, bytes]:
    """Return the place of an image -> the picture that explains it.

    Raises:
        InputError: The folder, or a picture in it, cannot be read, no image is explained, or for
            other prompts or another head.
    """
    index = read_index(folder)
    pictures = pictures_of(index)
    asked = {"prompts": subject.known("prompts"), "head": subject.made_by.get("head")}
    if asked["prompts"] and any(index.get(key) != value for key, value in asked.items()):
        raise InputError(
            f"{visible(str(folder))} explains other prompts, or another head, than those of"
            f" {subject.name}: run clipcls explain with its labels and templates, or its --head"
        )
    paths = [printable_path(record.path) for record in subject.records]
    named = {place: folder / pictures[path] for place, path in enumerate(paths) if path in pictures}
    if not named:
        example = f" (it has {visible(next(iter(pictures)))})" if pictures else ""
        raise InputError(
            f"{visible(str(folder))} explains none of the {len(paths)} images of {subject.name},"
            f" such as {visible(paths[0])}{example}: run clipcls explain where clipcls classify"
            " ran, with the same paths"
        )
    try:
        return {place: picture.read_bytes() for place, picture in named.items()}
    except OSError as error:
        raise InputError(
            f"{visible(str(error.filename))} cannot be read: {error.strerror or error}"
        ) from error


def _source(place: int, picture: bytes, folder: Path | None) -> str:
    """Put a picture where the page finds it; return its address."""
    if folder is None:
        return f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    write_image(folder / f"{place:06}-why.png", picture)
    return f"{folder.name}/{place:06}-why.png"


def _decoding(subject: Subject) -> DecodeOptions:
    """Show whatever can be shown, also of a file that ends too early."""
    limit = subject.known("decode").get("max_megapixels")
    largest = limit if isinstance(limit, (int, float)) else DecodeOptions.max_megapixels
    return DecodeOptions(max_megapixels=largest, truncated=Truncated.ACCEPT)


def _remove_old(folder: Path, keep: Path | None) -> None:
    """Remove the thumbnails of the page that was replaced, and nothing that has another name."""
    for old in folder.glob("images-????????"):
        if old == keep or old.is_symlink() or not old.is_dir():
            continue
        # What cannot be removed does no harm.
        with suppress(OSError):
            for file in old.iterdir():
                if _is_ours(file.name):
                    file.unlink()
            old.rmdir()


def _html(
    subject: Subject,
    content: Mapping[str, Any],
    inside: Sequence[Thumbnail],
    why: Mapping[int, str],
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("clipcls.page"), autoescape=True, undefined=StrictUndefined
    )
    folder = files("clipcls.page") / "templates"
    style, *scripts = (
        Markup((folder / name).read_text(encoding="utf-8")) for name in ("page.css", *_SCRIPTS)
    )
    return environment.get_template("page.html").render(
        title=subject.name,
        version=clipcls.__version__,
        facts=facts_of(subject),
        has_truth=subject.truth is not None,
        multi_label=subject.multi_label,
        takes_unknown=content["takesUnknown"],
        style=style,
        scripts=scripts,
        policy=_policy(style, scripts),
        content=_embedded(content),
        chunks=list(_chunks(inside)),
        why=_embedded(why),
    )


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy: what is in the page runs, and nothing else ever does.

    Images may come from the disk or the page, nothing from or to a network.
    """

    def hashed(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(map(hashed, scripts)),
        "style-src": hashed(style),
        "img-src": "'self' file: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _embedded(value: object) -> Markup:
    """Return JSON that cannot end the element that it stands in."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _chunks(inside: Sequence[Thumbnail]) -> Iterator[Markup]:
    """Yield the thumbnails that a page holds, so many at a time, as base64."""
    for start in range(0, len(inside), _CHUNK):
        part = inside[start : start + _CHUNK]
        yield _embedded([base64.b64encode(thumbnail.small).decode() for thumbnail in part])
