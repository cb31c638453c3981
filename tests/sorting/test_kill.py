"""Sorts and undos that are killed before each of their changes to the file system."""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clipcls.options import SortBy, SortOptions
from clipcls.sorting import act, sort
from clipcls.sorting.journal import NAME
from clipcls.sorting.sort import _LOCK as LOCK
from clipcls.sorting.sort import sort_images, undo_sort
from tests.sorting.trees import snapshot, write_images, write_output

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.utime",
           "os.chmod", "os.truncate"}  # fmt: skip
NAMES = ["a/cat.jpg", "a/dog.jpg", "b/cat.jpg", "b/Dog.jpg", "broken.jpg", "b/c/far.jpg"]
LABELS = ["cat", "dog", "cat", "dog", "!broken", "un/known"]
WAYS = [*SortBy, "move across"]


class Killed(BaseException):
    """The process is no more."""


class Reaper:
    """Lets so many changes to the file system happen, and none after them."""

    def __init__(self) -> None:
        self.left: int | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.left is None:
            return
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event not in CHANGES and not writes:
            return
        if self.left <= 0:
            raise Killed
        self.left -= 1

    def kills(self, job: Callable[[], object], after: int) -> bool:
        """Whether so few changes were not enough for a job; no clean-up of it happens."""
        self.left = after
        try:
            job()
        except Killed:
            return True
        finally:
            self.left = None
        return False


REAPER = Reaper()


@pytest.fixture(params=WAYS, ids=str)
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SortBy:
    if request.param != "move across":
        return SortBy(request.param)
    real = act.rename_to_new

    def rename(old: Path, new: Path) -> None:
        if not old.name.endswith(".part"):
            raise OSError(errno.EXDEV, "across file systems")
        real(old, new)

    monkeypatch.setattr(act, "rename_to_new", rename)
    return SortBy.MOVE


@pytest.fixture(autouse=True)
def _several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sort, "_BATCH", 4)


def trees(folder: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Yield ever new (tree, output, destination in the tree)."""
    number = 0
    while True:
        number += 1
        tree = folder / str(number) / "tree"
        images = write_images(tree, [*NAMES, "here/dog/dog.jpg"])[:-1]
        rows = zip(images, LABELS, [0.9] * len(images), strict=True)
        yield tree, write_output(folder / str(number) / "out.csv", rows), tree / "here"


def contents(tree: Path) -> Counter[bytes]:
    files = (p for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
    return Counter(p.read_bytes() for p in files if not p.name.startswith(".clipcls"))


def shape(tree: Path) -> dict[str, object]:
    return {os.path.relpath(p, tree): c for p, (_, _, c) in snapshot(tree).items()
            if not p.endswith(NAME)}  # fmt: skip


def test_a_sort_that_was_killed_anywhere_loses_nothing_and_goes_on(
    tmp_path: Path, by: SortBy
) -> None:
    made = trees(tmp_path)
    tree, output, dest = next(made)
    assert sort_images(output, dest, SortOptions(by)).exit_code == 0
    complete = shape(tree)
    across = act.rename_to_new.__name__ == "rename"
    after = 0
    while True:
        tree, output, dest = next(made)
        before, whole = snapshot(tree), contents(tree)

        def job(output: Path = output, dest: Path = dest) -> object:
            return sort_images(output, dest, SortOptions(by))

        killed = REAPER.kills(job, after)
        if by is SortBy.MOVE and not across:
            assert contents(tree) == whole
        else:
            assert contents(tree).keys() == whole.keys()
        announced = (dest / NAME).exists() and (dest / NAME).stat().st_size
        if not announced:
            # Only a lock was made, and it changed the time of its folder.
            assert snapshot(tree).keys() - before.keys() <= {str(dest / n) for n in (LOCK, NAME)}
            before.pop(str(dest))
        if after % 2 or not announced:
            assert sort_images(output, dest, SortOptions(by)).exit_code == 0
            if by is not SortBy.SYMLINK:
                assert shape(tree) == complete
        assert undo_sort(dest).stayed == []
        found = snapshot(tree)
        found.pop(str(dest)) if not announced else None
        assert found == before
        if not killed:
            break
        after += 1
    assert after > 20


def test_an_undo_that_was_killed_anywhere_goes_on(tmp_path: Path, by: SortBy) -> None:
    made = trees(tmp_path)
    after = 0
    while True:
        tree, output, dest = next(made)
        before, whole = snapshot(tree), contents(tree)
        sort_images(output, dest, SortOptions(by))
        killed = REAPER.kills(lambda dest=dest: undo_sort(dest), after)  # type: ignore[misc]
        assert contents(tree).keys() == whole.keys()
        if (dest / NAME).exists():
            assert undo_sort(dest).stayed == []
        elif killed:
            # All was put back; the time of the folder itself was to come.
            (dest / LOCK).unlink(missing_ok=True)
            os.utime(dest, ns=(0, before[str(dest)][1]))  # type: ignore[arg-type]
        assert snapshot(tree) == before
        if not killed:
            break
        after += 1
    assert after > 15
