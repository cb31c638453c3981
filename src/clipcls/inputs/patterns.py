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
        # A backslash separates folders on Windows and is a letter like any other elsewhere.
        text = text.replace("\\", "/") if os.sep == "\\" else text
        found = _wildcard.search(text)
        cut = text.rfind("/", 0, found.start() if found else len(text)) + 1
        self.top = text[:cut]
        self._parts = [p.replace("\\", "\\\\") for p in text[cut:].split("/") if p not in ("", ".")]
        self._any_depth = self._parts.index("**") if "**" in self._parts else None
        self._folders_only = text.endswith("/")
        self._matcher = glob.compile("/".join(self._parts), flags=glob.GLOBSTAR)

    def matches(self, below: str, *, folder: bool) -> bool:
        """Return whether a path below `top` is meant; the pattern must have its dots."""
        return (folder or not self._folders_only) and self._matcher.match(below)

    def leads_through(self, below: str) -> bool:
        """Return whether something in a folder below `top` may match."""
        depth = below.count("/")
        if self._any_depth is not None and depth >= self._any_depth:
            parts = self._parts[self._any_depth :]
        else:
            parts = self._parts[depth:-1][:1]
        return any(glob.globmatch(os.path.basename(below), p, flags=glob.GLOBSTAR) for p in parts)


class Exclusions:
    """Glob patterns of what a walk leaves out, matched against names and paths below its top."""

    def __init__(self, patterns: Sequence[str]) -> None:
        flags = glob.GLOBSTAR | glob.DOTGLOB
        self._matchers = [
            glob.compile(p.rstrip("/"), flags=flags) for p in patterns if p.strip("/")
        ]

    def match(self, below: str) -> bool:
        """Return whether a path below a walked folder is left out."""
        name = os.path.basename(below)
        return any(m.match(below) or m.match(name) for m in self._matchers)
