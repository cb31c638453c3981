import inspect
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clipcls.errors import InputError
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.walk import (
    DUPLICATE,
    HIDDEN,
    MOST_SKIPPED_PATHS,
    NOT_AN_IMAGE,
    UNREADABLE,
    Discovery,
    PathStream,
)
from clipcls.options import DiscoveryOptions

from .discovering import by_name, discover, paths, refuse_listing, stream

Tree = Callable[..., None]


# ---- order and paths


def test_inputs_come_in_the_order_given_and_folders_in_natural_order(tree: Tree) -> None:
    tree("z.jpg", "d/img10.jpg", "d/img2.jpg", "d/img1.jpg", "a.jpg")
    assert paths(discover(["z.jpg", "d", "a.jpg"])) == [
        "z.jpg",
        "d/img1.jpg",
        "d/img2.jpg",
        "d/img10.jpg",
        "a.jpg",
    ]


def test_index_counts_from_zero_without_gaps(tree: Tree) -> None:
    tree("d/a.jpg", "d/b.txt", "d/c.jpg")
    assert list(discover(["d"])) == [ImageRef(0, "d/a.jpg"), ImageRef(1, "d/c.jpg")]


def test_subfolders_are_searched_where_their_name_stands(tree: Tree) -> None:
    tree("d/a.jpg", "d/b/x.jpg", "d/b/deep/y.jpg", "d/c.jpg")
    assert paths(discover(["d"])) == ["d/a.jpg", "d/b/deep/y.jpg", "d/b/x.jpg", "d/c.jpg"]


def test_names_equal_in_natural_order_have_a_fixed_order(tree: Tree) -> None:
    tree("d/1.jpg", "d/01.jpg", "d/001.jpg")
    assert paths(discover(["d"])) == ["d/001.jpg", "d/01.jpg", "d/1.jpg"]


@pytest.mark.parametrize(("folder", "expected"), [("./d", "./d/a.jpg"), ("d/", "d/a.jpg")])
def test_paths_are_printed_as_given(tree: Tree, folder: str, expected: str) -> None:
    tree("d/a.jpg")
    assert paths(discover([folder])) == [expected]


def test_no_recursive_stays_on_the_first_level(tree: Tree) -> None:
    tree("d/a.jpg", "d/sub/b.jpg")
    assert paths(discover(["d"], recursive=False)) == ["d/a.jpg"]


@pytest.mark.parametrize("name", ["ein Bild.jpg", "Übung 🦊.jpg", "new\nline.jpg", "#[1]*?.jpg"])
def test_unusual_names_survive(tree: Tree, name: str) -> None:
    tree(f"d/{name}")
    assert paths(discover(["d"])) == [f"d/{name}"]
    assert paths(discover([f"d/{name}"])) == [f"d/{name}"]


def test_names_that_are_not_utf8_survive(tree: Tree) -> None:
    name = os.fsdecode(b"d/caf\xe9.jpg")
    try:
        tree(name)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert paths(discover(["d"])) == [name]
    assert paths(discover(["-"], stdin=b"d/caf\xe9.jpg\n")) == [name]


