"""Step 2: the texts that the text tower learns from, and the sentence teacher's vectors of them.

    python -m training.mini.texts WORK --wordnet DIR --minilm DIR

Writes under `WORK/texts`: `nodes.json` (WordNet over ImageNet's classes), `corpus.json` with
`corpus.npy` (short texts of all kinds) and `pairs.json` with `pairs.npy` (texts two by two that
differ in one thing, which is what a question with two labels asks). Captions are taken from the
features of `flickr8k-train`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from training.mini.files import finished, load_json, save_array, save_json
from training.mini.teachers import MiniLm, SentenceTeacher
from training.mini.wordnet import WORDS, Synset, class_nodes, read_counts, read_synsets

THINGS = frozenset([4, 5, 6, 8, 11, 13, 14, 15, 17, 18, 19, 20, 25, 27])
"""Lexicographer files of nouns that can be seen: acts, animals, artifacts, food and so on."""

CAPTIONED = "flickr8k-train"


@dataclass(frozen=True)
class Amounts:
    """How many of each kind are drawn; equal texts are then kept once."""

    templates: int = 170_000
    compositions: int = 150_000
    glosses: int = 90_000
    bearers: int = 14_000
    opposites: int = 12_000
    unrelated: int = 8_000


class Words:
    """WordNet's words, drawn the more often the commoner they are."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.draw = random.Random(seed)
        self.nouns, self.verbs, self.adjectives = (
            list(read_synsets(folder, part)) for part in ("noun", "verb", "adj")
        )
        counts = read_counts(folder)
        self.names: dict[str, float] = {}
        self.things: dict[str, float] = {}
        for noun in self.nouns:
            seen = noun.field in THINGS
            for name in (name.lower() for name in noun.names):
                met = counts[name, "1"]
                weight = (1 + min(met, 60) / 6) * (2 if seen else 1)
                self.names[name] = self.names.get(name, 0) + weight
                if seen:
                    self.things[name] = 1 + min(met, 40)
        self.actions = self._weighed(self.verbs, counts, "2")
        self.qualities = self._weighed(self.adjectives, counts, "35")

    @staticmethod
    def _weighed(
        synsets: Sequence[Synset], counts: dict[tuple[str, str], int], parts: str
    ) -> dict[str, float]:
        names = {name.lower() for synset in synsets for name in synset.names}
        return {
            name: 1.0 + min(sum(counts.get((name, part), 0) for part in parts), 60)
            for name in sorted(names)
        }

    def some(self, weighed: dict[str, float], count: int) -> list[str]:
        """Draw words with repetition."""
        return self.draw.choices(list(weighed), list(weighed.values()), k=count)

    def antonyms(self) -> list[tuple[str, str]]:
        """Return adjectives that mean the opposite of each other."""
        first = {synset.offset: synset.names[0].lower() for synset in self.adjectives}
        pairs = {
            (min(a, b), max(a, b))
            for synset in self.adjectives
            for symbol, offset, pos in synset.pointers
            if symbol == "!" and pos == "a" and offset in first
            for a, b in [(synset.names[0].lower(), first[offset])]
            if a != b
        }
        return sorted(pairs)


def filled(template: str, text: str) -> str:
    """Put a text into a template's slot."""
    return template.replace("<>", text)


def doing(verb: str) -> str:
    """Return the -ing form of a verb, whose particle stays: `sit down` -> `sitting down`."""
    stem, space, rest = verb.partition(" ")
    if stem.endswith("ie"):
        stem = f"{stem[:-2]}y"
    elif stem.endswith("e") and not stem.endswith("ee"):
        stem = stem[:-1]
    elif re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", stem):
        stem += stem[-1]
    return f"{stem}ing{space}{rest}"


def compositions(words: Words, count: int) -> list[str]:
    """Return phrases of several words: two things, somebody doing something, qualities."""
    draw, phrases = words.draw, []
    things = iter(words.some(words.things, 2 * count))
    qualities, actions = words.some(words.qualities, count), words.some(words.actions, count)
    for quality, action, a, b in zip(qualities, actions, things, things, strict=False):
        actor, place = draw.choice(WORDS["actors"]), draw.choice(WORDS["prepositions"])
        forms = {
            f"{quality} {a}": 25,
            f"a {a} {place} a {b}": 20,
            f"{actor} {doing(action)} a {a}": 15,
            f"{actor} {doing(action)}": 8,
            f"{actor} wearing {draw.choice(['a', f'a {quality}', 'no'])} {a}": 8,
            f"{a} {b}": 8,
            f"a photo of a {quality} {a} {place} a {b}": 8,
            f"{quality} {a} and {b}": 8,
        }
        phrases += draw.choices(list(forms), list(forms.values()))
    return phrases


