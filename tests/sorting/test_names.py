"""Names of folders and files that every system takes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.sorting.names import Names, folder_name, same_name_key

# What Windows refuses: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
DEVICES = {"con", "prn", "aux", "nul", "com1", "lpt9", "com¹"}
names = st.text(min_size=1, max_size=300) | st.sampled_from(["a.jpg", "A.JPG", "a.jpg", "ä.png"])


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("brick wall", "brick wall"),
        ("日本 🚀", "日本 🚀"),
        ("cat/dog", "cat_dog"),
        ("a\\b:c*?", "a_b_c__"),
        ("..", "__"),
        (".hidden", "_hidden"),
        ("St.", "St_"),
        (" x ", "_x_"),
        ("", "_"),
        ("CON", "_CON"),
        ("nul .txt", "_nul .txt"),
        ("console", "console"),
        ("a\nb\x00", "a_b_"),
        ("e\u0301", "\u00e9"),
        ("\ud800", "_"),
    ],
)
def test_a_label_becomes_the_name_of_one_folder(label: str, folder: str) -> None:
    assert folder_name(label) == folder


@given(st.text(st.characters(), max_size=400) | st.sampled_from(sorted(DEVICES)))
def test_every_label_has_a_name_that_is_safe_everywhere(label: str) -> None:
    name = folder_name(label)
    assert 0 < len(name.encode("utf-8")) <= 255
    assert not set(name) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in name)
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert name.partition(".")[0].lower() not in DEVICES


@given(st.lists(names, max_size=20), st.lists(names, max_size=20), st.booleans())
def test_no_two_names_are_one_on_any_file_system(
    there: list[str], wished: list[str], extension: bool
) -> None:
    free = Names(there)
    given_names = [free.take(name, extension=extension) for name in wished]
    keys = [same_name_key(name) for name in given_names]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {same_name_key(name) for name in there}
    for wish, name in zip(wished, given_names, strict=True):
        assert name == wish or len(name.encode()) <= 255


def test_the_number_stands_before_the_extension_and_the_search_is_not_repeated() -> None:
    free = Names(["cat.jpg", "CAT-2.JPG"])
    assert [free.take("cat.jpg") for _ in range(3)] == ["cat-3.jpg", "cat-4.jpg", "cat-5.jpg"]
    assert free.take("St. Mary", extension=False) == "St. Mary"
    assert free.take("St. Mary", extension=False) == "St. Mary-2"
    long = "x" * 300 + ".jpg"
    assert free.take(long) == long  # it is the system that says whether it takes that
    assert len(free.take(long)) == 255
    many = Names()
    assert [many.take("i.jpg") for _ in range(20_000)][-1] == "i-20000.jpg"
