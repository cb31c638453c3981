import inspect
import io
import os
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipcls.errors import InputError
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.walk import (
    DUPLICATE,
    HIDDEN,
    NOT_AN_IMAGE,
    UNREADABLE,
    Discovery,
    PathStream,
)
from clipcls.options import DiscoveryOptions

Tree = Callable[..., None]


def by_name(path: str) -> bool:
    return path.endswith((".jpg", ".png"))


def discover(
    inputs: Sequence[str],
    *,
    recursive: bool = True,
    null: bool = False,
    stdin: bytes = b"",
) -> Discovery:
    options = DiscoveryOptions(recursive=recursive, null_separated=null)
    return Discovery(inputs, options, is_image=by_name, stdin=io.BytesIO(stdin))


def stream(given: Iterable[str], *, recursive: bool = True) -> PathStream:
    return PathStream(given, DiscoveryOptions(recursive=recursive), is_image=by_name)


def paths(discovery: Discovery | PathStream) -> list[str]:
    return [ref.path for ref in discovery]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Make files below a fresh current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


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


# ---- links


def test_link_loops_end(tree: Tree) -> None:
    tree("d/a.jpg", "d/sub/b.jpg")
    os.symlink("..", "d/sub/up")
    os.symlink(".", "d/self")
    assert paths(discover(["d"])) == ["d/a.jpg", "d/sub/b.jpg"]


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


# ---- patterns


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
    assert paths(discover(["d/**/*.jpg"])) == ["d/x/a.jpg"]


def test_a_file_of_that_very_name_beats_the_pattern(tree: Tree) -> None:
    tree("a[1].jpg", "a1.jpg")
    assert paths(discover(["a[1].jpg"])) == ["a[1].jpg"]


# ---- lists and standard input


@pytest.mark.parametrize(
    "text",
    [b"b.jpg\na.jpg\n", b"b.jpg\na.jpg", b"b.jpg\r\n\r\na.jpg\r\n", b"\xef\xbb\xbfb.jpg\n\na.jpg"],
)
def test_lists_of_lines(tree: Tree, text: bytes) -> None:
    tree("a.jpg", "b.jpg")
    Path("list.txt").write_bytes(text)
    assert paths(discover(["@list.txt"])) == ["b.jpg", "a.jpg"]
    assert paths(discover(["-"], stdin=text)) == ["b.jpg", "a.jpg"]


def test_lists_separated_by_nul_hold_any_name(tree: Tree) -> None:
    text = b"new\nline.jpg\0 spaces .jpg\0end\r\0"
    Path("list").write_bytes(text)
    expected = ["new\nline.jpg", " spaces .jpg", "end\r"]
    assert paths(discover(["@list"], null=True)) == expected
    assert paths(discover(["-"], null=True, stdin=text)) == expected


def test_missing_files_in_lists_are_yielded_to_become_failures(tree: Tree) -> None:
    tree("a.jpg")
    assert paths(discover(["-"], stdin=b"gone.jpg\na.jpg\n")) == ["gone.jpg", "a.jpg"]


def test_folders_in_lists_are_searched(tree: Tree) -> None:
    tree("d/a.jpg", "d/notes.txt")
    assert paths(discover(["-"], stdin=b"d\n")) == ["d/a.jpg"]


def test_paths_in_lists_are_literal(tree: Tree) -> None:
    stdin = b"*.jpg\n@list\n-\n"
    assert paths(discover(["-"], stdin=stdin)) == ["*.jpg", "@list", "-"]


def test_a_picture_whose_name_begins_with_at(tree: Tree) -> None:
    tree("@home.jpg")
    assert paths(discover(["./@home.jpg"])) == ["./@home.jpg"]


def test_standard_input_is_streamed() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin, os.fdopen(write_end, "wb", buffering=0) as writer:
        options = DiscoveryOptions()
        refs = iter(Discovery(["-"], options, is_image=by_name, stdin=stdin))
        got: list[str] = []
        for name in ("a.jpg", "b.jpg"):
            writer.write(f"{name}\n".encode())
            reader = threading.Thread(target=lambda: got.append(next(refs).path), daemon=True)
            reader.start()
            reader.join(timeout=10)
        assert got == ["a.jpg", "b.jpg"]


def test_a_pipe_that_does_not_block_is_read_to_its_end() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)

    def write_slowly() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as writer:
            for name in (b"a.jpg\n", b"b.jpg\n"):
                time.sleep(0.1)
                writer.write(name)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    with os.fdopen(read_end, "rb", buffering=0) as stdin:
        discovery = Discovery(["-"], DiscoveryOptions(), is_image=by_name, stdin=stdin)
        assert paths(discovery) == ["a.jpg", "b.jpg"]
    writer.join()


WAITING = """
import threading, time
from clipcls.inputs.walk import Discovery
from clipcls.options import DiscoveryOptions

refs = iter(Discovery(["-"], DiscoveryOptions(), is_image=bool))
print(next(refs).path, flush=True)
threading.Thread(target=next, args=(refs,), daemon=True).start()
time.sleep(0.3)
"""


def test_python_can_exit_while_a_thread_waits_for_standard_input() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write(b"a.jpg\n")
        process.stdin.flush()
        # Standard input stays open until the process has ended.
        code = process.wait(timeout=30)
        assert process.stdout is not None
        assert process.stderr is not None
        assert (code, process.stdout.read(), process.stderr.read()) == (0, b"a.jpg\n", b"")


def test_closed_standard_input_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stdin in (None, io.StringIO("a.jpg"), closed):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(InputError, match=r"standard input \(-\) is closed"):
            Discovery(["-"], DiscoveryOptions(), is_image=by_name)
    assert paths(discover(["-"], stdin=b"a.jpg\n")) == ["a.jpg"]


def test_streams_tells_whether_the_total_is_knowable(tree: Tree) -> None:
    tree("a.jpg", "list")
    assert discover(["a.jpg", "-"]).streams
    assert not discover(["a.jpg", "@list"]).streams
    os.mkfifo("pipe")
    assert discover(["@pipe"]).streams


@given(
    names=st.lists(
        st.binary(min_size=1, max_size=12).filter(
            lambda name: b"\0" not in name and b"/" not in name
        ),
        min_size=1,
        unique=True,
    ),
    chunk=st.integers(1, 9),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nul_lists_round_trip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[bytes], chunk: int
) -> None:
    monkeypatch.setattr("clipcls.inputs.lists._CHUNK_BYTES", chunk)
    listed = [b"missing/" + name for name in names if name not in (b".", b"..")] or [b"x"]
    found = paths(discover(["-"], null=True, stdin=b"\0".join([*listed, b""])))
    assert [os.fsencode(path) for path in found] == listed


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
        (["https://example.org/a.jpg"], "is a web address"),
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


def test_nul_separated_input_without_the_flag_names_the_flag() -> None:
    with pytest.raises(InputError, match="standard input, line 2: a NUL byte.*--null"):
        paths(discover(["-"], stdin=b"a.jpg\nb.jpg\0c.jpg\0"))


def test_a_list_without_separators_does_not_fill_the_memory() -> None:
    with pytest.raises(InputError, match="standard input holds no list of paths"):
        paths(discover(["-"], null=True, stdin=b"x" * (1 << 21)))


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
