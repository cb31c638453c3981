"""What the user named -> a stable stream of pictures: files, folders, globs, lists, standard input.

Nothing is opened here but folders and lists. Order is the user's; folders are walked depth first
in natural order (`img2` before `img10`), one listing per level in memory.
"""

from __future__ import annotations

import glob
import os
import re
import select
import stat
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import BinaryIO

from natsort import natsort_keygen

from clipcls.errors import InputError
from clipcls.inputs.refs import ImageRef
from clipcls.options import DiscoveryOptions
from clipcls.text import printable_path

HIDDEN = "hidden"
NOT_AN_IMAGE = "not an image"
DUPLICATE = "duplicate"
UNREADABLE = "unreadable folder"

_STDIN = "-"
_LIST_MARK = "@"
_CHUNK_BYTES = 1 << 16
_LONGEST_PATH_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_has_wildcard = re.compile(r"[*?[]").search
_is_url = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE).match
_natural = natsort_keygen()
_separators = "[" + re.escape(os.sep + (os.altsep or "")) + "]"
_double_star = re.compile(rf"(?:^|(?<={_separators}))\*\*(?:{_separators}+|$)")


class _Stream(ABC):
    """Pictures out of names, each file once; what the names are is the subclass's business.

    Attributes:
        skipped: Why something was left out -> how often; complete after the iteration.
    """

    def __init__(self, options: DiscoveryOptions, is_image: Callable[[str], bool]) -> None:
        self._options = options
        self._is_image = is_image
        self._started = False
        self._seen: set[bytes] = set()
        self._walked: set[str] = set()
        self._unsearched = 0
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[ImageRef]:
        if self._started:
            raise RuntimeError(f"a {type(self).__name__} can be iterated only once")
        self._started = True
        for index, path in enumerate(self._unique()):
            yield ImageRef(index, path)

    @abstractmethod
    def _all(self) -> Iterator[_Found]:
        """Yield whatever the names stand for, one by one."""

    def _unique(self) -> Iterator[str]:
        """Drop files that were reached before, however they were named."""
        for found in self._all():
            # 16 bytes per file instead of its path keep the memory of long runs low.
            key = blake2b(found.real.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key in self._seen:
                self.skipped[DUPLICATE] += 1
            else:
                self._seen.add(key)
                yield found.path

    def _named(self, path: str) -> Iterator[_Found]:
        """Yield a file that was named explicitly, or what is below a folder that was."""
        if os.path.isdir(path):
            yield from self._below(path)
        else:
            yield _Found(path, _identity(path))

    def _below(self, top: str) -> Iterator[_Found]:
        """Walk a folder depth first, with a stack of its own: paths can be deep."""
        levels = [self._level(top, place=os.path.realpath(top))]
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop()
            elif entry.name.startswith("."):
                self.skipped[HIDDEN] += 1
            elif _is_folder(entry):
                if self._options.recursive:
                    place = os.path.join(level.real, entry.name)
                    levels.append(self._level(entry.path, place=place))
                else:
                    self._unsearched += 1
            elif self._is_image(entry.path):
                real = os.path.join(level.real, entry.name)
                yield _Found(entry.path, _identity(real) if entry.is_symlink() else real)
            else:
                self.skipped[NOT_AN_IMAGE] += 1

    def _level(self, path: str, *, place: str) -> _Level:
        """List a folder, unless it is a link to one that was walked already.

        So loops end, and folders full of links to each other are not walked once per combination.

        Args:
            path: The folder.
            place: Its real path if it is no link.
        """
        real = os.path.realpath(path)
        if real != place and real in self._walked:
            self.skipped[DUPLICATE] += 1
            return _Level(real, iter(()))
        self._walked.add(real)
        try:
            with os.scandir(path) as entries:
                return _Level(real, iter(sorted(entries, key=_entry_order)))
        except OSError:
            self.skipped[UNREADABLE] += 1
            return _Level(real, iter(()))


class Discovery(_Stream):
    """Finds the pictures that the user's inputs stand for; can be iterated once.

    An input is a file, a folder, a glob pattern (where no such file exists), `@list.txt` (a file of
    paths) or `-` (paths on standard input). Paths come out as they were given. What is named, in a
    list too, is always yielded; if it is missing or no picture, it becomes a failure with a reason
    later. Files found inside folders must look like pictures.

    Args:
        inputs: What the user named, in order.
        options: Depth, and how lists are separated.
        is_image: Whether a file found inside a folder is a picture; called for nothing else.
        stdin: Where `-` reads from; standard input by default.

    Attributes:
        skipped: Why something was left out -> how often; complete after the iteration.
        streams: Whether standard input or another pipe is among the inputs, which can be read only
            once, so that the total cannot be known in advance.

    Raises:
        InputError: An input leads nowhere (on construction), or nothing at all was found (at the
            end of the iteration).
    """

    def __init__(
        self,
        inputs: Sequence[str],
        options: DiscoveryOptions,
        *,
        is_image: Callable[[str], bool],
        stdin: BinaryIO | None = None,
    ) -> None:
        _refuse_single(inputs)
        super().__init__(options, is_image)
        self._inputs = tuple(os.fspath(text) for text in inputs)
        self._check_inputs()
        self.streams = any(map(_is_stream, self._inputs))
        if stdin is None and _STDIN in self._inputs:
            stdin = _standard_input()
        self._stdin = stdin

    def __iter__(self) -> Iterator[ImageRef]:
        ref = None
        for ref in super().__iter__():
            yield ref
        if ref is None:
            raise InputError(self._nothing_found())

    # -- checks, before anything is scored

    def _check_inputs(self) -> None:
        if not self._inputs:
            raise InputError(
                "no pictures given: name files, folders, 'patterns*.jpg', @list.txt,"
                " or - for paths on standard input"
            )
        if self._inputs.count(_STDIN) > 1:
            raise InputError("standard input (-) is given twice: it can be read only once")
        for text in self._inputs:
            if text == _STDIN:
                continue
            if text.startswith(_LIST_MARK):
                _check_list(text)
            elif self._is_pattern(text):
                if next(self._matches(text), None) is None:
                    raise InputError(f"no file matches the pattern {_shown(text)}")
            else:
                _check_path(text)

    def _nothing_found(self) -> str:
        shown = ", ".join(_shown(text) for text in self._inputs[:3])
        if len(self._inputs) > 3:
            shown += f" and {len(self._inputs) - 3} more"
        found = []
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            found.append(f"{self.skipped.total()} skipped ({reasons})")
        if self._unsearched:
            noun = "subfolder" if self._unsearched == 1 else "subfolders"
            found.append(f"{self._unsearched} {noun} not searched (--no-recursive)")
        return f"no pictures in {shown}: {', '.join(found) or 'nothing is there'}"

    @staticmethod
    def _is_pattern(text: str) -> bool:
        return bool(_has_wildcard(text)) and not os.path.lexists(text)

    # -- the stream

    def _all(self) -> Iterator[_Found]:
        for text in self._inputs:
            if text == _STDIN and self._stdin is not None:
                yield from self._listed(self._stdin, "standard input")
            elif text.startswith(_LIST_MARK):
                with _open_list(text) as stream:
                    yield from self._listed(stream, _shown(text[1:]))
            elif self._is_pattern(text):
                for path in self._matches(text):
                    yield from self._named(path)
            else:
                yield from self._named(text)

    def _listed(self, stream: BinaryIO, name: str) -> Iterator[_Found]:
        null = self._options.null_separated
        for number, record in enumerate(_records(stream, b"\0" if null else b"\n", name), 1):
            path = record if null else record.removesuffix(b"\r")
            if number == 1 and not null:
                path = path.removeprefix(_BYTE_ORDER_MARK)
            if b"\0" in path:
                raise InputError(
                    f"{name}, line {number}: a NUL byte where a path is expected"
                    " (--null reads lists that are separated by NUL)"
                )
            if path:
                yield from self._named(path.decode(sys.getfilesystemencoding(), "surrogateescape"))

    # -- patterns

    def _matches(self, pattern: str) -> Iterator[str]:
        """Yield what a glob pattern matches, in natural order.

        Python's own `**` follows links in circles, so folders are walked here. Where the pattern
        itself goes through all folders (`x/**`, `x/**/*`), matched folders are left to it.
        """
        head, mark, tail = _split_at_double_star(pattern)
        if not mark:
            yield from sorted(glob.iglob(pattern), key=_path_order)
            return
        keeps_folders = tail not in ("", "*")
        for base in sorted(glob.iglob(head), key=_path_order) if head else [""]:
            for folder in self._folders(base):
                below = os.path.join(glob.escape(folder), tail or "*")
                for path in self._matches(below):
                    if keeps_folders or not os.path.isdir(path):
                        yield path

    def _folders(self, base: str) -> Iterator[str]:
        """Yield `base` and the folders below it, hidden ones left out, each real folder once."""
        pending = [base]
        walked: set[str] = set()
        while pending:
            folder = pending.pop()
            real = os.path.realpath(folder)
            if real in walked:
                continue
            walked.add(real)
            yield folder
            with suppress(OSError), os.scandir(folder or os.curdir) as entries:
                folders = [e.name for e in entries if not e.name.startswith(".") and _is_folder(e)]
                folders.sort(key=_name_order, reverse=True)
                pending += [os.path.join(folder, name) for name in folders]


class PathStream(_Stream):
    """Finds the pictures that paths stand for, as they come; can be iterated once.

    Each path is taken literally, as in a list: a folder stands for the pictures in it, anything
    else is yielded, whether or not it is there, and `*`, `@` and `-` mean nothing. To find nothing
    is no error.

    Args:
        paths: Files and folders, in order; consumed one by one.
        options: Depth.
        is_image: Whether a file found inside a folder is a picture; called for nothing else.

    Attributes:
        skipped: Why something was left out -> how often; complete after the iteration.

    Raises:
        InputError: A single text in place of several paths, which would mean its letters.
    """

    def __init__(
        self,
        paths: Iterable[str],
        options: DiscoveryOptions,
        *,
        is_image: Callable[[str], bool],
    ) -> None:
        _refuse_single(paths)
        super().__init__(options, is_image)
        self._paths = paths

    def _all(self) -> Iterator[_Found]:
        for path in self._paths:
            yield from self._named(path)


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    real: str


@dataclass(frozen=True, slots=True)
class _Level:
    """One open folder of a walk: its real path and the entries that are still to come."""

    real: str
    entries: Iterator[os.DirEntry[str]]


def _refuse_single(paths: object) -> None:
    if isinstance(paths, (str, bytes)):
        raise InputError(f"inputs must be a list of paths, not the single text {paths!r}")


def _check_path(text: str) -> None:
    """Refuse a path that leads nowhere, before anything is scored."""
    if not text:
        raise InputError("an input is empty: name a file, a folder or a pattern")
    if _is_url(text):
        raise InputError(f"{_shown(text)} is a web address: download it first, then name the file")
    try:
        if stat.S_ISDIR(os.stat(text).st_mode):
            os.scandir(text).close()
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "a link to nothing" if os.path.islink(text) else "no such file or folder"
        raise InputError(f"{what}: {_shown(text)}") from error
    except PermissionError as error:
        # A single file's failure gets a row; a folder that cannot be listed has no rows.
        if os.path.isdir(text):
            raise InputError(f"permission denied: the folder {_shown(text)}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be used as a path: {_shown(text)} ({error})") from error


def _check_list(text: str) -> None:
    path = text.removeprefix(_LIST_MARK)
    if not path or not os.path.exists(path):
        raise InputError(
            f"no such list: {_shown(path) or 'its name is missing'} (@FILE is a file of paths;"
            f" a picture whose own name begins with @ is given as ./{_shown(text)})"
        )
    if os.path.isdir(path):
        raise InputError(f"{_shown(text)} is a folder, not a list: leave out the @")
    if not os.access(path, os.R_OK):
        raise InputError(f"permission denied: the list {_shown(path)}")


def _open_list(text: str) -> BinaryIO:
    path = text.removeprefix(_LIST_MARK)
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"the list {_shown(path)} cannot be read: {error.strerror}") from error