def corpus(words: Words, captions: Sequence[str], amounts: Amounts) -> list[str]:
    """Return the short texts: names, in templates, composed; definitions; captions."""
    glosses = [
        noun.gloss
        for noun in words.nouns
        if noun.gloss and (noun.field in THINGS or words.draw.random() < 0.3)
    ]
    templated = [
        filled(words.draw.choice(WORDS["templates"]), name)
        for name in words.some(words.names, amounts.templates)
    ]
    texts = {
        *words.names,
        *words.actions,
        *words.qualities,
        *templated,
        *compositions(words, amounts.compositions),
        *words.draw.sample(glosses, min(amounts.glosses, len(glosses))),
        *captions,
    }
    kept = sorted(text for text in texts if 0 < len(text) < 200)
    words.draw.shuffle(kept)
    return kept


def with_and_without(words: Words, count: int) -> list[tuple[str, str]]:
    """Return pairs in which something is there or not."""
    draw, pairs = words.draw, []
    for other in words.some(words.things, count):
        thing = draw.choice(WORDS["things"]) if draw.random() < 0.6 else other
        bare = re.sub("^an? ", "", thing)
        bearer, template = draw.choice(WORDS["bearers"]), draw.choice(WORDS["pair_templates"])
        absent = draw.choice([f"without {thing}", f"with no {bare}"])
        present = draw.choice([f"{bearer} with {thing}", f"{bearer} wearing {thing}"])
        denied = draw.choice([f"no-{bare}", f"no {bare}", f"not {bare}"])
        forms = {
            (
                filled(template, f"{bearer} with {thing}"),
                filled(template, f"{bearer} {absent}"),
            ): 25,
            (bare, f"no {bare}"): 15,
            (filled(template, bare), filled(template, denied)): 15,
            (
                filled(template, f"{bearer} wearing {thing}"),
                filled(template, f"{bearer} not wearing {thing}"),
            ): 15,
            (filled(template, present), filled(template, bearer)): 30,
        }
        pairs += draw.choices(list(forms), list(forms.values()))
    return pairs


def text_pairs(words: Words, amounts: Amounts) -> list[tuple[str, str]]:
    """Return pairs of texts that differ in one thing, each once, shuffled."""
    draw = words.draw
    pairs = with_and_without(words, amounts.bearers)
    opposites, antonyms = [tuple(pair) for pair in WORDS["opposites"]], words.antonyms()
    for other in words.some(words.things, amounts.opposites):
        a, b = draw.choice(opposites if draw.random() < 0.6 or not antonyms else antonyms)
        noun = draw.choice(WORDS["bearers"]) if draw.random() < 0.5 else other
        template = draw.choice(WORDS["pair_templates"])
        named = (filled(template, f"{a} {noun}"), filled(template, f"{b} {noun}"))
        pairs.append(named if draw.random() < 0.8 else (a, b))
    things = iter(words.some(words.things, 2 * amounts.unrelated))
    for a, b in zip(things, things, strict=True):
        template = draw.choice(WORDS["pair_templates"])
        pairs.append((filled(template, a), filled(template, b)))
    kept = sorted({pair for pair in pairs if pair[0] != pair[1]})
    draw.shuffle(kept)
    return kept


def embed(path: Path, texts: Sequence[str], teacher: SentenceTeacher) -> None:
    """Write texts (`path`, JSON) and their vectors (.npy beside it)."""
    save_array(path.with_suffix(".npy"), teacher(texts).astype(np.float16))
    save_json(path, list(texts))


def make_texts(
    work: Path,
    wordnet: Path,
    classes: Sequence[tuple[str, str]],
    teacher: SentenceTeacher,
    amounts: Amounts | None = None,
) -> None:
    """Write what the module says.

    Args:
        work: The work folder.
        wordnet: WordNet's `dict` folder.
        classes: (wnid, common name) of each class of the image teacher.
        teacher: The sentence encoder.
        amounts: How many texts.
    """
    folder, amounts = work / "texts", amounts or Amounts()
    outputs = [folder / f"{name}.json" for name in ("nodes", "corpus", "pairs")]
    if finished(*outputs):
        return
    words = Words(wordnet)
    nodes = class_nodes(words.nouns, [wnid for wnid, _ in classes], [name for _, name in classes])
    said = load_json(work / "features" / f"{CAPTIONED}.json")
    captions = [caption for texts in said for caption in texts["captions"]]
    save_json(outputs[0], [node.as_json() for node in nodes])
    embed(outputs[1], corpus(words, captions, amounts), teacher)
    embed(outputs[2], [t for pair in text_pairs(words, amounts) for t in pair], teacher)


def main(work: Path, wordnet: Path, minilm: Path) -> None:
    """Make the texts for ImageNet's classes."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    wnids: list[str] = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    make_texts(work, wordnet, list(zip(wnids, IMAGENET_CLASSNAMES, strict=True)), MiniLm(minilm))


if __name__ == "__main__":
    typer.run(main)
