"""Explanations on disk: pictures, JSON, and a folder of both that `clipcls report` can show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from clipcls.errors import InputError, OptionError, OutputError, OutputExistsError
from clipcls.evaluation.heat_map import EXTENSIONS
from clipcls.explaining.explain import Explanation
from clipcls.explaining.picture import MOST_ROWS, picture_bytes
from clipcls.outputs.base import check_folder, check_target, write_file
from clipcls.records import Failure
from clipcls.text import printable_path, visible

INDEX = "index.json"
"""What a folder's pictures are of; it is written last."""
SCHEMA = 1
"""Changes when a key changes its meaning."""

_is_picture = re.compile(r"\d{6}\.png").fullmatch


@dataclass(frozen=True)
class Targets:
    """What is written.

    Attributes:
        folder: A folder of a picture per image and `INDEX`; None for none.
        files: Pictures of all images, and `.json` files.
        stdout: Whether the JSON is written to standard output.
    """

    folder: Path | None = None
    files: tuple[Path, ...] = ()
    stdout: bool = False

    def __post_init__(self) -> None:
        for file in self.files:
            if file.suffix.lower() not in (".json", *EXTENSIONS):
                raise OptionError(
                    f"the extension of {file} says no format: name the file of -o .json,"
                    f" {', '.join(EXTENSIONS)}, or a folder"
                )

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The files that show all images below each other."""
        return tuple(file for file in self.files if file.suffix.lower() in EXTENSIONS)

    def check(self, images: int, *, overwrite: bool, reads: Iterable[str]) -> None:
        """Refuse what cannot be written, or must not be, before anything is computed.

        Args:
            images: How many are to be explained.
            overwrite: Whether what is there may be replaced.
            reads: The files that are read.

        Raises:
            OptionError: A file or folder will not do, or a picture would have too many rows.
            OutputExistsError: Something is there and may not be replaced.
        """
        if self.pictures and images > MOST_ROWS:
            raise OptionError(
                f"{images} images are too many for {self.pictures[0]}, which has up to"
                f" {MOST_ROWS} rows: name a folder with -o, in which each has its own picture"
            )
        read = list(reads)
        for file in self.files:
            check_target(file, overwrite=overwrite, reads=read)
        if self.folder is not None:
            _check_folder(self.folder, overwrite=overwrite)


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    check_folder(folder)
    where = visible(str(folder))
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        read_index(folder)
    except InputError:
        raise OptionError(
            f"{where} holds files but no explanations of clipcls: choose another folder with -o"
        ) from None
    if not overwrite:
        raise OutputExistsError(f"{where} holds explanations: --overwrite replaces them")


@dataclass
class Writer:
    """Writes explanations as they come, and what needs all of them at the end.

    Args:
        targets: What is written.
        made_by: What the JSON says of the model, the prompts and the head.
    """

    targets: Targets
    made_by: Mapping[str, Any]
    _entries: list[dict[str, Any]] = field(default_factory=list)
    _shown: list[Explanation] = field(default_factory=list)

    def start(self) -> None:
        """Make the folder, empty of explanations.

        Raises:
            OutputError: It cannot be made.
        """
        if (folder := self.targets.folder) is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(InputError):
                for name in pictures_of(read_index(folder)).values():
                    (folder / name).unlink(missing_ok=True)
            (folder / INDEX).unlink(missing_ok=True)
        except OSError as error:
            where = visible(str(folder))
            raise OutputError(f"cannot write in {where}: {error.strerror or error}") from error

    def add(self, found: Explanation | Failure) -> None:
        """Take one more image.

        Raises:
            OutputError: Its picture cannot be written.
        """
        entry = _entry(found)
        if isinstance(found, Explanation):
            if self.targets.folder is not None:
                entry["picture"] = f"{len(self._entries):06}.png"
                write_file(self.targets.folder / entry["picture"], picture_bytes([found]))
            if self.targets.pictures:
                self._shown.append(found)
        self._entries.append(entry)

    def finish(self, stdout: BinaryIO) -> list[Path]:
        """Write what is made of all images; without any explained one, no pictures.

        Returns:
            The files and the folder that were written.

        Raises:
            OutputError: A file cannot be written.
        """
        content = {"schema": SCHEMA, **self.made_by, "images": self._entries}
        text = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
        written = []
        for file in self.targets.files:
            if file.suffix.lower() == ".json":
                write_file(file, text)
            elif self._shown:
                write_file(file, picture_bytes(self._shown, file.suffix.lower()))
            else:
                continue
            written.append(file)
        if self.targets.folder is not None:
            write_file(self.targets.folder / INDEX, text)
            written.append(self.targets.folder)
        if self.targets.stdout:
            stdout.write(text)
        return written


def _entry(found: Explanation | Failure) -> dict[str, Any]:
    """Return what the JSON says of an image; the heat is row by row from the top."""
    if isinstance(found, Failure):
        return {"path": printable_path(found.path), "error": found.reason}
    prediction = found.prediction
    return {
        "path": printable_path(prediction.path),
        "prediction": prediction.prediction,
        "note": prediction.note,
        "seen": found.seen._asdict(),
        "grid": list(found.heat.shape[1:]),
        "labels": [
            {
                "label": prediction.labels[place],
                "logit": round(float(prediction.logits[place]), 6),
                "probability": round(float(prediction.probabilities[place]), 6),
                "heat": heat.round(4).tolist(),
            }
            for place, heat in zip(found.shown, found.heat, strict=True)
        ],
    }


def read_index(folder: Path) -> dict[str, Any]:
    """Return what `INDEX` says of a folder of explanations; docs/explain.md describes it.

    Raises:
        InputError: It is no such folder, or one that is not complete.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        content: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        # Nothing else is ever read or removed, whatever the file says.
        if content["schema"] == SCHEMA and all(map(_is_picture, pictures_of(content).values())):
            return content
    raise InputError(
        f"{visible(str(folder))} is no folder that clipcls explain has finished: make one with"
        " clipcls explain IMAGES -o FOLDER"
    )


def pictures_of(index: Mapping[str, Any]) -> dict[str, str]:
    """Return path -> file name of the pictures of an index."""
    return {image["path"]: image["picture"] for image in index["images"] if "picture" in image}
