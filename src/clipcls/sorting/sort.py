"""An output of `clipcls classify` acted on: its images in a folder per label, and back again."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clipcls.errors import InputError, OptionError, OutputError
from clipcls.inputs.walk import SORTED_MARK
from clipcls.observer import Observer
from clipcls.options import SortBy, SortOptions
from clipcls.outputs.base import locked, refuse_links
from clipcls.outputs.results import read_results
from clipcls.sorting import journal as journals
from clipcls.sorting.act import Sorted
from clipcls.sorting.journal import Before, Entry, Journal
from clipcls.sorting.plan import Decision, Destination, Plan, Verdict, make_plan
from clipcls.sorting.survey import MISSING, reason_of, survey
from clipcls.text import visible

_LOCK = ".clipcls-sort.lock"
_BATCH = 256
"""Images that are announced in the journal together, as each announcement waits for the disk."""
_HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""After these errors, the next image fares no better."""
_MARK = "clipcls sort copied or linked images into this folder: leave it out of the folders above\n"


@dataclass(slots=True)
class SortReport:
    """What a sort has done.

    Attributes:
        by: How images came into their folders.
        counts: Folder -> images in it that are of this output, those of an earlier sort included.
        there: How many of these were there before.
        left_out: Images that were not wanted, or whose file an earlier row has.
        failed: (path, reason) of each image that could not be put into its folder.
    """

    by: SortBy
    counts: Counter[str] = field(default_factory=Counter)
    there: int = 0
    left_out: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, decision: Decision, problem: str = "") -> None:
        """Count what became of an image."""
        if problem or decision.verdict is Verdict.FAILED:
            self.failed.append((decision.image.path, problem or decision.reason))
        elif decision.verdict is Verdict.LEFT_OUT:
            self.left_out += 1
        else:
            self.counts[decision.folder] += 1
            self.there += decision.verdict is Verdict.THERE

    @property
    def exit_code(self) -> int:
        """0 when every image that is wanted has its place, 3 when some could not be placed."""
        return 3 if self.failed else 0