def _is_stream(text: str) -> bool:
    if text.startswith(_LIST_MARK):
        return not os.path.isfile(text.removeprefix(_LIST_MARK))
    return text == _STDIN


def _standard_input() -> BinaryIO:
    """Return standard input below Python's buffer.

    A daemon thread that waits inside the buffer holds its lock, and Python cannot exit then.
    """
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None or buffer.closed:
        raise InputError(
            "standard input (-) is closed: send paths into it, or name files, folders or @list.txt"
        )
    stream: BinaryIO = getattr(buffer, "raw", buffer)
    return stream


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what is there as soon as something is; a buffered read() waits for the whole chunk."""
    read: Callable[[int], bytes | None] = getattr(stream, "read1", stream.read)
    while (chunk := read(_CHUNK_BYTES)) != b"":
        if chunk is None:  # a pipe that does not block and is empty for now, but not at its end
            select.select([stream], [], [])
        else:
            yield chunk


def _records(stream: BinaryIO, separator: bytes, name: str) -> Iterator[bytes]:
    """Split a stream as it arrives, without waiting for its end."""
    rest = b""
    try:
        for chunk in _chunks(stream):
            *complete, rest = (rest + chunk).split(separator)
            yield from complete
            if len(rest) > _LONGEST_PATH_BYTES:
                raise InputError(f"{name} holds no list of paths: one is above a megabyte long")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
    yield rest


def _identity(path: str) -> str:
    """Return the real path, which is equal for all names of a file.

    Links that lead to nothing are told apart by their own names: each is a picture that is missing.
    """
    try:
        real = os.path.realpath(path)
    except ValueError:  # a NUL in the name, or one that no file system can hold
        return path
    return real if os.path.exists(real) else os.path.abspath(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        return entry.is_dir()
    return False


def _split_at_double_star(pattern: str) -> tuple[str, str, str]:
    """Split `a/**/b` into `a`, `**`, `b`; the last two are empty without a `**`."""
    found = _double_star.search(pattern)
    if found is None:
        return pattern, "", ""
    return pattern[: found.start()], "**", pattern[found.end() :]


def _name_order(name: str) -> tuple[object, str]:
    """Natural order; names that are equal in it (`1`, `01`) stay in a fixed order."""
    return _natural(name), name


def _entry_order(entry: os.DirEntry[str]) -> tuple[object, str]:
    return _name_order(entry.name)


def _path_order(path: str) -> tuple[list[object], str]:
    return [_natural(part) for part in path.split(os.sep)], path


def _shown(path: str) -> str:
    """Return a path for a message of one line."""
    return printable_path(path).replace("\n", "\\n").replace("\r", "\\r")