def test_depth_is_not_bounded_by_the_recursion_limit(tree: Tree) -> None:
    folder = "/".join("d" * 150)
    tree(f"{folder}/a.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert paths(discover(["d"])) == [f"{folder}/a.jpg"]
    finally:
        sys.setrecursionlimit(limit)


# ---- what is skipped


def test_hidden_and_foreign_files_in_folders_are_skipped_and_counted(tree: Tree) -> None:
    tree("d/a.jpg", "d/.b.jpg", "d/.cache/c.jpg", "d/notes.txt", "d/data.bin")
    discovery = discover(["d"])
    assert paths(discovery) == ["d/a.jpg"]
    assert discovery.skipped == Counter({HIDDEN: 2, NOT_AN_IMAGE: 2})


@pytest.mark.parametrize("inputs", [[".b.jpg", "notes.txt"], ["@list"], ["-"], ["*.txt", ".b*"]])
def test_named_files_are_never_skipped(tree: Tree, inputs: list[str]) -> None:
    tree(".b.jpg", "notes.txt")
    Path("list").write_text(".b.jpg\nnotes.txt\n")
    discovery = discover(inputs, stdin=b".b.jpg\nnotes.txt\n")
    assert sorted(paths(discovery)) == [".b.jpg", "notes.txt"]
    assert not discovery.skipped


def test_a_hidden_folder_that_is_named_is_searched(tree: Tree) -> None:
    tree(".thumbs/a.jpg")
    assert paths(discover([".thumbs"])) == [".thumbs/a.jpg"]


def test_a_walk_leaves_out_what_was_found_and_a_name_never(tree: Tree) -> None:
    tree("d/a.jpg", "d/b.jpg")
    os.symlink("d/b.jpg", "link.jpg")
    discovery = discover(["d/b.jpg", "d", "./d/../d/a.jpg", "link.jpg"])
    assert paths(discovery) == ["d/b.jpg", "d/a.jpg", "./d/../d/a.jpg", "link.jpg"]
    assert discovery.skipped == Counter({DUPLICATE: 1})
    assert discovery.skipped_paths == [("d/b.jpg", DUPLICATE)]


def test_a_folder_named_twice_counts_each_of_its_files(tree: Tree) -> None:
    tree("d/a.jpg", "d/sub/b.jpg")
    discovery = discover(["d", "d"])
    assert paths(discovery) == ["d/a.jpg", "d/sub/b.jpg"]
    assert discovery.skipped == Counter({DUPLICATE: 2})


def test_a_link_inside_a_folder_is_the_file_it_leads_to(tree: Tree) -> None:
    tree("d/a.jpg")
    os.symlink("a.jpg", "d/b.jpg")
    discovery = discover(["d"])
    assert paths(discovery) == ["d/a.jpg"]
    assert discovery.skipped == Counter({DUPLICATE: 1})


def test_unreadable_subfolders_are_counted(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree("d/a.jpg", "d/locked/b.jpg", "d/z.jpg")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path == "d/locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    discovery = discover(["d"])
    assert paths(discovery) == ["d/a.jpg", "d/z.jpg"]
    assert discovery.skipped == Counter({f"{UNREADABLE} folder: permission denied": 1})


def test_a_broken_link_with_a_picture_name_is_not_lost(tree: Tree) -> None:
    tree("d/a.jpg")
    os.symlink("nowhere.jpg", "d/b.jpg")
    assert paths(discover(["d"])) == ["d/a.jpg", "d/b.jpg"]


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", ".thumbnails",
     ".Trash-1000", ".Trashes", "lost+found"],
)  # fmt: skip
def test_folders_of_the_system_are_left_out_unless_they_are_named(tree: Tree, name: str) -> None:
    tree("d/a.jpg", f"d/{name}/b.jpg", f"d/x/{name.lower()}/c.jpg")
    found = discover(["d"])
    assert paths(found) == ["d/a.jpg"]
    assert found.skipped == Counter({"system folder": 2})
    assert found.skipped_paths[0] == (f"d/{name}", "system folder")
    assert paths(discover([f"d/{name}"])) == [f"d/{name}/b.jpg"]


def test_files_of_the_system_are_left_out_unopened(tree: Tree) -> None:
    tree("d/a.jpg", "d/Thumbs.db", "d/desktop.ini", "d/._a.jpg")
    found = Discovery(["d"], DiscoveryOptions(), is_image=["d/a.jpg"].index)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        paths(found)
    assert found.skipped == Counter({"system file": 2, HIDDEN: 1, NOT_AN_IMAGE: 1})


def test_the_first_hundred_that_are_skipped_are_named(tree: Tree) -> None:
    tree(*(f"d/{number}.txt" for number in range(150)), "d/z.jpg")
    found = discover(["d"])
    assert paths(found) == ["d/z.jpg"]
    assert found.skipped == Counter({NOT_AN_IMAGE: 150})
    assert found.skipped_paths == [(f"d/{n}.txt", NOT_AN_IMAGE) for n in range(MOST_SKIPPED_PATHS)]


@pytest.mark.parametrize("how", ["arguments", "list", "stdin", "stream"])
def test_every_name_has_its_row_however_often_and_by_whatever_way(tree: Tree, how: str) -> None:
    tree("d/a.jpg", "d/b.jpg")
    os.symlink("d/a.jpg", "link.jpg")
    os.link("d/a.jpg", "hard.jpg")
    names = ["d/a.jpg", "./d/a.jpg", "link.jpg", "d/a.jpg", "hard.jpg", "link.jpg"]
    Path("list").write_text("\n".join(names))
    if how == "stream":
        found: Discovery | PathStream = stream([*names, "d"])
    else:
        inputs = {"arguments": names, "list": ["@list"], "stdin": ["-"]}[how]
        found = discover([*inputs, "d"], stdin=Path("list").read_bytes())
    assert paths(found) == [*names, "d/b.jpg"]
    assert found.skipped_paths == [("d/a.jpg", DUPLICATE)]


