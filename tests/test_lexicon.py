"""The lexicon: nouns found in labels, and the common words that are related to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.errors import OptionError
from clipcls.lexicon import FILE, lexicon, read_words


@pytest.mark.parametrize(
    ("text", "nouns"),
    [
        ("cat", {"cat"}),
        ("Cats", {"cat"}),
        ("mice", {"mouse"}),
        ("women", {"woman"}),
        ("wild_horses", {"wild horse"}),
        ("school-buses", {"school bus"}),
        ("ice-cream_truck", {"ice cream", "truck"}),
        ("a person wearing glasses", {"person", "wearing", "glasses", "glass"}),
        ("a man's T-shirt", {"t shirt"}),
        ("no-glasses", {"glasses", "glass"}),
        ("an oak in the fog", {"oak", "fog"}),
        ("xyzzy plugh", set()),
        ("Schäferhund", set()),
        ("???", set()),
        ("", set()),
    ],
)
def test_nouns_are_found_as_people_write_labels(text: str, nouns: set[str]) -> None:
    assert lexicon().nouns(text) == nouns


@pytest.mark.parametrize("written", [str.upper, str.title, str.lower])
@pytest.mark.parametrize("blank", [" ", "_", "-"])
def test_every_common_word_is_found_however_it_is_written(
    written: Callable[[str], str], blank: str
) -> None:
    found = lexicon()
    assert not [
        word
        for word in found.words
        if word not in found.nouns(f" {written(word.replace(' ', blank))}!")
    ]


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    assert all(noun == noun.lower() for noun in lexicon().nouns(text))


@pytest.mark.parametrize(
    ("label", "synonym", "hyponym", "hypernym"),
    [
        ("car", "automobile", "ambulance", "vehicle"),
        ("birds", "bird", "owl", "animal"),
        ("shops", "store", "drugstore", "structure"),
        ("a man in a boat", "boat", "barge", "vessel"),
        ("a man in a boat", "man", "bachelor", "adult"),
    ],
)
def test_synonyms_hyponyms_and_hypernyms_are_related(
    label: str, synonym: str, hyponym: str, hypernym: str
) -> None:
    assert {synonym, hyponym, hypernym} <= lexicon().related([label]) <= set(lexicon().words)


def test_what_only_stands_beside_a_label_is_not_related() -> None:
    others = {"house", "tree", "water", "bicycle", "sheep"}
    assert others <= set(lexicon().words)
    assert not others & lexicon().related(["horse", "truck"])


def test_the_words_are_common_nouns_in_lower_case() -> None:
    words = lexicon().words
    assert 2_000 < len(words) < 5_000
    assert len(set(words)) == len(words)
    assert all(word == word.lower() and len(word.split()) <= 2 for word in words)
    assert {"tree", "house", "bread", "bicycle"} <= set(words)
    # Neither names nor what cannot be seen.
    assert not {"paris", "einstein", "freedom", "tuesday", "monday"} & set(words)


def test_the_licence_lies_beside_it() -> None:
    licence = FILE.with_name("LICENSE").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in licence


def test_an_own_list_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# what else there is\ntree\n\n  fire engine \ntree\n", encoding="utf-8")
    assert read_words(file) == ("tree", "fire engine")


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_an_own_list_without_words_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "words.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match="holds no words"):
        read_words(file)
