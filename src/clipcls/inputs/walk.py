"""What the user named -> a stable stream of images: files, folders, globs, lists, standard input.

Nothing is opened here but folders and lists. Order is the user's; folders are walked depth first
in natural order (`img2` before `img10`), one listing per level in memory. `os.walk` cannot do
that: it puts all subfolders of a folder after its files, and is recursive before Python 3.12.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import BinaryIO

from clipcls.errors import InputError
from clipcls.inputs.lists import STDIN, check_list, is_list, is_stream, read_list, standard_input
from clipcls.inputs.patterns import Exclusions, Pattern, expanded, is_pattern, name_order
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.remote import Remote
from clipcls.inputs.tables import TableRow, Tables
from clipcls.inputs.urls import (
    archive_of,
    is_store,
    is_url,
    is_web,
    names_a_tar,
    read_otherwise,
    redacted,
    why_unreadable,
)
from clipcls.options import DiscoveryOptions
from clipcls.text import visible

HIDDEN = "hidden"
NOT_AN_IMAGE = "not an image"
DUPLICATE = "duplicate"
EXCLUDED = "excluded"
SYSTEM = "system"
UNREADABLE = "unreadable"
SORTED = "folder of clipcls sort"

SORTED_MARK = ".clipcls-sorted"
"""The file in a folder whose images are elsewhere too, as `clipcls sort` copied or linked them."""

MOST_SKIPPED_PATHS = 100

# Thumbnails, waste bins and indexes that systems keep among the user's own files.
_is_system = re.compile(
    r"@eaDir|@Recycle|@Recently-Snapshot|#recycle|#snapshot|\.@__thumb|\.thumbnails|\.Trash.*"
    r"|__MACOSX|\.Spotlight-V100|\.fseventsd|lost\+found"
    r"|\$RECYCLE\.BIN|RECYCLER|System Volume Information|Thumbs\.db|ehthumbs\.db|desktop\.ini",
    re.IGNORECASE,
).fullmatch
_WHOLE_FOLDER = Pattern("")


class _Walk:
    """Finds images below folders. What was found before, here or by name, is left out.

    Attributes:
        skipped: Why something was left out -> how often.
        skipped_paths: The first of them as (path, reason), at most `MOST_SKIPPED_PATHS`.
        unsearched: How many subfolders were not searched, as was asked.
        found: Whether anything was.
        alone: Whether nothing can come twice: all of it is one folder of a store.
        remote: What opens inputs that are no files of this machine.
    """

    def __init__(self, options: DiscoveryOptions, is_image: Callable[[str], bool]) -> None:
        self._recursive = options.recursive
        self._is_excluded = Exclusions(options.exclude).match
        self._is_image = is_image
        self.remote = Remote(options.remote)
        self.found = self.alone = False
        self._digests: set[bytes] = set()
        self.skipped: Counter[str] = Counter()
        self.skipped_paths: list[tuple[str, str]] = []
        self.unsearched = 0

    def named(self, path: str) -> Iterator[str]:
        """Yield what is below a folder that the user named, and any other name itself."""
        if top := self.remote.top(path):
            for url in self.remote.below(top, self):
                self._is_new(url)
                yield url
            return
        if is_web(path):
            self._is_new(path)
            yield path
            return
        try:
            os.scandir(path).close()
        except (OSError, ValueError):  # not a folder, or not one to list: it fails in its own row
            self._is_new(_identity(path))
            yield path
        else:
            yield from self.below(path)

    def row(self, row: TableRow) -> None:
        """Remember an image that a row of a table names."""
        self._is_new(_identity(row.path) if row.source is None else row.path)

    def below(self, top: str, pattern: Pattern = _WHOLE_FOLDER) -> Iterator[str]:
        """Walk a folder depth first, with a stack of its own: paths can be deep.

        A link to a folder is followed, unless that was walked for the same part of the pattern.
        So loops end, and folders full of links to each other are not walked once per combination.

        Args:
            top: The folder.
            pattern: The files that are meant, and the folders, in which all images are meant.
        """
        whole = pattern.end in pattern.start
        real = _identity(top or os.curdir)
        walk = (real, whole, pattern.start - {pattern.end})
        walked = {walk}
        levels = [_Level(top, "", walk, pattern.start, self._listed(top))]
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop()
                continue
            path, real = (
                os.path.join(level.path, entry.name),
                os.path.join(level.walk[0], entry.name),
            )
            below = level.below + entry.name
            folder, link = _holds(entry.is_dir), _holds(entry.is_symlink)
            places = pattern.step(level.places, entry.name)
            end = pattern.end in places
            named = bool(places) if folder else end and not pattern.folders_only
            if not (level.walk[1] or named):
                continue
            real = _identity(path) if link else real
            walk = (real, level.walk[1] or end, places - {pattern.end})
            if reason := self._why_not(path, below, folder=folder, named=named):
                self._skip(path, reason)
            elif folder and not (self._recursive or named):
                self.unsearched += 1
            # A folder that only a link led to is walked again, as exclusions are for paths, but not
            # while it is being walked: its files would be named by the way through the link.
            elif (
                (link and walk in walked) or any(walk == level.walk for level in levels)
                if folder
                else not self._is_new(real)
            ):
                self._skip(path, DUPLICATE)
            elif folder:
                walked.add(walk)
                levels.append(_Level(path, below + "/", walk, places, self._listed(path)))
            else:
                yield path

    def keep(self, url: str, below: str, *, folder: bool, image: bool) -> bool:
        """Return whether what was found in a store is kept; see `Keeper`."""
        reason = self._by_name(below, folder=folder)
        if reason is None and not (folder or image):
            reason = NOT_AN_IMAGE
        if reason is None and not folder and not self._is_new(url):
            reason = DUPLICATE
        if reason is not None:
            self._skip(url, reason)
        elif folder and not self._recursive:
            self.unsearched += 1
            return False
        return reason is None

    def unreadable(self, url: str, error: OSError) -> None:
        """Remember a folder that cannot be listed."""
        self._skip(redacted(url), f"{UNREADABLE} folder: {_reason(error)}")

    def left_out(self) -> str:
        """Return what was left out, as the end of a message; empty if nothing was."""
        parts = []
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            parts.append(f"{self.skipped.total()} skipped ({reasons})")
        if self.unsearched:
            noun = "subfolder" if self.unsearched == 1 else "subfolders"
            parts.append(f"{self.unsearched} {noun} not searched (--no-recursive)")
        return ": " + ", ".join(parts) if parts else ""

    def _listed(self, path: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(path or os.curdir) as entries:
                return iter(sorted(entries, key=lambda entry: name_order(entry.name)))
        except (OSError, ValueError) as error:
            self._skip(path, f"{UNREADABLE} folder: {_reason(error)}")
            return iter(())

    def _why_not(self, path: str, below: str, *, folder: bool, named: bool) -> str | None:
        """Say why something is left out of a walk, if it is."""
        reason = self._by_name(below, folder=folder, named=named)
        if reason or named:
            return reason
        if folder and os.path.lexists(os.path.join(path, SORTED_MARK)):
            return SORTED
        try:
            return None if folder or self._is_image(path) else NOT_AN_IMAGE
        except OSError as error:
            return f"{UNREADABLE} file: {_reason(error)}"

    def _by_name(self, below: str, *, folder: bool, named: bool = False) -> str | None:
        name = os.path.basename(below)
        if self._is_excluded(below):
            return EXCLUDED
        if _is_system(name):
            return f"{SYSTEM} folder" if folder else f"{SYSTEM} file"
        return HIDDEN if name.startswith(".") and not named else None

    def _is_new(self, identity: str) -> bool:
        self.found = True
        if self.alone:
            return True
        # 16 bytes per file instead of its path keep the memory of long runs low.
        key = blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        new = key not in self._digests
        self._digests.add(key)
        return new

    def _skip(self, path: str, reason: str) -> None:
        self.skipped[reason] += 1
        if len(self.skipped_paths) < MOST_SKIPPED_PATHS:
            self.skipped_paths.append((path, reason))


@dataclass(frozen=True, slots=True)
class _Level:
    """One open folder of a walk.

    Attributes:
        path: As it is shown.
        below: Its path below the top of the walk, with a slash at the end.
        walk: Its real path, whether all images in it are meant and not only what the pattern
            matches, and the part of the pattern that it is walked for.
        places: Where in the pattern it stands.
        entries: What is still to come.
    """

    path: str
    below: str
    walk: tuple[str, bool, frozenset[int]]
    places: frozenset[int]
    entries: Iterator[os.DirEntry[str]]


class PathStream:
    """Finds the images that paths stand for, as they come; can be iterated once.

    Each path is taken literally, as in a list: a folder stands for the images in it, anything
    else is yielded, whether or not it is there, and `*`, `@` and `-` mean nothing. To find nothing
    is no error.

    Args:
        paths: Files and folders, in order; consumed one by one.
        options: Depth, and what is left out.
        is_image: Whether a file found inside a folder is an image; called for nothing else.

    Attributes:
        skipped: Why something was left out -> how often; complete after the iteration.
        skipped_paths: The first of them as (path, reason), at most `MOST_SKIPPED_PATHS`.

    Raises:
        InputError: A single text in place of several paths, which would mean its letters.
    """

    def __init__(
        self, paths: Iterable[str], options: DiscoveryOptions, *, is_image: Callable[[str], bool]
    ) -> None:
        if isinstance(paths, (str, bytes)):
            raise InputError(f"inputs must be a list of paths, not the single text {paths!r}")
        self._paths = paths
        self._walk = _Walk(options, is_image)
        self._started = False
        self.skipped = self._walk.skipped
        self.skipped_paths = self._walk.skipped_paths

    def __iter__(self) -> Iterator[ImageRef]:
        if self._started:
            raise RuntimeError(f"a {type(self).__name__} can be iterated only once")
        self._started = True
        for index, found in enumerate(self._found()):
            yield ImageRef(index, *found) if isinstance(found, TableRow) else self.ref(index, found)

    def ref(self, index: int, address: str) -> ImageRef:
        """Return the reference of something that was found, with its place in the order."""
        return ImageRef(index, redacted(address), self._walk.remote.source(address))

    def _found(self) -> Iterator[str | TableRow]:
        for path in self._paths:
            yield from self._walk.named(path)


class Discovery(PathStream):
    """Finds the images that the user's inputs stand for; can be iterated once.

    An input is a file, a folder, a glob pattern (where no such file exists), `@list.txt` (a file of
    paths), `-` (paths on standard input) or, with an image column, a table. Paths come out as they
    were given. What is named, in a list or a table too, is always yielded, as often as it is named;
    if it is missing or no image, it becomes a failure with a reason later. Files found inside
    folders must look like images, and come once.

    Args:
        inputs: What the user named, in order.
        options: Depth, what is left out, and how lists are separated.
        is_image: Whether a file found inside a folder is an image; called for nothing else.
        stdin: Where `-` reads from; standard input by default.

    Attributes:
        skipped: Why something was left out -> how often; complete after the iteration.
        skipped_paths: The first of them as (path, reason), at most `MOST_SKIPPED_PATHS`.
        tables: The tables among them.

    Raises:
        InputError: An input leads nowhere (on construction), or nothing at all was found (at the
            end of the iteration).
        OptionError: A table lacks a column, or there is an image column and no table.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        options: DiscoveryOptions,
        *,
        is_image: Callable[[str], bool],
        stdin: BinaryIO | None = None,
    ) -> None:
        super().__init__(inputs, options, is_image=is_image)
        self._inputs = tuple(chain.from_iterable(expanded(os.fspath(text)) for text in inputs))
        self._null = options.null_separated
        if not self._inputs:
            raise InputError(
                "no images given: name files, folders, 'patterns*.jpg', @list.txt,"
                " or - for paths on standard input"
            )
        if self._inputs.count(STDIN) > 1:
            raise InputError("standard input (-) is given twice: it can be read only once")
        self.tables = Tables(options, self._walk.remote)
        for text in self._inputs:
            if is_list(text):
                check_list(text, null=self._null)
            elif is_pattern(text) and not is_url(text):
                walk, pattern = _Walk(options, is_image), Pattern(text)
                found = walk.below(pattern.top, pattern)
                first = next(found, None)
                if first is None:
                    raise InputError(
                        f"no file matches the pattern {visible(text)}{walk.left_out()}"
                    )
                for path in (first, *found) if options.image_column else ():
                    self.tables.open(path)
            else:
                _check_path(text)
                self.tables.open(text)
        self.tables.check()
        if not self.tables.opened:
            _check_images(self._inputs)
        self._has_pipe = any(map(is_stream, self._inputs))
        [first, *others] = self._inputs
        self._walk.alone = not others and bool(is_store(first)) and not names_a_tar(first)
        self._stdin = standard_input() if stdin is None and STDIN in self._inputs else stdin

    @property
    def streams(self) -> bool:
        """Whether the total cannot be known in advance: listing to the end is not for free.

        A pipe can be read only once, and an archive that must be fetched, at some cost. Archives
        are met on the way.
        """
        return self._has_pipe or self._walk.remote.streams

    def _found(self) -> Iterator[str | TableRow]:
        for text in self._inputs:
            if is_list(text):
                stdin = self._stdin if text == STDIN else None
                for path in read_list(text, null=self._null, stdin=stdin):
                    yield from self._walk.named(path)
            elif is_pattern(text) and not is_url(text):
                pattern = Pattern(text)
                for path in self._walk.below(pattern.top, pattern):
                    if path in self.tables.opened:
                        yield from self._rows(path)
                    else:
                        # Its images are meant where an archive is.
                        yield from self._walk.named(path) if names_a_tar(path) else (path,)
            elif text in self.tables.opened:
                yield from self._rows(text)
            else:
                yield from self._walk.named(text)
        if not self._walk.found:
            shown = ", ".join(visible(redacted(text)) for text in self._inputs[:3])
            if len(self._inputs) > 3:
                shown += f" and {len(self._inputs) - 3} more"
            raise InputError(f"no images in {shown}{self._walk.left_out() or ': nothing is there'}")

    def _rows(self, table: str) -> Iterator[TableRow]:
        self._walk.row(TableRow(table, None, ()))  # a pattern leaves it out from now on
        for row in self.tables.opened[table].rows():
            self._walk.row(row)
            yield row