# ---- links


def test_link_loops_end(tree: Tree) -> None:
    tree("d/a.jpg", "d/sub/b.jpg")
    os.symlink("..", "d/sub/up")
    os.symlink(".", "d/self")
    assert paths(discover(["d"])) == ["d/a.jpg", "d/sub/b.jpg"]


@pytest.mark.parametrize("link", ["a-first", "z-last"])
def test_a_link_upwards_names_no_file_of_the_folder_that_is_walked(tree: Tree, link: str) -> None:
    tree("x/d/m.jpg", "x/d/sub/n.jpg", "x/other.jpg")
    os.symlink("..", f"x/d/{link}")
    found = paths(discover(["x/d"]))
    assert set(found) == {f"x/d/{link}/other.jpg", "x/d/m.jpg", "x/d/sub/n.jpg"}


def test_linked_folders_are_followed(tree: Tree) -> None:
    tree("d/a.jpg", "elsewhere/b.jpg")
    os.symlink("../elsewhere", "d/link")
    assert paths(discover(["d"])) == ["d/a.jpg", "d/link/b.jpg"]


def test_folders_full_of_links_to_each_other_are_not_walked_per_combination(tree: Tree) -> None:
    for level in range(40):
        tree(f"d/{level}/{level}.jpg")
        os.symlink(f"../{level + 1}", f"d/{level}/left")
        os.symlink(f"../{level + 1}", f"d/{level}/right")
    assert len(paths(discover(["d"]))) == 40


# ---- errors


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "no images given"),
        ([""], "an input is empty"),
        (["a.jpg", "gone.jpg"], "no such file or folder: gone.jpg"),
        (["a.jpg/x.jpg"], "no such file or folder: a.jpg/x.jpg"),
        (["dangling.jpg"], "a link to nothing: dangling.jpg"),
        (["a.jpg", "*.webp"], r"no file matches the pattern \*.webp"),
        (["gone/**/*.jpg"], r"no file matches the pattern gone/\*\*/\*.jpg"),
        (["@gone.txt"], r"no such list: gone.txt .* given as ./@gone.txt"),
        (["@"], "its name is missing"),
        (["@d"], "@d is a folder, not a list: leave out the @"),
        (["-", "-"], "given twice"),
        (["gopher://u:pw@h/a.jpg"], "gopher://h/a.jpg cannot be read"),
        (["nul\0.jpg"], "cannot be used as a path"),
        (["new\nline.jpg"], r"no such file or folder: new\\nline.jpg"),
    ],
)
def test_inputs_that_lead_nowhere_are_refused_at_once(
    tree: Tree, inputs: list[str], message: str
) -> None:
    tree("a.jpg", "d/b.jpg")
    os.symlink("nowhere", "dangling.jpg")
    with pytest.raises(InputError, match=message):
        discover(inputs)


def test_web_addresses_are_images_that_keep_their_secrets_to_themselves(tree: Tree) -> None:
    tree("a.jpg")
    url = "https://user:pw@example.org/b[1].jpg?token=abc&page=1"
    Path("list.txt").write_text(f"{url}\n", encoding="utf-8")
    refs = list(discover([url, "a.jpg", "@list.txt", "-"], stdin=url.encode()))
    shown = "https://example.org/b[1].jpg?token=***&page=1"
    assert [ref.path for ref in refs] == [shown, "a.jpg", shown, shown]
    assert [ref.source is None for ref in refs] == [False, True, False, False]
    assert "pw" not in repr(refs)


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(InputError, match="not the single text 'images'"):
        discover("images")


def test_an_unreadable_folder_that_is_named_is_refused(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("d/a.jpg")

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="permission denied: the folder d"):
        discover(["d"])


def test_nothing_found_says_what_was_there(tree: Tree) -> None:
    tree("d/a.txt", "d/b.txt", "d/.c.jpg")
    with pytest.raises(InputError) as caught:
        paths(discover(["./d"]))
    assert str(caught.value) == "no images in ./d: 3 skipped (2 not an image, 1 hidden)"


