"""Tar archives: which images are in them, in which order, and what cannot be had."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.errors import DecodeError, InputError
from clipcls.inputs import tar, tars, web
from clipcls.inputs.patterns import expanded
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.walk import Discovery
from clipcls.options import DiscoveryOptions, RemoteOptions
from tests.inputs.discovering import by_name, discover, paths, stream
from tests.inputs.web_server import Server, picture, serving

CORRUPT = "corrupt: damaged or incomplete tar archive"
COLOURS = ("red", "green", "blue")


def make_tar(path: Path | str, members: dict[str, bytes], mode: str = "w") -> bytes:
    """Make an archive with these members, in this order, and return its bytes."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return Path(path).read_bytes()


def shard() -> dict[str, bytes]:
    """Three images with what is known of them, in no natural order."""
    found = {}
    for i in (10, 2, 1):
        found[f"k{i}.jpg"] = picture(COLOURS[i % 3])
        found[f"k{i}.json"] = b"{}"
        found[f"k{i}.cls"] = b"1"
    return found


IN_SHARD = [f"k{i}.jpg" for i in (10, 2, 1)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def content(ref: ImageRef) -> bytes | str:
    """Return the bytes of an image, or why there are none."""
    try:
        with ref.read() as opened:
            return opened.read()
    except DecodeError as error:
        return str(error)


def found(inputs: Sequence[str], **changes: float) -> tuple[Discovery, dict[str, bytes | str]]:
    """Return what is found, and what is read of each image as soon as it is found."""
    remote = RemoteOptions(allow_private=True, retries=1, **changes)  # type: ignore[arg-type]
    discovery = Discovery(inputs, DiscoveryOptions(remote=remote), is_image=by_name)
    return discovery, {ref.path: content(ref) for ref in discovery}


def addresses(names: Sequence[str], archive: str) -> list[str]:
    return [f"tar://{name}::{archive}" for name in names]


@pytest.mark.parametrize(
    ("name", "mode"), [("s.tar", "w"), ("s.tar.gz", "w:gz"), ("s.tgz", "w:gz")]
)
def test_images_come_in_the_order_of_the_archive(name: str, mode: str) -> None:
    make_tar(name, shard(), mode)
    discovery, images = found([name])
    assert list(images) == addresses(IN_SHARD, name)
    assert list(images.values()) == [shard()[member] for member in IN_SHARD]
    # What has an image beside it belongs to it.
    assert discovery.skipped == {}
    assert discovery.streams == (mode != "w")


def test_an_archive_is_searched_wherever_it_is_named() -> None:
    make_tar("s.tar", shard())
    make_tar("t.tar", {"a.png": picture("red")})
    Path("list.txt").write_text("s.tar\ngone.tar\n", encoding="utf-8")
    both = [*addresses(IN_SHARD, "s.tar"), "tar://a.png::t.tar"]
    assert paths(discover(["s.tar", "t.tar"])) == both
    assert paths(discover(["{s,t}.tar"])) == both
    assert paths(discover(["*.tar"])) == both
    assert paths(discover(["@list.txt"])) == [*both[:3], "gone.tar"]
    assert paths(stream(["s.tar"])) == both[:3]
    # Once more is no more, as for a folder; what is named itself is an image each time.
    assert paths(discover(["s.tar", "s.tar"])) == both[:3]
    assert paths(discover([both[0], both[0]])) == [both[0]] * 2
    # Below a folder, an archive is no image.
    with pytest.raises(InputError, match=r"3 skipped \(3 not an image\)"):
        paths(discover(["."]))


def test_what_is_found_can_be_named() -> None:
    make_tar("s.tar", {"b/a.png": picture("red"), "c/x.png": picture("blue")})
    (Path("odd.data")).write_bytes(Path("s.tar").read_bytes())
    assert found(["tar://b/a.png::s.tar"])[1] == {"tar://b/a.png::s.tar": picture("red")}
    assert paths(discover(["tar://b::s.tar"])) == ["tar://b/a.png::s.tar"]
    assert paths(discover(["tar://odd.data"])) == addresses(["b/a.png", "c/x.png"], "odd.data")
    _, images = found(["tar://gone.png::s.tar", "tar://gone::s.tar", "tar://b::s.tar"])
    assert list(images.items())[:1] == [("tar://gone.png::s.tar", "file not found")]
    with pytest.raises(InputError, match="no such archive: gone.tar"):
        discover(["tar://gone.tar"])


def test_folders_in_an_archive_are_folders() -> None:
    names = ["./a.png", "b/a.png", ".hid/a.png", "._b.png", "c/thumb.png", "lone.json", "lone2.txt"]
    make_tar("s.tar", dict.fromkeys(names, b"-"))
    discovery = discover(["s.tar"], exclude=["thumb*"])
    assert paths(discovery) == addresses(["a.png", "b/a.png"], "s.tar")
    assert discovery.skipped == {"hidden": 2, "excluded": 1, "not an image": 2}
    assert paths(discover(["s.tar"], recursive=False)) == addresses(["a.png"], "s.tar")
    assert list(found(["tar://./a.png::s.tar"])[1].values()) == [b"-"]


def test_a_key_ends_at_the_first_dot_of_the_name() -> None:
    """As in webdataset: `dir.1/a.b.jpg` has the key `dir.1/a`."""
    names = ["d.1/a.b.jpg", "d.1/a.c.json", "d.1/b.json", "d.2/a.json"]
    make_tar("s.tar", dict.fromkeys(names, b"-"))
    discovery = discover(["s.tar"])
    assert paths(discovery) == addresses(names[:1], "s.tar")
    assert [path for path, _ in discovery.skipped_paths] == addresses(names[2:], "s.tar")


def test_hostile_names_reach_nothing() -> None:
    Path("secret.png").write_bytes(b"secret")
    with tarfile.open("s.tar", "w") as archive:
        for name in ("/etc/a.png", "../../b.png", "x::y.png", "new\nline.png", "\udcff.png"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"img"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            link = tarfile.TarInfo(f"link{kind.decode()}.png")
            link.type, link.linkname = kind, str(Path("secret.png").absolute())
            archive.addfile(link)
    discovery, images = found(["s.tar"])
    names = ["/etc/a.png", "../../b.png", "x::y.png", "new\nline.png", "\udcff.png"]
    assert images == dict.fromkeys(addresses(names, "s.tar"), b"img")
    assert discovery.skipped == {"not an image": 4}
    assert sorted(os.listdir()) == ["s.tar", "secret.png"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_several_of_one_name(packed: bool, kind: int) -> None:
    long = "d/" + "ü" * 200 + ".png"
    with tarfile.open("s.tar", "w:gz" if packed else "w", format=kind) as archive:
        for name, data in ((long, b"1"), ("a.png", b"22"), ("a.png", b"333")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    discovery, images = found(["s.tar"])
    assert images == {f"tar://{long}::s.tar": b"1", "tar://a.png::s.tar": b"22"}
    assert discovery.skipped == {"duplicate": 1}


@pytest.mark.parametrize("packed", [False, True])
def test_images_before_the_damage_are_read_and_the_damage_has_a_row(packed: bool) -> None:
    """Cut anywhere, an archive is never taken for a whole one, and no image for another."""
    whole = make_tar("s.tar", {f"{i}.png": bytes([i]) * 700 for i in range(4)})
    cuts = [0, 1, 511, 512, 600, 1211, 1212, 1535, 1536, 1600, 3072, 4 * 1536 - 1, 4 * 1536]
    for cut in cuts:
        data = whole[:cut]
        Path("s.tar").write_bytes(data)
        if packed:
            Path("s.tar").write_bytes(gzip.compress(data))
        images = found(["s.tar"])[1]
        complete = [f"tar://{i}.png::s.tar" for i in range(4) if 1536 * i + 1212 <= cut]
        assert list(images) == [*complete, "tar://::s.tar"], cut
        *_, damage = discover(["s.tar"])
        with pytest.raises(DecodeError, match=CORRUPT):  # in another process too
            pickle.loads(pickle.dumps(damage)).read()
        assert images.pop("tar://::s.tar") == CORRUPT
        assert list(images.values()) == [bytes([i]) * 700 for i in range(len(complete))]


@pytest.mark.parametrize("place", [1536 + 5, 1536 + 130, 1536 + 150])
def test_a_damaged_header_is_not_the_end(place: int) -> None:
    data = bytearray(make_tar("s.tar", {f"{i}.png": b"-" * 700 for i in range(4)}))
    data[place] ^= 1
    Path("s.tar").write_bytes(data)
    assert list(found(["s.tar"])[1]) == ["tar://0.png::s.tar", "tar://::s.tar"]


def test_what_is_no_archive_or_has_nothing_in_it_has_a_row() -> None:
    Path("image.tar").write_bytes(picture("red"))
    make_tar("empty.tar", {})
    make_tar("notes.tar", {"a.txt": b"-"})
    assert found(["image.tar", "empty.tar", "notes.tar"])[1] == {
        "tar://::image.tar": CORRUPT,
        "tar://::empty.tar": "no files in the archive",
    }
    with pytest.raises(InputError, match=r"no images in notes.tar: 1 skipped \(1 not an image\)"):
        found(["notes.tar"])


@pytest.mark.parametrize("packed", [False, True])
def test_what_unpacks_to_too_much_is_refused_one_by_one(packed: bool) -> None:
    members = {"a.png": b"\0" * 2_000_000, "b.png": b"-"}
    make_tar("s.tar", members, "w:gz" if packed else "w")
    too_large = "download failed: more than 1 MB (--max-download)"
    images = found(["s.tar"], max_megabytes=1.0)[1]
    assert list(images.values()) == [too_large, b"-"]


@pytest.mark.parametrize("packed", [False, True])
def test_an_extension_header_is_not_believed(packed: bool) -> None:
    """One that says that it is as large as the memory would be read into it."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    data = header.tobuf(tarfile.GNU_FORMAT) + bytes(2_000_000)
    Path("s.tar").write_bytes(gzip.compress(data) if packed else data)
    assert found(["s.tar"])[1] == {"tar://::s.tar": CORRUPT}


def test_an_archive_that_changes_gives_no_other_image() -> None:
    make_tar("s.tar", {"a.png": b"1", "b.png": b"2"})
    refs = list(discover(["s.tar"]))
    make_tar("s.tar", {"b.png": b"22", "a.png": b"11"})
    os.utime("s.tar", (1, 1))
    assert [content(ref) for ref in refs] == ["the archive was changed during the run"] * 2


def test_copies_go_when_they_are_read_and_can_be_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tars, "_MOST_COPIES", 2)
    monkeypatch.setattr(tars, "_MOST_COPIED_BYTES", 0)
    made: list[tar.CopiedArchive] = []
    started = tar.CopiedArchive.__init__

    def counted(self: tar.CopiedArchive, *args: Any) -> None:
        made.append(self)
        started(self, *args)

    monkeypatch.setattr(tar.CopiedArchive, "__init__", counted)
    names = [f"{i}.tar.gz" for i in range(5)]
    for i, name in enumerate(names):
        make_tar(name, {f"{i}{j}.png": bytes([i, j]) for j in range(3)}, "w:gz")
    discovery = Discovery(names, DiscoveryOptions(), is_image=by_name)
    # All are listed first, and read then: the first copies are gone by then.
    refs = list(discovery)
    assert len(made) == 5
    contents: list[bytes | str] = [b""] * len(refs)

    def read(place: int) -> None:
        contents[place] = content(refs[place])

    threads = [Thread(target=read, args=(place,)) for place in range(len(refs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents == [bytes([i, j]) for i in range(5) for j in range(3)]
    # One after the other, each is made once.
    made.clear()
    assert all(isinstance(data, bytes) for data in found(names)[1].values())
    assert len(made) == 5


# ---- over a network


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(web, "PART_BYTES", 1500)
    with serving() as server:
        yield server


@pytest.mark.parametrize("behaviour", ["parts", "file"])
@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_an_archive_at_a_web_address(served: Server, behaviour: str, name: str) -> None:
    """In parts where the server gives them, also when one of them takes a second attempt."""
    served.files[name] = make_tar(name, shard(), "w:gz" if name.endswith("gz") else "w")
    url = served.url(f"{behaviour}/{name}", login="user:p4ss@")
    shown = url.replace("user:p4ss@", "") + "?sig=***"
    discovery, images = found([f"{url}?sig=s3cret"])
    assert list(images) == addresses(IN_SHARD, shown)
    assert list(images.values()) == [shard()[member] for member in IN_SHARD]
    assert discovery.streams
    asked = served.asked[f"/{behaviour}/{name}"]
    assert asked > 5 if (behaviour, name) == ("parts", "s.tar") else asked < 4
    # What is found can be named.
    again = f"tar://k2.jpg::{url}?sig=s3cret"
    assert list(found([again])[1].values()) == [shard()["k2.jpg"]]


def test_what_a_server_does_wrong_has_a_row(served: Server) -> None:
    served.files["s.tar"] = make_tar("s.tar", shard())
    for path, reason in {
        "status/404": "download failed: HTTP 404",
        "dropped": "download failed: connection lost",
        "changing": "download failed: changed during the download",
        "torn/red": "download failed: connection lost",
    }.items():
        url = served.url(f"{path}/s.tar" if path == "changing" else f"{path}?x=s.tar")
        _, images = found([f"tar://::{url}"], timeout=2.0)
        assert list(images.items())[-1] == (f"tar://::{url}", reason)
    assert len(images) == 1
    private = served.url("parts/s.tar")
    assert [content(ref) for ref in discover([private])] == [
        "download failed: private address (--allow-private-urls)"
    ]


def test_an_archive_is_read_while_it_comes(served: Server) -> None:
    served.files["s.tar"] = make_tar("s.tar", {f"{i}.png": b"-" * 700 for i in range(40)})
    discovery = Discovery(
        [served.url("parts/s.tar")],
        DiscoveryOptions(remote=RemoteOptions(allow_private=True)),
        is_image=by_name,
    )
    refs = iter(discovery)
    assert content(next(refs)) == b"-" * 700
    assert served.asked["/parts/s.tar"] < 20  # of 42
    assert sum(1 for _ in refs) == 39


# ---- braces


def test_a_file_beats_the_braces_in_its_name() -> None:
    for name in ("a.png", "b.png", "{c,d}.png"):
        Path(name).write_bytes(b"-")
    assert paths(discover(["{a,b}.png", "{c,d}.png"])) == ["a.png", "b.png", "{c,d}.png"]
    with pytest.raises(InputError, match="no such file or folder: e.png"):
        discover(["{a,e}.png"])
    with pytest.raises(InputError, match=r"more than 100,000 inputs: .*@list.txt"):
        discover(["{1..1000000}.png"])


@given(st.text(st.sampled_from("a{}.,0129\\-$"), max_size=12))
def test_braces_never_raise(text: str) -> None:
    assert expanded(text) or text


@given(st.integers(0, 400), st.integers(0, 60), st.integers(3, 6))
def test_numbers_in_braces_keep_their_zeros(first: int, more: int, width: int) -> None:
    text = f"s3://b/t-{{{first:0{width}}..{first + more:0{width}}}}.tar"
    assert expanded(text) == [f"s3://b/t-{i:0{width}}.tar" for i in range(first, first + more + 1)]
