"""The journal of a sorted folder: what is going to be done, on the disk before it is done.

One JSON object per line:

```
{"sort": 1, "made": true, "folder": "/photos", "mtime_ns": 17..., "id": "9f3c01ab"}    the first
{"folder": "cat", "label": "cat", "made": true}            a folder for a label
{"touched": "/photos/a", "mtime_ns": 17...}                a folder, before names in it change
{"n": 1, "by": "move", "source": "/photos/a/x.jpg", "target": "cat/x.jpg", "size": 9, ...}
{"done": 1, "void": []}                                    settled up to here; these failed
```

A line that was torn by a kill announced something that was not begun, so it is cut off. Entries
after the last `done` may have happened or not; the files themselves say which.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipcls.errors import InputError, OutputError
from clipcls.options import SortBy
from clipcls.outputs.base import sync_folder

NAME = ".clipcls-sort.jsonl"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One image that was put, or was going to be put, into a folder.

    Attributes:
        n: Its number, from 1.
        by: How.
        source: The absolute path of the file.
        target: Its place below the sorted folder, with a slash.
        size: The size of the file in bytes.
        mtime_ns: When it was last modified.
    """

    n: int
    by: SortBy
    source: str
    target: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Before:
    """How it was before the sorted folder was touched.

    Attributes:
        made: Whether the sorted folder was made by the sort.
        folder: The folder whose time was changed first: the sorted one, or the one it was made in.
        mtime_ns: That time.
        id: What the names of unfinished files have in them, so that they are known as ours.
    """

    made: bool
    folder: str
    mtime_ns: int
    id: str

    @staticmethod
    def of(dest: Path) -> Before:
        """Return how it is now."""
        made = not os.path.exists(dest)
        folder = dest.absolute().parent if made else dest
        return Before(
            made, os.path.realpath(folder), folder.stat().st_mtime_ns, secrets.token_hex(4)
        )


class Journal:
    """The journal of one sorted folder; nothing is written before the first `append`.

    Args:
        dest: The sorted folder.
        before: How it was, unless the journal knows that already.

    Attributes:
        path: The file.
        before: How it was before the first sort.
        labels: Folder -> label.
        made: The folders for labels that a sort made.
        touched: Folder -> its time of modification before names in it changed.
        entries: Number -> entry, without those that are void.
        last: The highest number so far.
        settled: The highest number that is known to have happened or to be void.

    Raises:
        InputError: The journal cannot be read, or is damaged before its last line.
    """

    def __init__(self, dest: Path, before: Before) -> None:
        self.path = dest / NAME
        self.before = before
        self.labels: dict[str, str] = {}
        self.made: set[str] = set()
        self.touched: dict[str, int] = {}
        self.entries: dict[int, Entry] = {}
        self.last = self.settled = 0
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror or error}") from error
        self._end = data.rfind(b"\n") + 1
        for number, line in enumerate(data[: self._end].splitlines(), start=1):
            try:
                self._take(json.loads(line), first=number == 1)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(
                    f"{self.path}:{number} is damaged, so nothing says what was done; no file was"
                    " touched: mend the line, or sort into another folder"
                ) from error

    def append(self, lines: Iterable[Mapping[str, Any]], *, sync: bool = True) -> None:
        """Add lines, which are on the disk when this returns.

        Args:
            lines: What they say.
            sync: Whether they must outlive a power cut.

        Raises:
            OutputError: They cannot be written.
        """
        new = self._end == 0
        first = [{"sort": VERSION, **asdict(self.before)}] if new else []
        added = [*first, *lines]
        data = b"".join(json.dumps(line).encode("ascii") + b"\n" for line in added)
        try:
            with open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
                # A torn line goes; it announced something that was not begun.
                stream.truncate(self._end)
                stream.seek(self._end)
                stream.write(data)
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        if new:
            sync_folder(self.path.parent)
        self._end += len(data)
        for place, line in enumerate(added):
            self._take(line, first=new and place == 0)

    def _take(self, line: Mapping[str, Any], *, first: bool) -> None:
        if first:
            if line["sort"] != VERSION:
                raise ValueError("another version")
            names = ("made", "folder", "mtime_ns", "id")
            self.before = Before(**{name: line[name] for name in names})
        elif "n" in line:
            entry = Entry(**{**line, "by": SortBy(line["by"])})
            self.entries[entry.n] = entry
            self.last = max(self.last, entry.n)
        elif "label" in line:
            self.labels[line["folder"]] = line["label"]
            if line["made"]:
                self.made.add(line["folder"])
        elif "touched" in line:
            self.touched.setdefault(line["touched"], line["mtime_ns"])
        else:
            self.settled = line["done"]
            for number in line["void"]:
                self.entries.pop(number, None)
