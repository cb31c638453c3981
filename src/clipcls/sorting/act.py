"""What is done to files: put one into its place, settle what a kill left open, put it back.

A kill may come between any two calls, so each file has its whole content under one of its two names
at every moment, and what is there says how far it went. Nothing that is there is ever replaced.
"""

from __future__ import annotations

import ctypes
import errno
import filecmp
import os
import platform
import shutil
import stat
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from clipcls.options import SortBy
from clipcls.outputs.base import sync_folder
from clipcls.sorting.journal import Entry

_COARSEST_TIME = 2_000_000_000
"""Nanoseconds: FAT keeps times to two seconds."""


class Sorted:
    """A folder that images are sorted into.

    Args:
        dest: The folder.
        mark: What the names of unfinished files have in them.
    """

    def __init__(self, dest: Path, mark: str) -> None:
        self._dest = dest
        self._mark = mark

    def target(self, entry: Entry) -> Path:
        """Return where an image goes."""
        return self._dest / entry.target

    def place(self, entry: Entry) -> None:
        """Put an image into its folder.

        Raises:
            OSError: It cannot be done, and nothing has changed.
        """
        target = self.target(entry)
        if entry.by is SortBy.SYMLINK:
            os.symlink(entry.source, target)
        elif entry.by is SortBy.HARDLINK:
            os.link(os.path.realpath(entry.source), target)
        elif entry.by is SortBy.COPY:
            self._copy(entry, Path(entry.source), target, durable=False)
        else:
            if not _is_unchanged(os.lstat(entry.source), entry, exactly=True):
                raise OSError(errno.EBUSY, "it has changed meanwhile")
            self._move(entry, Path(entry.source), target)

    def settle(self, entry: Entry) -> bool:
        """Finish or forget what a kill may have left half done; return whether it has happened.

        Raises:
            OSError: It cannot be done.
        """
        source, target = Path(entry.source), self.target(entry)
        self._part(entry, target).unlink(missing_ok=True)
        if not os.path.lexists(target):
            return False
        if entry.by is SortBy.SYMLINK:
            return _leads_to(target, entry.source)
        if entry.by is not SortBy.MOVE:
            return _is_same(source, target)
        if os.path.lexists(source):
            # Between the copy to another file system and the end of the original.
            if not _is_same(source, target):
                return False
            source.unlink()
        return True

    def put_back(self, entry: Entry) -> str | None:
        """Undo what was done to one image.

        Returns:
            Why it stays as it is; empty when it is undone, None when nothing was left to undo.

        Raises:
            OSError: It cannot be done, and nothing has changed.
        """
        source, target = Path(entry.source), self.target(entry)
        moved = entry.by is SortBy.MOVE
        if not os.path.lexists(target):
            gone = moved and not os.path.lexists(source)
            return f"is no longer there, and {source} is not either" if gone else None
        if entry.by is SortBy.SYMLINK:
            if not _leads_to(target, entry.source):
                return "was replaced since: it stays"
            target.unlink()
        elif not moved:
            # So that the last copy of an image is never deleted.
            if not _is_same(source, target):
                return f"is not the same as {source} (any more): it stays"
            target.unlink()
        else:
            return self._move_back(entry, source, target)
        return ""

    def _move_back(self, entry: Entry, source: Path, target: Path) -> str:
        if not _is_unchanged(os.lstat(target), entry, exactly=False):
            return "was changed or replaced since: it stays"
        os.makedirs(source.parent, exist_ok=True)
        self._part(entry, source).unlink(missing_ok=True)
        if os.path.lexists(source):
            # Killed after the copy back to another file system, if they are the same.
            if not _is_same(source, target):
                return f"stays: there is another file under its old name {source}"
            target.unlink()
        else:
            self._move(entry, target, source)
        # A file system between may know times less exactly.
        os.utime(source, ns=(source.stat().st_atime_ns, entry.mtime_ns))
        return ""

    def _move(self, entry: Entry, old: Path, new: Path) -> None:
        try:
            rename_to_new(old, new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy(entry, old, new, durable=True)
            old.unlink()

    def _copy(self, entry: Entry, old: Path, new: Path, *, durable: bool) -> None:
        """Copy a file, with its times and permissions, so that `new` is whole when it appears.

        Args:
            entry: What the copy belongs to.
            old: The file.
            new: The name of the copy.
            durable: Whether the copy must be on the disk, and be compared, as the file will go.
        """
        part = self._part(entry, new)
        before = os.stat(old)
        try:
            with old.open("rb") as reader, part.open("xb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
                writer.flush()
                if durable:
                    os.fsync(writer.fileno())
            shutil.copystat(old, part)
            after = os.stat(old)
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise OSError(errno.EBUSY, "it was changed while it was copied")
            if durable and not _is_same(old, part):
                raise OSError(errno.EIO, "its copy is not the same")
            rename_to_new(part, new)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(new.parent)

    def _part(self, entry: Entry, new: Path) -> Path:
        return new.with_name(f".clipcls-{self._mark}-{entry.n}.part")


def rename_to_new(old: Path, new: Path) -> None:
    """Rename a file in one step, and never onto one that is there.

    Raises:
        FileExistsError: There is one.
        OSError: It cannot be done.
    """
    # As os.rename does, for whoever watches what this process does to files.
    sys.audit("os.rename", old, new, -1, -1)
    rename = _exclusive_rename()
    if rename is not None:
        if rename(os.fsencode(old), os.fsencode(new)) == 0:
            return
        code = ctypes.get_errno()
        # Not every file system can do that.
        if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(code, os.strerror(code), str(old), None, str(new))
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    os.rename(old, new)


@cache
def _exclusive_rename() -> Any:
    """Return the system's call that renames and never replaces; None where Python's own is one."""
    here = -100  # AT_FDCWD of Linux
    try:
        if platform.system() == "Linux":
            linux = ctypes.CDLL(None, use_errno=True).renameat2
            return lambda old, new: linux(here, old, here, new, 1)  # RENAME_NOREPLACE
        if platform.system() == "Darwin":
            apple = ctypes.CDLL(None, use_errno=True).renamex_np
            return lambda old, new: apple(old, new, 4)  # RENAME_EXCL
    except (AttributeError, OSError):  # an older C library
        return None
    return None


def _is_unchanged(found: os.stat_result, entry: Entry, *, exactly: bool) -> bool:
    away = abs(found.st_mtime_ns - entry.mtime_ns)
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_size == entry.size
        and away <= (0 if exactly else _COARSEST_TIME)
    )


def _leads_to(link: Path, source: str) -> bool:
    # Windows shows a link's end with a prefix.
    return link.is_symlink() and os.readlink(link).removeprefix("\\\\?\\") == source


def _is_same(source: Path, target: Path) -> bool:
    """Whether a file has the content of the file that `source` is, or leads to."""
    try:
        if not stat.S_ISREG(os.lstat(target).st_mode) or not source.is_file():
            return False
        if os.path.samefile(source, target):
            return True
        filecmp.clear_cache()
        return filecmp.cmp(source, target, shallow=False)
    except OSError:
        return False
