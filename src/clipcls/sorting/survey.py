"""What is found under the paths of an output, as the images of a plan."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcls.inputs.urls import place_of
from clipcls.options import SortBy
from clipcls.sorting.journal import Entry, Journal
from clipcls.sorting.plan import Image

if TYPE_CHECKING:
    import pandas as pd

MISSING = "no such file"
"""The problem of an image that is not there."""


def survey(frame: pd.DataFrame, dest: Path, by: SortBy, journal: Journal) -> list[Image]:
    """Look at the file of each row.

    Args:
        frame: The rows of an output; relative paths start at the current folder.
        dest: The folder that they are sorted into.
        by: How.
        journal: What earlier sorts have done.
    """
    # Links to folders are followed here, so that two names of a file are known as one.
    real_folder = cache(os.path.realpath)
    earlier = {entry.source: entry for entry in journal.entries.values()}
    inside = os.path.join(os.path.realpath(dest), "")
    seen: set[str] = set()
    images = []
    rows = zip(frame["path"], frame["prediction"], frame["probability"], strict=True)
    for path, label, probability in rows:
        folder, name = os.path.split(path)
        source = path
        with suppress(OSError, ValueError):  # no name that a file can have
            source = os.path.join(real_folder(folder or os.curdir), name)
        facts = _since_earlier(earlier.get(source), dest, by) or _looked_at(path, source, by)
        if source.startswith(inside) and "size" in facts:
            facts["there"] = os.path.split(source.removeprefix(inside))
            if by is not SortBy.MOVE:
                facts["pinned"] = "it lies in the sorted folder: only --by move takes it on"
        repeated = source in seen
        seen.add(source)
        images.append(Image(path, label, float(probability), source, repeated=repeated, **facts))
    return images


def _since_earlier(entry: Entry | None, dest: Path, by: SortBy) -> dict[str, Any]:
    """Return what an earlier sort means for an image; nothing if that does not hold any more."""
    if entry is None or not os.path.lexists(dest / entry.target):
        return {}
    try:
        found = os.stat(entry.source)
    except OSError:
        holds = entry.by is SortBy.MOVE
    else:
        # After a move, a new image has come under the old name.
        holds = entry.by is SortBy.SYMLINK or (
            entry.by is not SortBy.MOVE
            and (found.st_size, found.st_mtime_ns) == (entry.size, entry.mtime_ns)
        )
    if not holds:
        return {}
    folder, _, name = entry.target.partition("/")
    reason = f"an earlier sort (--by {entry.by}) put it into {folder}/: undo that first (--undo)"
    return {"there": (folder, name), "pinned": reason} if entry.by is by else {"problem": reason}


def _looked_at(path: str, source: str, by: SortBy) -> dict[str, Any]:
    """Return size and time of a file that can be sorted, or why it is none."""
    try:
        found = os.lstat(source)
        if stat.S_ISLNK(found.st_mode):
            if by is SortBy.MOVE:
                return {"problem": "a link, which a move could break: use --by copy for it"}
            found = os.stat(source)
    except (FileNotFoundError, NotADirectoryError):
        broken = os.path.islink(source)
        return {"problem": "a link to nothing" if broken else place_of(path) or MISSING}
    except (OSError, ValueError) as error:
        return {"problem": reason_of(error)}
    if not stat.S_ISREG(found.st_mode):
        return {"problem": "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"}
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def reason_of(error: Exception) -> str:
    """Return why a file could not be used, in the system's words."""
    return (getattr(error, "strerror", None) or str(error)).lower()
