"""The journal: torn at every byte, damaged, of another version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipcls.errors import InputError
from clipcls.options import SortBy, SortOptions
from clipcls.sorting.journal import NAME, Before, Journal
from clipcls.sorting.sort import sort_images, undo_sort
from tests.sorting.trees import snapshot, write_images, write_output

BEFORE = Before(False, "/", 7, "abcd")
LINES = [
    {"folder": "cat", "label": "c/t \udcff", "made": True},
    {"touched": "/a", "mtime_ns": 10**18 + 1},
    {"n": 1, "by": "move", "source": "/a/\udcff", "target": "cat/x", "size": 1, "mtime_ns": 2},
    {"n": 2, "by": "copy", "source": "/a/y", "target": "cat/y", "size": 1, "mtime_ns": 2},
    {"done": 2, "void": [2]},
]


def test_a_journal_says_again_what_it_was_told(tmp_path: Path) -> None:
    Journal(tmp_path, BEFORE).append(LINES)
    found = Journal(tmp_path, Before(True, "/other", 8, "ef"))
    assert found.before == BEFORE
    assert found.labels == {"cat": "c/t \udcff"}
    assert found.made == {"cat"}
    assert found.touched == {"/a": 10**18 + 1}
    assert [(e.n, e.by, e.source) for e in found.entries.values()] == [
        (1, SortBy.MOVE, "/a/\udcff")
    ]
    assert (found.last, found.settled) == (2, 2)


def test_a_torn_last_line_was_never_begun_and_is_written_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path, BEFORE)
    journal.append(LINES[:3])
    whole = journal.path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(start, len(whole)):
        journal.path.write_bytes(whole[:end])
        torn = Journal(tmp_path, BEFORE)
        assert torn.entries == {}
        torn.append([LINES[2]])
        assert journal.path.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"n": 1}', b"\xff", b'{"sort": 2}', b""])
def test_a_damaged_line_is_named_and_nothing_is_touched(tmp_path: Path, damage: bytes) -> None:
    images = write_images(tmp_path / "photos", ["a.jpg", "b.jpg"])
    output = write_output(tmp_path / "out.csv", [(path, "cat", 0.9) for path in images])
    dest = tmp_path / "sorted"
    sort_images(output, dest, SortOptions(SortBy.MOVE))
    lines = (dest / NAME).read_bytes().splitlines()
    place = 0 if damage == b'{"sort": 2}' else 2
    (dest / NAME).write_bytes(b"\n".join([*lines[:place], damage, *lines[place + 1 :], b""]))
    before = snapshot(dest)
    for job in (lambda: undo_sort(dest), lambda: sort_images(output, dest)):
        with pytest.raises(InputError, match=rf"{NAME}:{place + 1} is damaged"):
            job()
    after = snapshot(dest)
    # A lock came and went.
    assert {n: c for n, c in after.items() if n != str(dest)} == {
        n: c for n, c in before.items() if n != str(dest)
    }


def test_every_line_is_json_of_one_object(tmp_path: Path) -> None:
    images = write_images(tmp_path / "photos", ["a.jpg"])
    output = write_output(tmp_path / "out.csv", [(images[0], "c/t", 0.9)])
    sort_images(output, tmp_path / "sorted", SortOptions(SortBy.MOVE))
    lines = [json.loads(x) for x in (tmp_path / "sorted" / NAME).read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["sort", "folder", "touched", "n", "done"]
    assert lines[1] == {"folder": "c_t", "label": "c/t", "made": True}
