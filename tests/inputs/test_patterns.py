import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from natsort import natsorted

from clipcls.errors import InputError
from clipcls.inputs.patterns import name_order
from clipcls.inputs.walk import (
    DUPLICATE,
    EXCLUDED,
)

from .discovering import discover, paths, refuse_listing

Tree = Callable[..., None]


def test_patterns_match_in_natural_order(tree: Tree) -> None:
    tree("d/img10.jpg", "d/img2.jpg", "d/other.png")
    assert paths(discover(["d/*.jpg"])) == ["d/img2.jpg", "d/img10.jpg"]


def test_double_star_takes_folders_in_natural_order(tree: Tree) -> None:
    expected = [f"d/{number}/a.jpg" for number in range(1, 30)]
    tree(*reversed(expected))
    assert paths(discover(["d/**/*.jpg"])) == expected


def test_double_star_goes_through_folders_with_wildcards_in_their_names(tree: Tree) -> None:
    tree("d/[x]/a.jpg", "d/x/b.jpg")
    assert paths(discover(["d/**/*.jpg"])) == ["d/[x]/a.jpg", "d/x/b.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("d/**/*.jpg", ["d/a.jpg", "d/x/b.jpg", "d/x/y/c.jpg"]),
        ("**/*.jpg", ["d/a.jpg", "d/x/b.jpg", "d/x/y/c.jpg"]),
        ("d/**", ["d/a.jpg", "d/x/b.jpg", "d/x/y/c.jpg"]),
        ("d/**/*", ["d/a.jpg", "d/x/b.jpg", "d/x/y/c.jpg"]),
        ("d/**/y/*.jpg", ["d/x/y/c.jpg"]),
        ("d/**/x/**/*.jpg", ["d/x/b.jpg", "d/x/y/c.jpg"]),
        ("**/y", ["d/x/y/c.jpg"]),
        ("d/*", ["d/a.jpg", "d/x/b.jpg", "d/x/y/c.jpg"]),
        ("d/[ab].jpg", ["d/a.jpg"]),
        ("?/a.jpg", ["d/a.jpg"]),
    ],
)
def test_pattern_kinds(tree: Tree, pattern: str, expected: list[str]) -> None:
    tree("d/a.jpg", "d/x/b.jpg", "d/x/y/c.jpg", "d/x/.hidden/no.jpg")
    discovery = discover([pattern])
    assert paths(discovery) == expected
    assert not discovery.skipped[DUPLICATE]


def test_double_star_ends_in_link_loops(tree: Tree) -> None:
    tree("d/x/a.jpg")
    os.symlink("..", "d/x/up")
    os.symlink("..", "d/x/up2")
    for pattern in ("d/**/*.jpg", "d/**"):
        found = discover([pattern])
        assert paths(found) == ["d/x/a.jpg"]
        assert found.skipped == Counter({DUPLICATE: 2})


def test_a_file_of_that_very_name_beats_the_pattern(tree: Tree) -> None:
    tree("a[1].jpg", "a1.jpg")
    assert paths(discover(["a[1].jpg"])) == ["a[1].jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("./d/*.jpg", ["./d/a.jpg"]),
        ("d//*.jpg", ["d//a.jpg"]),
        ("d/./*.jpg", ["d/./a.jpg"]),
        ("d/x/../*.jpg", ["d/x/../a.jpg"]),
        ("d/*/", ["d/x/b.jpg", "d/x/y/c.jpg"]),
        ("d/[!a]*", ["d/x/b.jpg", "d/x/y/c.jpg", "d/z.txt"]),
        ("d/*/b.jpg", ["d/x/b.jpg"]),
        ("d/*/*/*", ["d/x/y/c.jpg", "d/x/y/k.txt"]),
        ("d/**/.h/*.jpg", ["d/x/.h/e.jpg"]),
        ("d/x/.*/*.jpg", ["d/x/.h/e.jpg"]),
        ("d/**/z.*", ["d/z.txt"]),
        ("[d]/**/b.jpg", ["d/x/b.jpg"]),
    ],
)
def test_a_pattern_means_what_it_does_in_a_shell(
    tree: Tree, pattern: str, expected: list[str]
) -> None:
    tree("d/a.jpg", "d/x/b.jpg", "d/x/y/c.jpg", "d/x/y/k.txt", "d/x/.h/e.jpg", "d/z.txt")
    assert paths(discover([pattern])) == expected


@pytest.mark.skipif(os.sep == "\\", reason="a backslash separates folders here")
def test_a_backslash_is_a_letter(tree: Tree) -> None:
    tree("we\\ird/a\\b1.jpg", "we\\ird/ab1.jpg")
    assert paths(discover(["we\\ird/a\\b*.jpg"])) == ["we\\ird/a\\b1.jpg"]
    assert paths(discover(["*"], exclude=["a\\b*"])) == ["we\\ird/ab1.jpg"]


@pytest.mark.parametrize(
    "pattern", ["nul\0/*.jpg", "d/\0*", "d/[", "[z-a]", "a.jpg/*", "x" * 300 + "*/*"]
)
def test_a_pattern_that_matches_nothing_is_refused_in_one_line(tree: Tree, pattern: str) -> None:
    tree("d/a.jpg", "a.jpg")
    with pytest.raises(InputError, match="no file matches the pattern") as caught:
        discover([pattern])
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