@dataclass(slots=True)
class UndoReport:
    """What an undo has done.

    Attributes:
        put_back: Images that were moved, and are under their old names again.
        removed: Links and copies that are gone.
        stayed: (path below the sorted folder, reason) of what was left as it is.
    """

    put_back: int = 0
    removed: int = 0
    stayed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 when all is as it was, 3 when something stayed."""
        return 3 if self.stayed else 0


def plan_sort(output: Path, dest: Path, options: SortOptions | None = None) -> Plan:
    """Say what `sort_images` would do; nothing is written.

    Args:
        output: What `clipcls classify` wrote; relative paths in it start at the current folder.
        dest: The folder to sort into.
        options: Which images, and how.

    Raises:
        UsageError: The output cannot be read, or the folder cannot be used.
    """
    check_destination(dest)
    return _plan(output, dest, options or SortOptions(), Journal(dest, Before.of(dest)))


def sort_images(
    output: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    options: SortOptions | None = None,
    observer: Observer | None = None,
) -> SortReport:
    """Put the images of an output into a folder per label.

    A kill at any moment loses nothing: the same call goes on, and `undo_sort` puts back.

    Args:
        output: What `clipcls classify` wrote; relative paths in it start at the current folder.
        dest: The folder to sort into; made if its parent is there.
        options: Which images, and how.
        observer: Told about the progress.

    Raises:
        UsageError: The output cannot be read, or the folder cannot be used; nothing was done.
        OutputError: The folder cannot be written, or another sort is at it; what was done before
            is in the journal.
    """
    options, observer = options or SortOptions(), observer or Observer()
    output, dest = Path(output), Path(dest)
    check_destination(dest)
    with _held(dest) as journal:
        _settle(journal, dest)
        plan = _plan(output, dest, options, journal)
        report = SortReport(options.by)
        for decision in plan.decisions:
            if decision.verdict is not Verdict.PLACED:
                report.add(decision)
        placed = plan.placed
        if placed and options.by is not SortBy.MOVE:
            journal.append([])  # the mark belongs to a journal that removes it
            try:
                (dest / SORTED_MARK).write_text(_MARK, encoding="utf-8")
            except OSError as error:
                raise OutputError(f"cannot write in {dest}: {reason_of(error)}") from error
        observer.working(len(placed))
        for start in range(0, len(placed), _BATCH):
            batch = placed[start : start + _BATCH]
            for decision, problem in _placed(batch, plan.labels, dest, journal, options.by):
                report.add(decision, problem)
                observer.worked()
    return report


def undo_sort(dest: str | os.PathLike[str], observer: Observer | None = None) -> UndoReport:
    """Put moved images back, and remove the links, copies and folders that sorts have made.

    What was changed since stays, and so does a copy whose original is not there with the same
    content. The journal goes when nothing stayed.

    Raises:
        InputError: Nothing was sorted into this folder, or its journal is damaged.
        OutputError: Another sort is at it.
    """
    observer = observer or Observer()
    dest = Path(dest)
    if not os.path.lexists(dest / journals.NAME):
        raise InputError(f"nothing to undo: {visible(str(dest))} has no {journals.NAME}")
    with _held(dest) as journal:
        _settle(journal, dest)
        report = UndoReport()
        folder = Sorted(dest, journal.before.id)
        undone = []
        observer.working(len(journal.entries))
        # Backwards, as an image may have been moved on from where the first sort put it.
        for entry in reversed(list(journal.entries.values())):
            try:
                reason = folder.put_back(entry)
            except OSError as error:
                reason = f"stays: {reason_of(error)}"
            if reason:
                report.stayed.append((entry.target, reason))
            else:
                undone.append(entry.n)
                report.put_back += reason == "" and entry.by is SortBy.MOVE
                report.removed += reason == "" and entry.by is not SortBy.MOVE
            observer.worked()
        for name in journal.made:
            with suppress(OSError):  # not empty, so not ours alone
                (dest / name).rmdir()
        if report.stayed:
            journal.append([{"done": journal.last, "void": undone}])
        else:
            # The first of several names of a folder knows the oldest time.
            for name, mtime_ns in reversed(journal.touched.items()):
                _set_time(dest / name, mtime_ns)
            (dest / SORTED_MARK).unlink(missing_ok=True)
            journal.path.unlink(missing_ok=True)
    return report


def check_destination(dest: Path) -> None:
    """Refuse a folder that cannot be sorted into, before anything is done.

    Raises:
        OptionError: It is no folder, or its parent is not there.
    """
    if os.path.lexists(dest) and not os.path.isdir(dest):
        raise OptionError(f"{visible(str(dest))} is no folder: name one to sort into")
    if not os.path.isdir(dest.absolute().parent):
        raise OptionError(f"the folder {visible(str(dest.parent))} does not exist: make it first")


@contextmanager
def _held(dest: Path) -> Iterator[Journal]:
    """Hold a folder, made where it is not there; without a journal, all is as before at the end."""
    before = Before.of(dest)
    journal = None
    try:
        try:
            dest.mkdir(exist_ok=True)
            for ours in (dest / _LOCK, dest / SORTED_MARK, dest / journals.NAME):
                refuse_links(ours, "sort into another folder")
        except OSError as error:
            raise OutputError(f"cannot write in {dest}: {reason_of(error)}") from error
        busy = f"another clipcls sort is at {dest}: wait for it"
        with locked(dest / _LOCK, busy):
            journal = Journal(dest, before)
            yield journal
    finally:
        if journal is not None:
            before = journal.before
        if not os.path.lexists(dest / journals.NAME):
            if before.made:
                with suppress(OSError):  # not empty: something else is in it
                    dest.rmdir()
            _set_time(Path(before.folder), before.mtime_ns)


def _settle(journal: Journal, dest: Path) -> None:
    """Find out which of the last announced acts of a killed run have happened."""
    folder = Sorted(dest, journal.before.id)
    open_entries = [entry for entry in journal.entries.values() if entry.n > journal.settled]
    try:
        void = [entry.n for entry in open_entries if not folder.settle(entry)]
    except OSError as error:
        raise OutputError(f"cannot go on in {dest}: {reason_of(error)}") from error
    if open_entries:
        journal.append([{"done": journal.last, "void": void}])


def _plan(output: Path, dest: Path, options: SortOptions, journal: Journal) -> Plan:
    images = survey(read_results(output, options.format), dest, options.by, journal)
    entries = {e.name: e.is_dir(follow_symlinks=False) for e in _scanned(dest)}
    known = {label: folder for folder, label in journal.labels.items()}
    destination = Destination(entries, lambda name: [e.name for e in _scanned(dest / name)], known)
    plan = make_plan(images, options, destination)
    if images and all(image.problem == MISSING for image in images):
        raise InputError(
            f"none of the images of {visible(str(output))} is there (the first is"
            f" {visible(images[0].path)}): relative paths start at the folder where clipcls"
            " classify ran, so run clipcls sort there"
        )
    return plan


def _scanned(dest: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(dest) as entries:
            return list(entries)
    except FileNotFoundError:  # a plan for a folder that is to be made
        return []
    except OSError as error:
        raise InputError(f"{visible(str(dest))} cannot be read: {reason_of(error)}") from error


def _placed(
    batch: Sequence[Decision],
    labels: Mapping[str, str],
    dest: Path,
    journal: Journal,
    by: SortBy,
) -> Iterator[tuple[Decision, str]]:
    """Announce a batch in the journal, put its images into their folders, and yield why not."""
    entries = [
        Entry(n, by, d.image.source, f"{d.folder}/{d.name}", d.image.size, d.image.mtime_ns)
        for n, d in enumerate(batch, start=journal.last + 1)
    ]
    sources = {os.path.dirname(entry.source) for entry in entries if by is SortBy.MOVE}
    folders = dict.fromkeys(decision.folder for decision in batch)
    lines = list(_changes(folders, sources, labels, dest, journal))
    journal.append([*lines, *(asdict(entry) for entry in entries)])
    try:
        for folder in folders:
            (dest / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {dest / folder}: {reason_of(error)}") from error
    sorted_folder = Sorted(dest, journal.before.id)
    void = []
    for entry, decision in zip(entries, batch, strict=True):
        problem = ""
        try:
            sorted_folder.place(entry)
        except OSError as error:
            if error.errno in _HOPELESS:
                raise OutputError(
                    f"cannot write in {dest}: {reason_of(error)}; the same command goes on, --undo"
                    " puts back"
                ) from error
            void.append(entry.n)
            problem = reason_of(error) + _hint(error, by)
        yield decision, problem
    journal.append([{"done": journal.last, "void": void}], sync=False)


def _changes(
    folders: Mapping[str, None],
    sources: set[str],
    labels: Mapping[str, str],
    dest: Path,
    journal: Journal,
) -> Iterator[dict[str, Any]]:
    """Yield the lines about folders that are made or touched for the first time."""
    for folder in folders:
        exists = os.path.lexists(dest / folder)
        if folder not in journal.labels:
            yield {"folder": folder, "label": labels[folder], "made": not exists}
        if exists and folder not in journal.made and folder not in journal.touched:
            yield {"touched": folder, "mtime_ns": (dest / folder).stat().st_mtime_ns}
    for source in sorted(sources - journal.touched.keys()):
        with suppress(OSError):  # gone meanwhile: its images will say so
            yield {"touched": source, "mtime_ns": os.stat(source).st_mtime_ns}


def _set_time(folder: Path, mtime_ns: int) -> None:
    with suppress(OSError):  # gone, or another's
        os.utime(folder, ns=(folder.stat().st_atime_ns, mtime_ns))


def _hint(error: OSError, by: SortBy) -> str:
    """Return what mends an error of a link."""
    links = {errno.EXDEV: "a hard link needs one file system", errno.EPERM: "no links here"}
    windows = getattr(error, "winerror", None) == 1314  # a privilege is not held
    if by in (SortBy.SYMLINK, SortBy.HARDLINK) and (error.errno in links or windows):
        return f" ({links.get(error.errno or 0, 'no links here')}: use --by copy)"
    return ""