def test_nothing_found_in_an_empty_folder_or_list(tree: Tree) -> None:
    Path("d").mkdir()
    with pytest.raises(InputError, match="no images in d: nothing is there"):
        paths(discover(["d"]))
    with pytest.raises(InputError, match="no images in -: nothing is there"):
        paths(discover(["-"], stdin=b"\n"))


def test_nothing_found_on_the_first_level_points_to_the_flag(tree: Tree) -> None:
    tree("d/sub/a.jpg")
    with pytest.raises(InputError, match=r"1 subfolder not searched \(--no-recursive\)"):
        paths(discover(["d"], recursive=False))


def test_a_discovery_is_iterated_once(tree: Tree) -> None:
    tree("a.jpg")
    discovery = discover(["a.jpg"])
    assert paths(discovery) == ["a.jpg"]
    with pytest.raises(RuntimeError, match="only once"):
        paths(discovery)


def test_named_pipes_are_named_without_being_opened(tree: Tree) -> None:
    tree("d/a.jpg")
    os.mkfifo("d/b.jpg")
    assert stat.S_ISFIFO(os.stat("d/b.jpg").st_mode)
    assert paths(discover(["d", "d/b.jpg"])) == ["d/a.jpg", "d/b.jpg", "d/b.jpg"]


def test_links_that_lead_to_the_same_nothing_are_two_missing_pictures(tree: Tree) -> None:
    tree("d/c.jpg")
    os.symlink("/nonexistent", "d/a.jpg")
    os.symlink("/nonexistent", "d/b.jpg")
    os.symlink("e.jpg", "d/f.jpg")
    os.symlink("f.jpg", "d/e.jpg")
    found = discover(["d"])
    assert [os.path.basename(path) for path in paths(found)] == [
        "a.jpg", "b.jpg", "c.jpg", "e.jpg", "f.jpg",
    ]  # fmt: skip
    assert found.skipped == Counter()


# ---- paths from a program


def test_a_path_stream_takes_paths_as_a_list_does(tree: Tree) -> None:
    tree("d/a.jpg", "d/b.txt", "d/.c.jpg", "notes.txt", "z.jpg")
    found = stream(["z.jpg", "d", "gone.jpg", "notes.txt", "./d/a.jpg"])
    expected = ["z.jpg", "d/a.jpg", "gone.jpg", "notes.txt", "./d/a.jpg"]
    assert list(found) == [ImageRef(index, path) for index, path in enumerate(expected)]
    assert found.skipped == Counter({NOT_AN_IMAGE: 1, HIDDEN: 1})


@pytest.mark.parametrize(
    "path", ["*.jpg", "@list", "-", "", "https://example.org/a.jpg", "nul\0.jpg", "\ud800.jpg"]
)
def test_a_path_stream_takes_every_text_literally(tree: Tree, path: str) -> None:
    tree("a.jpg", "list")
    assert paths(stream([path, "a.jpg"])) == [path, "a.jpg"]


def test_a_path_stream_has_options(tree: Tree) -> None:
    tree("d/a.jpg", "d/sub/b.jpg")
    assert paths(stream(["d"], recursive=False)) == ["d/a.jpg"]


@pytest.mark.parametrize("given", [[], ["empty"]])
def test_a_path_stream_may_find_nothing(tree: Tree, given: list[str]) -> None:
    Path("empty").mkdir()
    assert paths(stream(given)) == []


def test_a_path_stream_takes_a_path_only_when_its_turn_comes(tree: Tree) -> None:
    tree("d/a.jpg", "d/b.jpg", "c.jpg")
    taken = []

    def given() -> Iterator[str]:
        for path in ("d", "c.jpg"):
            taken.append(path)
            yield path

    refs = iter(stream(given()))
    assert taken == []
    assert [next(refs).path, next(refs).path] == ["d/a.jpg", "d/b.jpg"]
    assert taken == ["d"]
    assert [ref.path for ref in refs] == ["c.jpg"]


def test_a_path_stream_is_iterated_once_and_takes_no_single_text() -> None:
    once = stream(["a.jpg"])
    assert paths(once) == ["a.jpg"]
    with pytest.raises(RuntimeError, match="a PathStream can be iterated only once"):
        paths(once)
    with pytest.raises(InputError, match="not the single text"):
        stream("a.jpg")


# ---- what cannot be looked at


