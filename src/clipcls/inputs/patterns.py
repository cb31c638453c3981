"""Glob patterns: what they match, which folders lead there, and the order of names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import bracex
from natsort import natsort_keygen
from wcmatch import glob

from clipcls.errors import InputError
from clipcls.inputs.urls import redacted
from clipcls.text import visible

_natural = natsort_keygen()
_wildcard = re.compile(r"[*?[]")
_MOST_EXPANDED = 100_000


def name_order(name: str) -> str:
    """Natural order; names that are equal in it (`1`, `01`) stay in a fixed order.

    As one text, because a tuple of its parts would take several times the memory: of a million
    names, half a gigabyte. The less digits a number has, the smaller it is.
    """
    parts = (
        part if isinstance(part, str) else f"\0{chr(len(str(part)))}{part}"
        for part in _natural(name)
    )
    return f"{''.join(parts)}\0\0{name}"


def expanded(text: str) -> list[str]:
    """Return what an input with braces stands for: `{000..127}`, `{cat,dog}`.

    A file of that very name beats it, as it beats a glob pattern.

    Raises:
        InputError: It stands for too much.
    """
    if "{" not in text or os.path.lexists(text):
        return [text]
    try:
        return bracex.expand(_with_slashes(text).replace("\\", r"\\"), limit=_MOST_EXPANDED)
    except bracex.ExpansionLimitException as error:
        raise InputError(
            f"{visible(redacted(text))} stands for more than {_MOST_EXPANDED:,} inputs:"
            " put them into a list (@list.txt)"
        ) from error


def is_pattern(text: str) -> bool:
    """Return whether a text is a glob pattern; a file of that very name beats it."""
    return _wildcard.search(text) is not None and not os.path.lexists(text)


class Pattern:
    """A glob pattern: `*`, `?`, `[abc]`, and `**` for any depth of folders.

    A walk asks it name by name, so that patterns and folders agree on order, links, errors and what
    is left out, and no folder is listed in vain; wcmatch says which names match. The empty pattern
    means the folder that it starts from.

    Attributes:
        top: The folder before the first wildcard, as it was given; empty for the current one.
        start: The places in the pattern, counted in names, where what is in `top` stands.
        end: The place of what the pattern means.
        folders_only: Whether it means only folders.
    """

    def __init__(self, text: str) -> None:
        text = _with_slashes(text)
        wildcard = _wildcard.search(text)
        self.top = text[: text.rfind("/", 0, wildcard.start()) + 1] if wildcard else ""
        self._parts = [part for part in text[len(self.top) :].split("/") if part not in ("", ".")]
        self._matchers = [_compiled(part) for part in self._parts]
        self.end = len(self._parts)
        self.folders_only = text.endswith("/")
        self.start = self._with_skipped({0})

    def step(self, places: frozenset[int], name: str) -> frozenset[int]:
        """Return the places after a name that stands at `places`; none if it leads nowhere."""
        return self._with_skipped(
            {
                place if self._parts[place] == "**" else place + 1
                for place in places - {self.end}
                if self._matchers[place].match(name)
            }
        )

    def _with_skipped(self, places: set[int]) -> frozenset[int]:
        # `**` also stands for no folder at all.
        for place, part in enumerate(self._parts):
            if place in places and part == "**":
                places.add(place + 1)
        return frozenset(places)


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
