"""Glob patterns: what they match, which folders lead there, and the order of names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from natsort import natsort_keygen
from wcmatch import glob

_natural = natsort_keygen()
_wildcard = re.compile(r"[*?[]")


def name_order(name: str) -> tuple[object, str]:
    """Natural order; names that are equal in it (`1`, `01`) stay in a fixed order."""
    return _natural(name), name


def is_pattern(text: str) -> bool:
    """Return whether a text is a glob pattern; a file of that very name beats it."""
    return _wildcard.search(text) is not None and not os.path.lexists(text)


class Pattern:
    """A glob pattern: `*`, `?`, `[abc]`, and `**` for any depth of folders.

    Folders are walked elsewhere, so that patterns and folders agree on order, links, errors and
    what is left out; wcmatch says what matches.

    Attributes:
        top: The folder before the first wildcard, as it was given; empty for the current one.
    """

    def __init__(self, text: str) -> None:
        text = _with_slashes(text)
        wildcard = _wildcard.search(text)
        self.top = text[: text.rfind("/", 0, wildcard.start()) + 1] if wildcard else ""
        parts = [part for part in text[len(self.top) :].split("/") if part not in ("", ".")]
        self._folders_only = text.endswith("/")
        self._any_depth = [*parts, "**"].index("**")
        self._parts = [_compiled(part) for part in parts]
        self._whole = _compiled("/".join(parts))

    def matches(self, below: str, *, folder: bool) -> bool:
        """Return whether a path below `top` is meant."""
        return (folder or not self._folders_only) and self._whole.match(below)

    def leads_through(self, below: str) -> bool:
        """Return whether something in a folder below `top` may be meant."""
        depth = below.count("/")
        if depth < self._any_depth:
            parts = self._parts[depth:-1][:1]
        else:
            parts = self._parts[self._any_depth :]
        return any(part.match(os.path.basename(below)) for part in parts)


class Exclusions:
    """Glob patterns of what walks leave out, for names and for paths below the top of a walk."""

    def __init__(self, patterns: Sequence[str]) -> None:
        texts = [_with_slashes(text).removeprefix("./").rstrip("/") for text in patterns]
        self._patterns = [_compiled(text, glob.DOTGLOB) for text in texts if text]

    def match(self, below: str) -> bool:
        """Return whether a path below the top of a walk is left out."""
        name = os.path.basename(below)
        return any(pattern.match(below) or pattern.match(name) for pattern in self._patterns)


def _with_slashes(text: str) -> str:
    # A backslash separates folders on Windows and is a letter like any other elsewhere.
    return text.replace("\\", "/") if os.sep == "\\" else text


def _compiled(text: str, flags: int = 0) -> glob.WcMatcher[str]:
    return glob.compile(text.replace("\\", r"\\"), flags=glob.GLOBSTAR | flags)
