"""Sorting and undoing on a real file system, with every kind of trouble."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from clipcls.errors import InputError, OptionError, OutputError, OutputLockedError
from clipcls.inputs.walk import SORTED, Discovery
from clipcls.observer import Observer
from clipcls.options import DiscoveryOptions, SortBy, SortOptions
from clipcls.sorting import act
from clipcls.sorting.journal import NAME
from clipcls.sorting.plan import Verdict
from clipcls.sorting.sort import plan_sort, sort_images, undo_sort
from tests.sorting.trees import snapshot, write_images, write_output

MOVE = SortOptions(SortBy.MOVE)


class Case:
    """Images in `photos`, an output about them, and a folder to sort into that is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.photos = folder / "photos"
        self.images = write_images(self.photos, ["a/x.jpg", "b/x.jpg", "b/X.JPG", "y.png"])
        self.output = folder / "out.csv"
        self.dest = folder / "sorted"
        self.write(("cat", 0.9), ("cat", 0.6), ("cat", 0.3), ("!broken", ""))

    def write(self, *rows: tuple[str, float | str]) -> None:
        write_output(self.output, [(p, *row) for p, row in zip(self.images, rows, strict=False)])

    def found(self) -> list[str]:
        files = (path for path in self.dest.rglob("*") if not path.is_dir())
        found = (str(path.relative_to(self.dest)) for path in files)
        return sorted(name for name in found if not name.startswith(".clipcls"))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


SORTED_NAMES = ["cat/X-3.JPG", "cat/x-2.jpg", "cat/x.jpg", "failed/y.png"]


@pytest.mark.parametrize("by", SortBy)
def test_each_way_gives_every_image_its_folder_and_undo_takes_it_back(
    case: Case, by: SortBy
) -> None:
    before = snapshot(case.folder)
    inside = {path: (path.read_bytes(), path.stat()) for path in case.images}
    report = sort_images(case.output, case.dest, SortOptions(by))
    assert (report.exit_code, dict(report.counts)) == (0, {"cat": 3, "failed": 1})
    assert case.found() == SORTED_NAMES
    names = ("cat/x.jpg", "cat/x-2.jpg", "cat/X-3.JPG", "failed/y.png")
    for image, name in zip(case.images, names, strict=True):
        target, (content, status) = case.dest / name, inside[image]
        assert target.read_bytes() == content
        assert target.stat().st_mtime_ns == status.st_mtime_ns
        assert target.is_symlink() is (by is SortBy.SYMLINK)
        assert image.exists() is (by is not SortBy.MOVE)
        if by in (SortBy.HARDLINK, SortBy.MOVE):
            assert target.stat().st_ino == status.st_ino
        if by is SortBy.SYMLINK:
            assert os.readlink(target) == str(image)
    again = sort_images(case.output, case.dest, SortOptions(by))
    assert (again.counts, again.there, again.failed) == (report.counts, 4, [])
    undone = undo_sort(case.dest)
    assert (undone.put_back, undone.removed) == ((4, 0) if by is SortBy.MOVE else (0, 4))
    assert snapshot(case.folder) == before
    with pytest.raises(InputError, match="nothing to undo"):
        undo_sort(case.dest)


def test_a_plan_writes_nothing_and_is_what_the_sort_does(case: Case) -> None:
    before = snapshot(case.folder)
    plan = plan_sort(case.output, case.dest, SortOptions(min_probability=0.5, top=1))
    assert snapshot(case.folder) == before
    assert [(d.verdict, d.folder, d.name) for d in plan.decisions] == [
        (Verdict.PLACED, "cat", "x.jpg"),
        (Verdict.LEFT_OUT, "", ""),
        (Verdict.PLACED, "unknown", "X.JPG"),
        (Verdict.PLACED, "failed", "y.png"),
    ]
    report = sort_images(case.output, case.dest, SortOptions(min_probability=0.5, top=1))
    assert case.found() == ["cat/x.jpg", "failed/y.png", "unknown/X.JPG"]
    assert (report.left_out, report.exit_code) == (1, 0)


