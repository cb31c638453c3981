#!/usr/bin/env python3
"""Make the lexicon of `--unknown auto` from WordNet 3.0.

    python scripts/make_lexicon.py DICT

DICT is the folder of WordNet's database files (data.noun, index.noun, noun.exc, cntlist.rev), as
Princeton's archive and Debian's package wordnet-base have them. It writes two files into
`prompts/wordnet`: the nouns, in the layout that `clipcls.lexicon` describes, and their licence.
"""

from __future__ import annotations

import lzma
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

TARGET = Path(__file__).parents[1] / "prompts" / "wordnet"

CONCRETE = {"object", "matter", "thing"}
"""Words of the kinds of physical entity that can be seen; the others are causes and processes."""

is_common = re.compile(r"[a-z]{3,}([_-][a-z]{3,})?").fullmatch


class Synset(NamedTuple):
    """A set of words of one meaning: its words, what it is a kind or an instance of."""

    words: tuple[str, ...]
    parents: tuple[str, ...]
    is_name: bool


def entries(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line of a database file, without the licence at its head."""
    with path.open(encoding="latin-1") as lines:
        for line in lines:
            if not line.startswith("  "):
                yield line.partition(" | ")[0].split()


def read_synsets(path: Path) -> dict[str, Synset]:
    """Return offset -> synset."""
    synsets = {}
    for offset, _, _, count, *rest in entries(path):
        end = 2 * int(count, 16)
        pointers = list(zip(rest[end + 1 :: 4], rest[end + 2 :: 4], strict=False))
        synsets[offset] = Synset(
            words=tuple(rest[:end:2]),
            parents=tuple(target for kind, target in pointers if kind in ("@", "@i")),
            is_name=any(kind == "@i" for kind, _ in pointers),
        )
    return synsets


def below(synsets: Mapping[str, Synset], tops: Iterable[str]) -> set[str]:
    """Return the tops and all synsets that are kinds of them."""
    kinds = defaultdict(list)
    for offset, synset in synsets.items():
        for parent in synset.parents:
            kinds[parent].append(offset)
    found: set[str] = set()
    pending = list(tops)
    while pending:
        offset = pending.pop()
        if offset not in found:
            found.add(offset)
            pending += kinds[offset]
    return found


def common_words(folder: Path, synsets: Mapping[str, Synset]) -> set[str]:
    """Return the common nouns whose most frequent meaning can be seen.

    Common is what stands at least twice in the texts that WordNet's makers tagged.
    """
    tagged: Counter[str] = Counter()
    for key, _, count in entries(folder / "cntlist.rev"):
        word, _, sense = key.partition("%")
        if sense.startswith("1:"):
            tagged[word] += int(count)
    entity = next(o for o, synset in synsets.items() if synset.words[0] == "physical_entity")
    tops = [
        offset
        for offset, synset in synsets.items()
        if entity in synset.parents and CONCRETE.intersection(synset.words)
    ]
    visible = below(synsets, tops)
    found = set()
    for word, _, senses, *rest in entries(folder / "index.noun"):
        offset = rest[-int(senses)]
        synset = synsets[offset]
        # A word that is written with a capital in its meaning is a name, like an instance.
        is_name = synset.is_name or word not in synset.words
        if is_common(word) and tagged[word] > 1 and offset in visible and not is_name:
            found.add(word)
    return found


def spelt(word: str) -> str:
    """Return a word of WordNet as the lexicon has it."""
    return " ".join(re.split(r"[\s_-]+", word.lower())).strip()


def main() -> None:
    """Write the two files."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    synsets = read_synsets(folder / "data.noun")
    common = {spelt(word) for word in common_words(folder, synsets)}
    number = {offset: str(i) for i, offset in enumerate(synsets)}
    senses: dict[str, dict[str, None]] = defaultdict(dict)
    for offset, synset in synsets.items():
        for word in synset.words:
            senses[spelt(word)][number[offset]] = None
    words = [
        f"{word}\t{' '.join(senses[word])}" + "\t+" * (word in common) for word in sorted(senses)
    ]
    kinds = [
        f"{number[offset]} {number[parent]}"
        for offset, synset in synsets.items()
        for parent in synset.parents
    ]
    irregular = {
        f"{spelt(form)}\t{spelt(base)}"
        for form, *bases in entries(folder / "noun.exc")
        for base in bases
    }
    text = "\n\n".join("\n".join(lines) for lines in (words, kinds, sorted(irregular)))
    packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "nouns.txt.xz").write_bytes(packed)
    with (folder / "data.noun").open(encoding="latin-1") as head:
        licence = [line[4:].strip() for line in head if line.startswith("  ")]
    (TARGET / "LICENSE").write_text("\n".join(licence) + "\n", encoding="utf-8")
    print(f"{len(synsets)} synsets, {len(common)} common words, {len(packed):,} bytes")


if __name__ == "__main__":
    main()
