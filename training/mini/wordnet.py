"""WordNet 3.0's files, and the tree that it is over the classes of ImageNet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.mini.files import load_json

WORDS: dict[str, Any] = load_json(Path(__file__).with_name("words.json"))
"""Lists that texts are made from; a template has the slot `<>`."""

TOO_GENERAL = frozenset(WORDS["too_general"])
"""Nouns that say too little to be a label."""

MOST_CLASSES = 450
"""A noun over more classes than these says too little, too."""


@dataclass(frozen=True)
class Synset:
    """A meaning.

    Attributes:
        offset: Its number in the file, eight digits; `n` and the number is the wnid of a noun.
        field: Number of its lexicographer file: 5 is animals, 13 food and so on.
        names: Its words, spaces in place of underscores.
        pointers: (symbol, offset, part of speech) of its relatives.
        gloss: The first sentence of its definition.
    """

    offset: str
    field: int
    names: tuple[str, ...]
    pointers: tuple[tuple[str, str, str], ...]
    gloss: str


@dataclass(frozen=True)
class Node:
    """A noun over some of the classes: a class itself (a leaf) or something more general."""

    wnid: str
    classes: tuple[int, ...]
    names: tuple[str, ...]
    gloss: str
    leaf: bool

    def as_json(self) -> dict[str, Any]:
        """Return what `Node(**...)` takes."""
        return asdict(self)


def read_synsets(folder: Path, part: str) -> Iterator[Synset]:
    """Read `data.noun`, `data.verb` or `data.adj` (the format is in WordNet's wndb(5))."""
    with (folder / f"data.{part}").open(encoding="latin-1") as file:
        for line in file:
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.partition("|")
            fields = head.split()
            count = int(fields[3], 16)
            words, rest = fields[4 : 4 + 2 * count : 2], fields[4 + 2 * count :]
            links = [rest[k : k + 3] for k in range(1, 1 + 4 * int(rest[0]), 4)]
            yield Synset(
                offset=fields[0],
                field=int(fields[1]),
                names=tuple(re.sub(r"\(.*\)", "", word).replace("_", " ") for word in words),
                pointers=tuple((symbol, offset, pos) for symbol, offset, pos in links),
                gloss=gloss.split(";")[0].split('"')[0].strip(),
            )


def read_counts(folder: Path) -> Counter[tuple[str, str]]:
    """Return how often each (word, part of speech number) was met in WordNet's own corpus."""
    counts: Counter[tuple[str, str]] = Counter()
    with (folder / "cntlist.rev").open(encoding="latin-1") as file:
        for line in file:
            key, _, count = line.split()
            word, _, sense = key.partition("%")
            counts[word.replace("_", " "), sense[0]] += int(count)
    return counts


def class_nodes(nouns: Sequence[Synset], wnids: Sequence[str], names: Sequence[str]) -> list[Node]:
    """Return a node for each class, in their order, then one for each noun above some of them.

    Args:
        nouns: All of them.
        wnids: `n` and the offset of each class.
        names: The common name of each class.
    """
    by_offset = {noun.offset: noun for noun in nouns}
    below: dict[str, set[int]] = {}
    for number, wnid in enumerate(wnids):
        todo, seen = [wnid[1:]], set[str]()
        while todo:
            offset = todo.pop()
            if offset not in seen:
                seen.add(offset)
                below.setdefault(offset, set()).add(number)
                links = by_offset[offset].pointers
                todo += [up for symbol, up, pos in links if symbol in ("@", "@i") and pos == "n"]
    leaves = [
        # The common name is drawn more often than WordNet's.
        Node(
            wnid,
            (k,),
            (name,) * 3 + by_offset[wnid[1:]].names,
            by_offset[wnid[1:]].gloss,
            leaf=True,
        )
        for k, (wnid, name) in enumerate(zip(wnids, names, strict=True))
    ]
    inner = [
        Node(
            f"n{offset}",
            tuple(sorted(classes)),
            by_offset[offset].names,
            by_offset[offset].gloss,
            leaf=False,
        )
        for offset, classes in below.items()
        if f"n{offset}" not in set(wnids)
        and len(classes) <= MOST_CLASSES
        and by_offset[offset].names[0] not in TOO_GENERAL
    ]
    return leaves + inner