def test_nothing_that_is_there_is_written_over_or_followed(case: Case) -> None:
    (case.dest / "cat").mkdir(parents=True)
    (case.dest / "cat" / "x.JPG").write_bytes(b"mine")
    (case.dest / "failed").write_bytes(b"a file")
    elsewhere = case.folder / "elsewhere"
    elsewhere.mkdir()
    (case.dest / "dog").symlink_to(elsewhere)
    case.write(("cat", 0.9), ("dog", 0.9), ("cat", 0.3), ("!broken", ""))
    before = snapshot(case.folder)
    assert sort_images(case.output, case.dest, MOVE).exit_code == 0
    assert case.found() == ["cat/X-3.JPG", "cat/x-2.jpg", "cat/x.JPG", "dog-2/x.jpg",
                            "failed", "failed-2/y.png"]  # fmt: skip
    assert (case.dest / "cat" / "x.JPG").read_bytes() == b"mine"
    assert list(elsewhere.iterdir()) == []
    assert undo_sort(case.dest).exit_code == 0
    assert snapshot(case.folder) == before


def test_each_source_that_cannot_be_sorted_says_why_and_the_others_are(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(case.folder)
    (case.folder / "link.jpg").symlink_to("photos/a/x.jpg")
    (case.folder / "broken.jpg").symlink_to("nowhere")
    (case.folder / "other").symlink_to("photos")
    os.mkfifo(case.folder / "pipe")
    odd = "\\udcff.jpg"  # as an output writes a name that is not UTF-8
    Path("\udcff.jpg").write_bytes(b"odd")
    paths = ["photos/a/x.jpg", "link.jpg", "broken.jpg", "gone.jpg", "photos", "pipe", "-",
             "https://example.org/a.jpg", "s3://bucket/a.jpg", "tar://a.jpg::photos.tar",
             "photos.parquet#12", "", "nul\\udc00\x00",
             "photos/../photos/a/x.jpg", "other/a/x.jpg", "photos/y.png/z", odd]  # fmt: skip
    write_output(case.output, [(path, "cat", 0.5) for path in paths])
    report = sort_images(case.output, case.dest, MOVE)
    assert report.left_out == 2  # the first image by two more names
    assert dict(report.counts) == {"cat": 2}
    assert case.found() == ["cat/x.jpg", "cat/\udcff.jpg"]
    reasons = dict(report.failed)
    assert reasons.pop("nul\udc00\x00")
    assert reasons == {
        "link.jpg": "a link, which a move could break: use --by copy for it",
        "broken.jpg": "a link, which a move could break: use --by copy for it",
        "gone.jpg": "no such file",
        "photos": "a folder",
        "pipe": "no regular file",
        "-": "no such file",
        "https://example.org/a.jpg": "a web address",
        "s3://bucket/a.jpg": "in a store",
        "photos.parquet#12": "in a table",
        "tar://a.jpg::photos.tar": "inside an archive",
        "": "a folder",
        "photos/y.png/z": "no such file",
    }
    assert report.exit_code == 3
    copied = sort_images(case.output, case.folder / "copies", SortOptions(SortBy.COPY))
    assert (case.folder / "copies" / "cat" / "link.jpg").is_file() is False  # its end was moved
    assert dict(copied.failed)["broken.jpg"] == "a link to nothing"


def test_an_output_whose_images_are_all_elsewhere_is_refused(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_output(case.output, [("photos/a/x.jpg", "cat", 0.9)])
    monkeypatch.chdir(case.photos)
    before = snapshot(case.folder)
    with pytest.raises(InputError, match=r"none of the images .* run clipcls sort there"):
        sort_images(case.output, case.dest)
    assert snapshot(case.folder) == before
    monkeypatch.chdir(case.folder)
    assert sort_images(case.output, case.dest).counts == {"cat": 1}


def test_a_copy_of_a_link_is_a_copy_of_the_file(case: Case) -> None:
    link = case.folder / "link.jpg"
    link.symlink_to(case.images[0])
    write_output(case.output, [(link, "cat", 0.9)])
    for by in (SortBy.COPY, SortBy.HARDLINK):
        sort_images(case.output, case.dest, SortOptions(by))
        assert not (case.dest / "cat" / "link.jpg").is_symlink()
        assert (case.dest / "cat" / "link.jpg").read_bytes() == case.images[0].read_bytes()
        assert undo_sort(case.dest).exit_code == 0


def test_another_sort_into_the_folder_adds_and_never_has_an_image_twice(case: Case) -> None:
    sort_images(case.output, case.dest, SortOptions(top=1))
    assert case.found() == ["cat/x.jpg", "failed/y.png"]
    more = sort_images(case.output, case.dest)
    assert (more.there, dict(more.counts)) == (2, {"cat": 3, "failed": 1})
    assert case.found() == SORTED_NAMES
    other = sort_images(case.output, case.dest, SortOptions(min_probability=0.5))
    [(path, reason)] = other.failed
    assert path == str(case.images[2])
    assert reason == "an earlier sort (--by copy) put it into cat/: undo that first (--undo)"
    way = sort_images(case.output, case.dest, MOVE)
    assert len(way.failed) == 4
    assert case.found() == SORTED_NAMES
    # A changed original has no copy yet.
    case.images[0].write_bytes(b"edited")
    assert sort_images(case.output, case.dest).there == 3
    assert (case.dest / "cat" / "x-4.jpg").read_bytes() == b"edited"


def test_labels_keep_their_folders_when_others_come(case: Case) -> None:
    case.write(("c/t", 0.9))
    sort_images(case.output, case.dest, MOVE)
    write_output(case.output, [(case.images[1], "c:t", 0.9), (case.images[2], "c/t", 0.9)])
    sort_images(case.output, case.dest, MOVE)
    assert case.found() == ["c_t-2/x.jpg", "c_t/X-2.JPG", "c_t/x.jpg"]


def test_a_new_image_under_the_name_of_a_moved_one_is_sorted_too(case: Case) -> None:
    sort_images(case.output, case.dest, MOVE)
    case.images[0].write_bytes(b"the camera counts from 1 again")
    report = sort_images(case.output, case.dest, MOVE)
    assert (report.there, report.failed) == (3, [])
    assert (case.dest / "cat" / "x-4.jpg").read_bytes() == b"the camera counts from 1 again"
    # The last one is put back first, so the older one finds its name taken.
    undone = undo_sort(case.dest)
    assert undone.put_back == 4
    [(target, reason)] = undone.stayed
    assert (target, undone.exit_code) == ("cat/x.jpg", 3)
    assert reason == f"stays: there is another file under its old name {case.images[0]}"
    case.images[0].unlink()
    assert undo_sort(case.dest).stayed == []
    assert case.images[0].read_bytes() == b"image 0"
    assert not case.dest.exists()


def test_images_in_the_sorted_folder_are_moved_on_and_undone_in_turn(case: Case) -> None:
    before = snapshot(case.photos)
    sort_images(case.output, case.dest, MOVE)
    names = ["cat/x.jpg", "cat/x-2.jpg", "cat/X-3.JPG"]
    labels = ["cat", "dog", "dog"]
    rows = [(case.dest / n, label, 0.9) for n, label in zip(names, labels, strict=True)]
    write_output(case.output, rows)
    copied = sort_images(case.output, case.dest, SortOptions(SortBy.COPY))
    assert [reason for _, reason in copied.failed] == [
        "it lies in the sorted folder: only --by move takes it on"
    ] * 2
    moved = sort_images(case.output, case.dest, MOVE)
    assert (moved.there, dict(moved.counts)) == (1, {"cat": 1, "dog": 2})
    assert case.found() == ["cat/x.jpg", "dog/X-3.JPG", "dog/x-2.jpg", "failed/y.png"]
    assert undo_sort(case.dest).exit_code == 0
    assert snapshot(case.photos) == before


def edit_moved(case: Case) -> None:
    (case.dest / "cat" / "x.jpg").write_bytes(b"edited")


def lose_original(case: Case) -> None:
    case.images[0].unlink()


def edit_original(case: Case) -> None:
    case.images[0].unlink()
    case.images[0].write_bytes(b"edited")


def replace_target(case: Case) -> None:
    (case.dest / "cat" / "x.jpg").unlink()
    (case.dest / "cat" / "x.jpg").write_bytes(b"another")


def take_away(case: Case) -> None:
    (case.dest / "cat" / "x.jpg").rename(case.folder / "away.jpg")


@pytest.mark.parametrize(
    ("by", "trouble", "reason"),
    [
        (SortBy.MOVE, edit_moved, "was changed or replaced since"),
        (SortBy.MOVE, replace_target, "was changed or replaced since"),
        (SortBy.MOVE, take_away, "is no longer there"),
        (SortBy.COPY, edit_moved, "is not the same as"),
        (SortBy.COPY, lose_original, "is not the same as"),
        (SortBy.COPY, edit_original, "is not the same as"),
        (SortBy.HARDLINK, lose_original, "is not the same as"),
        (SortBy.HARDLINK, edit_original, "is not the same as"),
        (SortBy.SYMLINK, replace_target, "was replaced since"),
    ],
)
def test_undo_leaves_what_was_changed_and_says_so(
    case: Case, by: SortBy, trouble: Callable[[Case], None], reason: str
) -> None:
    sort_images(case.output, case.dest, SortOptions(by))
    trouble(case)
    before = snapshot(case.folder)
    for _ in range(2):
        undone = undo_sort(case.dest)
        [(target, said)] = undone.stayed
        assert target == "cat/x.jpg"
        assert reason in said
        assert (case.dest / NAME).exists()
    contents = {content for _, _, content in before.values()}
    images = {c for p, (_, _, c) in snapshot(case.folder).items() if not p.endswith(NAME)}
    assert {c for c in contents if isinstance(c, bytes) and b'"sort"' not in c} <= images
    assert case.found() == ([] if trouble is take_away else ["cat/x.jpg"])
    # The rest is as it was, and a new sort can begin.
    assert case.images[1].read_bytes() == b"image 1" * 2


def test_undo_keeps_folders_with_other_things_and_makes_those_that_are_gone(case: Case) -> None:
    sort_images(case.output, case.dest, MOVE)
    shutil.rmtree(case.photos)
    (case.dest / "cat" / "notes.txt").write_text("mine")
    assert undo_sort(case.dest).exit_code == 0
    assert [image.read_bytes() for image in case.images] == [f"image {i}".encode() * (i + 1)
                                                             for i in range(4)]  # fmt: skip
    assert case.found() == ["cat/notes.txt"]


def test_copies_that_were_sorted_by_hand_are_no_longer_those_of_the_sort(case: Case) -> None:
    sort_images(case.output, case.dest)
    (case.dest / "dog").mkdir()
    (case.dest / "cat" / "x.jpg").rename(case.dest / "dog" / "x.jpg")
    undone = undo_sort(case.dest)
    assert (undone.removed, undone.stayed) == (3, [])
    assert case.found() == ["dog/x.jpg"]


def test_undo_works_where_the_folder_was_taken_to(case: Case) -> None:
    sort_images(case.output, case.dest, MOVE)
    case.dest.rename(case.folder / "elsewhere")
    assert undo_sort(case.folder / "elsewhere").put_back == 4
    assert all(image.exists() for image in case.images)


def test_a_full_disk_ends_the_sort_and_the_same_command_goes_on(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(case.folder)
    real = act.rename_to_new
    done: list[Path] = []

    def rename(old: Path, new: Path) -> None:
        if len(done) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(new)
        real(old, new)

    for finish in (undo_sort, lambda dest: sort_images(case.output, dest) and undo_sort(dest)):
        done.clear()
        with monkeypatch.context() as patched:
            patched.setattr(act, "rename_to_new", rename)
            with pytest.raises(OutputError, match=r"no space left on device; the same command"):
                sort_images(case.output, case.dest)
        assert len(case.found()) == 2
        finish(case.dest)
        assert snapshot(case.folder) == before


def test_one_image_that_fails_is_named_and_never_undone(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(case.folder)

    class Meddler(Observer):
        def working(self, total: int) -> None:
            case.images[0].write_bytes(b"changed between plan and act")
            (case.dest / "cat").mkdir()
            (case.dest / "cat" / "x-2.jpg").write_bytes(b"somebody's")

    report = sort_images(case.output, case.dest, MOVE, Meddler())
    assert [reason for _, reason in report.failed] == ["it has changed meanwhile", "file exists"]
    assert (case.dest / "cat" / "x-2.jpg").read_bytes() == b"somebody's"
    assert undo_sort(case.dest).exit_code == 0
    assert case.found() == ["cat/x-2.jpg"]
    assert case.images[0].read_bytes() == b"changed between plan and act"
    for image in case.images[1:]:
        assert snapshot(image)[str(image)] == before[str(image)]


def test_a_system_without_exclusive_renames_writes_over_nothing_either(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rename in (("3", None), ("4", lambda old, new: -1)):
        monkeypatch.setattr(act, "_exclusive_rename", lambda rename=rename: rename)
        monkeypatch.setattr("ctypes.get_errno", lambda: errno.EINVAL)
        first, second = write_images(case.folder / "two", ["1", "2"])
        with pytest.raises(FileExistsError):
            act.rename_to_new(first, second)
        assert second.read_bytes() == b"image 1" * 2
        act.rename_to_new(first, case.folder / "two" / name)
        assert not first.exists()


@pytest.fixture
def other_system(tmp_path: Path) -> Iterator[Path]:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    folder = shm / f"clipcls-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_a_move_to_another_file_system_and_back(case: Case, other_system: Path) -> None:
    before = snapshot(case.folder)
    assert sort_images(case.output, other_system / "sorted", MOVE).exit_code == 0
    assert not any(image.exists() for image in case.images)
    moved = other_system / "sorted" / "cat" / "x.jpg"
    assert moved.read_bytes() == b"image 0"
    assert undo_sort(other_system / "sorted").exit_code == 0
    assert snapshot(case.folder) == before
    links = sort_images(case.output, other_system / "sorted", SortOptions(SortBy.HARDLINK))
    assert [reason for _, reason in links.failed] == [
        "invalid cross-device link (a hard link needs one file system: use --by copy)"
    ] * 4


def test_two_sorts_at_once_are_one_too_many(case: Case) -> None:
    case.dest.mkdir()
    with FileLock(case.dest / ".clipcls-sort.lock"):
        for job in (lambda: sort_images(case.output, case.dest), lambda: undo_sort(case.dest)):
            (case.dest / NAME).touch()
            with pytest.raises(OutputLockedError, match="another clipcls sort is at"):
                job()


def test_what_is_no_folder_to_sort_into_is_refused(case: Case) -> None:
    for dest, message in (
        (case.output, "is no folder"),
        (case.folder / "none" / "sorted", "does not exist"),
    ):
        with pytest.raises(OptionError, match=message):
            sort_images(case.output, dest)
    case.dest.mkdir()
    (case.dest / NAME).symlink_to(case.output)
    content = case.output.read_bytes()
    with pytest.raises(OutputError, match="is a link or no regular file"):
        sort_images(case.output, case.dest)
    assert case.output.read_bytes() == content


@pytest.mark.parametrize("by", SortBy)
def test_a_later_search_sees_each_image_once(case: Case, by: SortBy) -> None:
    def seen(top: Path) -> tuple[list[str], int]:
        found = Discovery([str(top)], DiscoveryOptions(), is_image=lambda path: True)
        paths = [ref.path for ref in found]
        return paths, found.skipped[SORTED]

    dest = case.photos / "sorted"
    sort_images(case.output, dest, SortOptions(by))
    inside = [str(dest / name) for name in SORTED_NAMES]
    if by is SortBy.MOVE:
        assert sorted(seen(case.photos)[0]) == inside
    else:
        paths, skipped = seen(case.photos)
        assert (sorted(paths), skipped) == (sorted(map(str, case.images)), 1)
    # Whoever names the folder means it.
    assert sorted(seen(dest)[0]) == inside
