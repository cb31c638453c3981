"""Trees of images that can be compared to the last byte, and outputs about them."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterable
from pathlib import Path

HEADER = ("path", "prediction", "probability", "cat", "note", "error")


def write_output(path: Path, rows: Iterable[tuple[object, str, float | str]]) -> Path:
    """Write an output; a prediction that begins with `!` is the reason of a failure."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for file, prediction, probability in rows:
            failed = prediction.startswith("!")
            cells = ["", "", "", "", prediction[1:]] if failed else [prediction, probability, 0.5]
            writer.writerow([file, *cells, *([] if failed else ["", ""])])
    return path


def write_images(folder: Path, names: Iterable[str]) -> list[Path]:
    """Write files of different content, with times of their own, also for the folders."""
    paths = [folder / name for name in names]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"image {i}".encode() * (i + 1))
        os.utime(path, ns=(10**18, 10**18 + i * 1_234_567_891))
    for place, below in enumerate([folder, *(p for p in folder.rglob("*") if p.is_dir())]):
        os.utime(below, ns=(10**18, 10**17 + place * 987_654_321))
    return paths


def snapshot(*roots: Path) -> dict[str, tuple[object, ...]]:
    """Return all that can be known of everything below some folders, and of these."""
    found: dict[str, tuple[object, ...]] = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            status = path.lstat()
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found