def _check_images(inputs: Sequence[str]) -> None:
    """Refuse inputs of which none can be an image; beside others, each has a row that says so."""
    kinds = [
        None if is_list(text) or is_url(text) or os.path.isdir(text) else read_otherwise(text)
        for text in inputs
    ]
    if kinds[0] is None or not all(kinds):
        return
    from clipcls.inputs.recognize import looks_like_image

    if not any(map(looks_like_image, inputs)):
        (noun, form), first = kinds[0], visible(inputs[0])
        raise InputError(
            f"{first} is {noun}, not an image; for the images in it, give"
            f" {form.replace('FILE', first)}"
        )


def _check_path(text: str) -> None:
    """Refuse a path that leads nowhere, before anything is scored."""
    if not text:
        raise InputError("an input is empty: name a file, a folder or a pattern")
    if is_web(text):
        return
    if why := why_unreadable(text):
        raise InputError(f"{visible(redacted(text))} cannot be read: {why}")
    if is_url(text):
        from clipcls.inputs.stores import check_store

        check_store(archive_of(text))
        return
    try:
        os.scandir(text).close()
    except (FileNotFoundError, NotADirectoryError) as error:
        if not os.path.exists(text):
            what = "a link to nothing" if os.path.islink(text) else "no such file or folder"
            raise InputError(f"{what}: {visible(text)}") from error
    except ValueError as error:
        raise InputError(f"cannot be used as a path: {visible(text)} ({error})") from error
    except OSError as error:
        # What is no folder gets a row with the reason; a folder that cannot be listed has no rows.
        if os.path.isdir(text):
            raise InputError(f"{_reason(error)}: the folder {visible(text)}") from error


def _identity(path: str) -> str:
    """Return the real path, which is equal for all names of a file.

    Links that lead to nothing are told apart by their own names: each is an image that is missing.
    """
    try:
        if os.path.exists(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        return os.path.join(os.path.realpath(folder), name)
    except (OSError, ValueError):  # no name for a file, or a link that may not be read
        return path


def _holds(question: Callable[[], bool]) -> bool:
    """Return the answer about an entry; one that cannot be looked at is no folder and no link."""
    try:
        return question()
    except OSError:
        return False


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
