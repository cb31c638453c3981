"""Common nouns, and which of them mean the same as a label, less or more: from WordNet 3.0.

The file `prompts/wordnet/nouns.txt.xz`, made by `scripts/make_lexicon.py`, has three parts with an
empty line between them; a synset is a set of words of one meaning, and has a number:

```
word TAB its synsets [TAB +]     in order; with the + where the word belongs to the lexicon, that
                                 is, it is common and what it mostly means can be seen
synset its-hypernym              what is a kind, or an instance, of what
form TAB word                    irregular plurals
```
"""

from __future__ import annotations

import hashlib
import lzma
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipcls.errors import OptionError
from clipcls.prompts import DATA
from clipcls.text import content_lines, read_file

Ints = NDArray[np.int32]

FILE = DATA / "wordnet" / "nouns.txt.xz"

_ENDINGS = (
    *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh")),
    *(("men", "man"), ("ies", "y")),
)
"""Regular plurals and what they are plurals of: those of WordNet's own Morphy."""

_LONGEST = 5
"""Words of a compound that is looked for."""

# Words that WordNet knows as nouns too (a vitamin, an inch, indium), and no label means as such.
_NOT_MEANT = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "do", "for", "he", "her", "him", "his"}
    | {"i", "in", "is", "it", "its", "me", "my", "no", "not", "of", "on", "or", "our", "she", "so"}
    | {"that", "the", "them", "they", "this", "to", "us", "was", "we", "who", "with", "you"}
)


class Lexicon:
    """WordNet's nouns."""

    def __init__(self, text: str) -> None:
        words, kinds, irregular = text.split("\n\n")
        # Lines, not a mapping: nearly all of them are never looked at.
        self._lines = words.split("\n")
        self._common = {
            line.partition("\t")[0]: _senses(line) for line in self._lines if line[-1] == "+"
        }
        self._kinds = np.array(kinds.split(), dtype=np.int32).reshape(-1, 2)
        self._irregular: dict[str, list[str]] = defaultdict(list)
        for line in irregular.split("\n"):
            form, _, base = line.partition("\t")
            self._irregular[form].append(base)

    @property
    def words(self) -> tuple[str, ...]:
        """The common ones, in lower case, with blanks in place of hyphens."""
        return tuple(self._common)

    def nouns(self, text: str) -> set[str]:
        """Return the nouns in a text, in the singular and as they are where both are nouns.

        Of words that make a compound, the compound is taken: a school bus is a bus, no school.
        """
        words = re.findall(r"[^\W_]+(?:['.][^\W_]+)*", text.lower())
        found: set[str] = set()
        start = 0
        while start < len(words):
            for end in range(min(start + _LONGEST, len(words)), start, -1):
                if known := self._known(words[start:end]):
                    found |= known
                    break
            start = end
        return found

    def _known(self, words: list[str]) -> set[str]:
        text = " ".join(words)
        if text in _NOT_MEANT:
            return set()
        *before, last = words
        forms = {text, *(" ".join([*before, base]) for base in self._bases(last))}
        forms.update(self._irregular.get(text, ()))
        return {form for form in forms if self._line(form)}

    def _line(self, word: str) -> str:
        place = bisect_left(self._lines, word + "\t")
        line = self._lines[place] if place < len(self._lines) else ""
        return line if line.startswith(word + "\t") else ""

    def _bases(self, word: str) -> Iterator[str]:
        yield from self._irregular.get(word, ())
        for ending, base in _ENDINGS:
            if word.endswith(ending) and len(word) > len(ending):
                yield word.removesuffix(ending) + base

    def related(self, texts: Iterable[str]) -> set[str]:
        """Return the common words that are synonyms, hyponyms or hypernyms of nouns in the texts.

        Every meaning of a noun counts, because nothing says which one is meant.
        """
        nouns = {noun for text in texts for noun in self.nouns(text)}
        own = {sense for noun in nouns for sense in _senses(self._line(noun))}
        below, above = self._kinds.T
        related = self._reached(own, below, above) | self._reached(own, above, below)
        return {word for word, senses in self._common.items() if not related.isdisjoint(senses)}

    def _reached(self, start: set[int], origins: Ints, targets: Ints) -> set[int]:
        """Return where one comes to from `start` in any number of steps, none included."""
        found, last = set(start), start
        while last:
            steps = np.isin(origins, list(last))
            last = set(targets[steps].tolist()) - found
            found |= last
        return found


def _senses(line: str) -> list[int]:
    return [int(number) for number in line.split("\t")[1].split()]


@cache
def lexicon() -> Lexicon:
    """Return the lexicon that comes with clipcls, read when it is first asked for."""
    return Lexicon(lzma.decompress(FILE.read_bytes()).decode())


def digest() -> str:
    """Return what tells this lexicon from that of another version."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()


def read_words(path: Path, notes: list[str] | None = None) -> tuple[str, ...]:
    """Read a user's own list, one word or phrase a line; blank lines and `#` lines do not count.

    Raises:
        OptionError: It cannot be read, or holds no words.
    """
    name, text = read_file(path, OptionError, notes)
    words = tuple(dict.fromkeys(line for _, line in content_lines(text, name)))
    if not words:
        raise OptionError(f"--unknown-words: {name} holds no words: write one per line")
    return words