def test_linked_folders_are_followed_by_patterns(tree: Tree) -> None:
    tree("d/a.jpg", "elsewhere/b.jpg")
    os.symlink("../elsewhere", "d/link")
    assert paths(discover(["d/**/*.jpg"])) == ["d/a.jpg", "d/link/b.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("p/**/best/*.jpg", "p/x/best/a.jpg"),
        ("p/*/*/*.jpg", "p/x/best/a.jpg"),
        ("p/**/x/**/*.jpg", "p/x/best/a.jpg"),
        ("p/**/album/*.jpg", "p/album/a.jpg"),
        ("p/**/[w-y]/*/a*", "p/x/best/a.jpg"),
        ("p/**/a.jpg", "p/album/a.jpg"),
        ("p/link/*/*.jpg", "p/link/best/a.jpg"),
    ],
)
def test_a_link_is_followed_where_the_pattern_needs_it(
    tree: Tree, pattern: str, expected: str
) -> None:
    tree("p/album/a.jpg", "p/x/b.txt")
    os.symlink("../album", "p/x/best")
    os.symlink("x", "p/link")
    os.symlink("..", "p/x/up")
    found = paths(discover([pattern]))
    assert found[0] in (expected, expected.replace("p/x", "p/link"))
    assert len(found) == 1


def test_a_pattern_leaves_out_what_was_found_and_what_a_walk_leaves_out(tree: Tree) -> None:
    tree("d/a.jpg", "d/b.jpg", "d/@eaDir/b.jpg", "d/old/c.jpg")
    os.symlink("a.jpg", "d/c.jpg")
    found = discover(["d/b.jpg", "d/**/*.jpg"], exclude=["old"])
    assert paths(found) == ["d/b.jpg", "d/a.jpg"]
    assert found.skipped_paths == [
        ("d/@eaDir", "system folder"),
        ("d/b.jpg", DUPLICATE),
        ("d/c.jpg", DUPLICATE),
        ("d/old", EXCLUDED),
    ]


def test_unreadable_folders_on_the_way_of_a_pattern_are_counted(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("d/a.jpg", "d/locked/b.jpg")
    refuse_listing(monkeypatch, "d/locked", OSError(5, "Input/output error"))
    found = discover(["d/**/*.jpg"])
    assert paths(found) == ["d/a.jpg"]
    assert found.skipped == Counter({"unreadable folder: input/output error": 1})
    with pytest.raises(InputError, match=r"no file .*: 1 skipped \(1 unreadable folder"):
        discover(["d/**/b*.jpg"])


def test_no_recursive_stays_on_the_first_level_of_what_a_pattern_means(tree: Tree) -> None:
    tree("d/x/b.jpg", "d/x/y/c.jpg")
    assert paths(discover(["d/*"], recursive=False)) == ["d/x/b.jpg"]
    assert paths(discover(["d/**"], recursive=False)) == ["d/x/b.jpg", "d/x/y/c.jpg"]


def test_deep_folders_are_no_depth_of_calls(tree: Tree) -> None:
    folder = "/".join("d" * 150)
    tree(f"{folder}/a.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert paths(discover(["d/**/*.jpg"])) == [f"{folder}/a.jpg"]
    finally:
        sys.setrecursionlimit(limit)


# ---- what is excluded


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (["x"], ["a.jpg", "b.png"]),
        (["x/"], ["a.jpg", "b.png"]),
        (["./x"], ["a.jpg", "b.png"]),
        (["*.png", "y"], ["a.jpg", "x/a.jpg"]),
        (["x/*.jpg"], ["a.jpg", "b.png", "x/y/c.jpg"]),
        (["x/**/*.jpg"], ["a.jpg", "b.png"]),
        (["**/y"], ["a.jpg", "b.png", "x/a.jpg"]),
        (["[ab].*"], ["x/y/c.jpg"]),
        (["d"], ["a.jpg", "b.png", "x/a.jpg", "x/y/c.jpg"]),
        ([""], ["a.jpg", "b.png", "x/a.jpg", "x/y/c.jpg"]),
    ],
)
def test_exclusions_are_for_names_and_for_paths_below_the_folder(
    tree: Tree, exclude: list[str], expected: list[str]
) -> None:
    tree("d/a.jpg", "d/b.png", "d/x/a.jpg", "d/x/y/c.jpg")
    assert paths(discover(["d"], exclude=exclude)) == [f"d/{path}" for path in expected]


def test_what_is_excluded_is_counted_and_not_entered(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("d/a.jpg", "d/old/b.jpg", "d/old/c.jpg", "d/.old/d.jpg", "d/e.txt")
    refuse_listing(monkeypatch, "d/old", AssertionError("it was entered"))
    found = discover(["d"], exclude=["*old", "*.txt"])
    assert paths(found) == ["d/a.jpg"]
    assert found.skipped == Counter({EXCLUDED: 3})


def test_a_folder_is_walked_though_a_link_led_to_a_part_of_it(tree: Tree) -> None:
    tree("d/z/raw/a.jpg", "d/z/b.jpg")
    os.symlink("z", "d/link")
    found = discover(["d"], exclude=["link/raw"])
    assert paths(found) == ["d/link/b.jpg", "d/z/raw/a.jpg"]
    assert found.skipped == Counter({EXCLUDED: 1, DUPLICATE: 1})


def test_what_is_named_is_not_excluded(tree: Tree) -> None:
    tree("old/a.jpg", "b.jpg", "c.jpg")
    found = discover(["old", "b.jpg", "-"], exclude=["old", "*b.jpg", "c*"], stdin=b"c.jpg\n")
    assert paths(found) == ["old/a.jpg", "b.jpg", "c.jpg"]
    assert not found.skipped


@given(st.lists(st.text(st.sampled_from("aBé0012_.- "), max_size=8)))
def test_the_order_of_names_is_natsorts(names: list[str]) -> None:
    assert sorted(names, key=name_order) == natsorted(sorted(names))
