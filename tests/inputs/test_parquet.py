"""Images in Parquet: the right bytes for each row, whoever asks when, and never all at once."""

from __future__ import annotations

import os
import pickle
import random
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcls.errors import DecodeError, InputError
from clipcls.inputs import parquet as module
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.stores import Stores
from clipcls.inputs.walk import Discovery
from clipcls.options import DiscoveryOptions

ROWS = 200


def content(row: int) -> bytes:
    return b"image %d" % row * 50


def refs(*tables: Path | str, **options: Any) -> list[ImageRef]:
    given = DiscoveryOptions(image_column="image", **options)
    return list(Discovery([str(t) for t in tables], given, is_image=lambda path: False))


def read(ref: ImageRef) -> bytes:
    assert ref.source is not None
    return ref.source.read(threading.Event())


@pytest.fixture(params=[7, ROWS], ids=["many row groups", "one row group"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "t.parquet"
    images = [content(i) for i in range(ROWS)]
    pq.write_table(
        pa.table({"id": range(ROWS), "image": images}), path, row_group_size=request.param
    )
    return path


def every_third(rows: list[int]) -> None:
    del rows[::3]


@pytest.mark.parametrize(
    "order",
    [lambda rows: None, every_third, list.reverse, random.Random(0).shuffle],
    ids=["in order", "a shard", "backwards", "shuffled"],
)
@pytest.mark.parametrize("passed", [0, 10**9], ids=["nothing is held", "all is held"])
def test_each_row_gives_its_own_bytes_in_any_order(
    table: Path,
    order: Callable[[list[int]], None],
    passed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_PASSED_BYTES", passed)
    found = refs(table, keep=("id",))
    assert [(ref.path, *ref.kept) for ref in found] == [(f"{table}#{i}", i) for i in range(ROWS)]
    rows = list(range(ROWS))
    order(rows)
    assert [read(found[row]) for row in rows] == [content(row) for row in rows]
    assert read(found[ROWS // 2]) == content(ROWS // 2)


def test_many_threads_and_several_tables(table: Path) -> None:
    copies = [table.with_name(f"{i}.parquet") for i in range(4)]
    for copy in copies:
        copy.write_bytes(table.read_bytes())
    found = refs(*copies)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(read, found)) == [content(i) for i in range(ROWS)] * 4


def test_bytes_beside_paths_as_datasets_writes_them(tmp_path: Path) -> None:
    cells = [
        {"bytes": b"1", "path": "one.png"},
        {"bytes": None, "path": "two.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": b"", "path": "five.png"},
    ]
    for groups in (1, 2, 5):
        for stats in (True, False):
            path = tmp_path / "t.parquet"
            pq.write_table(
                pa.table({"image": cells}), path, row_group_size=groups, write_statistics=stats
            )
            found = refs(path)
            names = [f"{path}#0", "two.png", f"{path}#2", f"{path}#3", f"{path}#4"]
            assert [ref.path for ref in found] == names
            assert [read(found[0]), found[1].source, read(found[4])] == [b"1", None, b""]
            for row in (2, 3):
                with pytest.raises(DecodeError, match="no image in this row"):
                    read(found[row])


def test_a_file_that_is_damaged_or_exchanged_later_fails_row_by_row(table: Path) -> None:
    found = refs(table)
    pq.write_table(pa.table({"image": [b"other"]}), table)
    assert read(refs(table)[0]) == b"other"
    with pytest.raises(DecodeError, match="damaged or incomplete Parquet data"):
        read(found[5])
    lost = refs(table)
    table.unlink()
    with pytest.raises(DecodeError, match="no such file"):
        read(lost[0])


def pages(path: Path, images: list[bytes], rows: int) -> None:
    """Write a table with a page per image, and so many rows in a row group."""
    schema = pa.schema({"image": pa.binary()})
    options = {"write_batch_size": 1, "data_page_size": 1, "use_dictionary": False}
    with pq.ParquetWriter(path, schema, **options) as writer:
        writer.write_table(pa.table({"image": images}), row_group_size=rows)


def outcome(ref: ImageRef) -> bytes | str:
    try:
        return read(ref)
    except DecodeError as error:
        return str(error)


def test_damage_costs_the_rows_behind_it_in_their_row_group(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    images = [random.Random(i).randbytes(1000) for i in range(60)]
    pages(path, images, 20)
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    whole = bytearray(path.read_bytes())
    whole[middle : middle + 3000] = bytes(3000)
    path.write_bytes(whole)
    found = list(map(outcome, refs(path)))
    first = next(i for i, data in enumerate(found) if data != images[i])
    assert 20 < first <= 30
    assert set(found[first:40]) == {"corrupt: damaged or incomplete Parquet data"}
    assert found[40:] == images[40:]


def test_a_lost_connection_costs_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    path, lost = tmp_path / "t.parquet", threading.Event()
    images = [random.Random(i).randbytes(100_000) for i in range(20)]
    pages(path, images, len(images))

    class Stream(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if lost.is_set():
                lost.clear()
                raise TimeoutError
            return super().read(size)

    monkeypatch.setattr(Stores, "open", lambda stores, url: Stream(path.read_bytes()))
    found = refs("s3://bucket/t.parquet")
    assert read(found[0]) == images[0]
    lost.set()
    outcomes = list(map(outcome, found[1:]))
    assert outcomes.count("download failed: timed out") == 1
    assert len(set(images[1:]) - set(outcomes)) == 1
    lost.set()
    with pytest.raises(InputError, match=r"s3://bucket/t\.parquet cannot be read: download failed"):
        refs("s3://bucket/t.parquet")


def test_a_source_that_nobody_wants_any_more_gives_up(table: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    source = refs(table)[0].source
    assert source is not None
    assert source.concurrency == DiscoveryOptions().remote.downloads
    with pytest.raises(DecodeError, match="interrupted"):
        source.read(stopped)


def test_a_row_group_is_never_whole_in_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "t.parquet", 1_000_000
    with pq.ParquetWriter(path, pa.schema({"image": pa.binary()}), write_batch_size=1) as writer:
        writer.write_table(pa.table({"image": [os.urandom(size) for _ in range(60)]}))
    assert pq.ParquetFile(path).num_row_groups == 1
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    most = 0
    for ref in refs(path):
        assert len(read(ref)) == size
        most = max(most, pool.bytes_allocated() - before + tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert most < 30 * size


def test_another_process_can_read_the_images(table: Path) -> None:
    found = refs(table, keep=("id",))
    sent = pickle.loads(pickle.dumps(found))
    assert [read(ref) for ref in sent] == [content(row) for row in range(ROWS)]
    assert [ref.kept for ref in sent] == [(row,) for row in range(ROWS)]
