"""Which image goes where: a pure function of the output's rows and of what is there already."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from clipcls.options import SortOptions
from clipcls.records import UNKNOWN
from clipcls.sorting.names import Names, folder_name, same_name_key

FAILED = "failed"
"""The folder of images that could not be scored; for a label of this name there is another."""


@dataclass(frozen=True, slots=True)
class Image:
    """One row of an output, and what was found under its path.

    Attributes:
        path: As in the output.
        label: The prediction; empty for an image that could not be scored.
        probability: Its probability; NaN for an image that could not be scored.
        source: The absolute path of the file.
        size: Its size in bytes.
        mtime_ns: When it was last modified.
        problem: Why it cannot be put anywhere, or empty.
        repeated: Whether an earlier row names the same file.
        there: (folder, name) below the destination where it is already, by an earlier sort or
            because it lies there.
        pinned: Why it stays there even if it now belongs into another folder, or empty.
    """

    path: str
    label: str
    probability: float
    source: str = ""
    size: int = 0
    mtime_ns: int = 0
    problem: str = ""
    repeated: bool = False
    there: tuple[str, str] | None = None
    pinned: str = ""


class Verdict(Enum):
    """What becomes of an image."""

    PLACED = auto()
    THERE = auto()
    LEFT_OUT = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one image.

    Attributes:
        image: The image.
        verdict: Whether it is to be put somewhere, is there, is not wanted, or cannot be.
        folder: The folder below the destination, where it has one.
        name: Its name in that folder.
        reason: Why it has none.
    """

    image: Image
    verdict: Verdict
    folder: str = ""
    name: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """What is in the folder that images are sorted into.

    Attributes:
        entries: Name -> whether it is a folder, and no link to one.
        listed: Returns the names in one of these folders.
        known: Label -> folder, of earlier sorts.
    """

    entries: Mapping[str, bool]
    listed: Callable[[str], Iterable[str]]
    known: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of every image.

    Attributes:
        decisions: One for each row of the output, in its order.
        labels: Folder -> label, of the folders that images are put into.
    """

    decisions: tuple[Decision, ...]
    labels: Mapping[str, str]

    @property
    def placed(self) -> tuple[Decision, ...]:
        """The images that are to be put somewhere."""
        return tuple(d for d in self.decisions if d.verdict is Verdict.PLACED)


def make_plan(images: Sequence[Image], options: SortOptions, destination: Destination) -> Plan:
    """Decide what becomes of each image.

    Names are given in the order of the images. A name that is taken, also in other letter case or
    in the other form of Unicode, gets a number; nothing that is there is ever to be replaced.

    Args:
        images: The rows of an output.
        options: What the user decided.
        destination: What is there.
    """
    labels = [_label(image, options) for image in images]
    folders = _folders(labels, destination)
    chosen = _best(images, labels, options.top)
    names: dict[str, Names] = {}
    decisions = []
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = folders[label]
        if image.repeated:
            decision = Decision(image, Verdict.LEFT_OUT, reason="an earlier row has the same file")
        elif place not in chosen:
            reason = f"not among the {options.top} most probable of {folder}/"
            decision = Decision(image, Verdict.LEFT_OUT, reason=reason)
        elif image.problem:
            decision = Decision(image, Verdict.FAILED, reason=image.problem)
        elif image.there and image.there[0] == folder:
            decision = Decision(image, Verdict.THERE, *image.there)
        elif image.there and image.pinned:
            decision = Decision(image, Verdict.FAILED, reason=image.pinned)
        else:
            if folder not in names:
                there = destination.listed(folder) if destination.entries.get(folder) else ()
                names[folder] = Names(there)
            name = names[folder].take(os.path.basename(image.source))
            decision = Decision(image, Verdict.PLACED, folder, name)
        decisions.append(decision)
    used = {d.folder for d in decisions if d.verdict is Verdict.PLACED}
    return Plan(tuple(decisions), {f: label for label, f in folders.items() if f in used})


def _label(image: Image, options: SortOptions) -> str:
    least = options.min_probability
    weak = bool(image.label) and least is not None and image.probability < least
    return UNKNOWN if weak else image.label


def _folders(labels: Iterable[str], destination: Destination) -> dict[str, str]:
    """Return label -> folder, a folder for each; the empty label has that of the failures."""
    taken = [name for name, is_folder in destination.entries.items() if not is_folder]
    names = Names([*taken, *destination.known.values()])
    spelt = {same_name_key(n): n for n, is_folder in destination.entries.items() if is_folder}
    folders = dict(destination.known)
    wished = {"": FAILED, UNKNOWN: UNKNOWN}
    # The first two have their names before any label can take them.
    for label in dict.fromkeys([*wished, *labels]):
        if label not in folders:
            name = names.take(wished.get(label) or folder_name(label), extension=False)
            # A folder of the user's own is used as it is spelt.
            folders[label] = spelt.get(same_name_key(name), name)
    return folders


def _best(images: Sequence[Image], labels: Sequence[str], top: int | None) -> set[int]:
    """Return the places of the images that are wanted: the most probable of each label."""
    groups = defaultdict(list)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        if not image.repeated:
            groups[label].append((_rank(image), place))
    return {place for group in groups.values() for _, place in sorted(group)[:top]}


def _rank(image: Image) -> float:
    return math.inf if math.isnan(image.probability) else -image.probability