NAMES = ["loop.jpg", "x" * 300 + ".jpg", "locked/a.jpg", "proc.jpg"]


def test_a_name_that_cannot_be_looked_at_has_its_row(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("a.jpg", "locked/a.jpg")
    os.symlink("loop.jpg", "loop.jpg")
    os.symlink("/proc/1/cwd/x/y", "proc.jpg")
    break_calls(monkeypatch, "locked/a.jpg", PermissionError(13, "Permission denied"))
    break_calls(monkeypatch, "proc.jpg", PermissionError(13, "Permission denied"))
    expected = ["a.jpg", *NAMES, "a.jpg"]
    listed = "\n".join(expected).encode()
    assert paths(discover(expected)) == expected
    assert paths(discover(["-"], stdin=listed)) == expected
    assert paths(stream(expected)) == expected


def break_calls(monkeypatch: pytest.MonkeyPatch, broken: str, error: OSError) -> None:
    """Let every look at a path fail, however it is done."""

    def breaking(call: Callable[..., object]) -> Callable[..., object]:
        def guarded(path: object, *args: object, **kwargs: object) -> object:
            if isinstance(path, str) and path.endswith(broken):
                raise error
            return call(path, *args, **kwargs)

        return guarded

    for name in ("stat", "lstat", "scandir", "readlink"):
        monkeypatch.setattr(os, name, breaking(getattr(os, name)))


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "Bad sector")]
)
@pytest.mark.parametrize("name", ["b.jpg", "b", "link.jpg", "link", "linked"])
def test_an_entry_that_cannot_be_looked_at_stays_in_its_place(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, name: str, error: OSError
) -> None:
    tree("d/a.jpg", "d/b.jpg", "d/b", "d/c.jpg", "e/x.jpg", "y.jpg")
    for link, target in (("link.jpg", "../y.jpg"), ("link", "../y.jpg"), ("linked", "../e")):
        os.symlink(target, f"d/{link}")
    every = ["d/a.jpg", "d/b.jpg", "d/c.jpg", "d/link.jpg", "d/linked/x.jpg"]
    assert paths(discover(["d"])) == every
    break_calls(monkeypatch, f"d/{name}", error)
    missing = {"linked": ["d/linked/x.jpg"]}.get(name, [])
    assert paths(discover(["d"])) == [path for path in every if path not in missing]
    assert paths(discover(["d/**/*.jpg"])) == [path for path in every if path not in missing]


def test_a_link_that_can_be_followed_but_not_read_is_an_image(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("d/a.jpg", "b.jpg")
    os.symlink("../b.jpg", "d/link.jpg")

    def refuse(path: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "readlink", refuse)
    assert paths(discover(["d"])) == ["d/a.jpg", "d/link.jpg"]
    assert paths(discover(["-"], stdin=b"d/link.jpg\n")) == ["d/link.jpg"]


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "Bad sector")]
)
def test_a_file_that_cannot_be_sniffed_is_skipped_with_the_reason(
    tree: Tree, error: OSError
) -> None:
    def sniff(path: str) -> bool:
        if path == "d/b":
            raise error
        return by_name(path)

    tree("d/a.jpg", "d/b", "d/c.jpg", "d/e.txt")
    found = Discovery(["d"], DiscoveryOptions(), is_image=sniff)
    assert paths(found) == ["d/a.jpg", "d/c.jpg"]
    reason = f"unreadable file: {str(error.strerror).lower()}"
    assert found.skipped_paths == [("d/b", reason), ("d/e.txt", NOT_AN_IMAGE)]
    assert found.skipped == Counter(reason for _, reason in found.skipped_paths)


def test_a_folder_in_a_list_that_cannot_be_listed_is_a_row(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("d/a.jpg", "b.jpg")
    refuse_listing(monkeypatch, "d", PermissionError(13, "Permission denied"))
    assert paths(discover(["-"], stdin=b"d\nb.jpg\n")) == ["d", "b.jpg"]


def test_an_image_is_read_through_its_ref(tree: Tree) -> None:
    Path("a.jpg").write_bytes(b"pixels")
    with ImageRef(0, "a.jpg").read() as file:
        assert file.read() == b"pixels"
    for path in ("gone.jpg", "nul\0.jpg", "\ud800.jpg", ".", "x" * 300):
        with pytest.raises(OSError, match=r"."):
            ImageRef(0, path).read()
