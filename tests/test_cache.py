"""The embedding cache: what it finds, what it does not, and that it never ends or changes a run."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clipcls.cache import FILE, EmbeddingCache, Slot, disk_usage
from clipcls.classifier import Classifier
from clipcls.errors import DeviceError
from clipcls.inputs.decode import Decoded, load_image
from clipcls.models.devices import place
from clipcls.options import CacheOptions, DecodeOptions, Precision, RuntimeOptions, Truncated
from clipcls.records import Failure, Prediction, Record
from clipcls.testing import FakeEncoder, colour_image, save_colours

KEY = b"key"


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, warnings: list[str]) -> Iterator[EmbeddingCache]:
    opened = EmbeddingCache(CacheOptions(tmp_path / "cache"), warnings.append)
    yield opened
    opened.close()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Six images, old enough to be recognised without being read."""
    paths = save_colours(tmp_path / "images", ["red", "green", "blue", "red", "black", "white"])
    for path in paths:
        age(path)
    return paths


def age(path: Path) -> None:
    """Make a file's time of change old; that of its status cannot be set, so wait for it."""
    old = time.time() - 60
    os.utime(path, (old, old))


@pytest.fixture(autouse=True)
def _status_changes_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcls.cache._YOUNG_NS", 0)


def scored(
    tmp_path: Path,
    encoder: FakeEncoder | None = None,
    labels: str = "red,green,blue",
    decode: DecodeOptions | None = None,
    *,
    verify: bool = False,
    warnings: list[str] | None = None,
) -> tuple[list[Record], int]:
    """Score the images with a cache; return the records and how many were encoded."""
    encoder = encoder or FakeEncoder()
    before = sum(encoder.batch_sizes)
    runtime = RuntimeOptions(device="cpu", cache=CacheOptions(tmp_path / "cache", verify))
    classifier = Classifier(labels, model=encoder, decode=decode, runtime=runtime)
    classifier.warn = ([] if warnings is None else warnings).append
    records = list(classifier.classify([tmp_path / "images"]))
    assert classifier._cache is not None
    classifier._cache.close()
    return records, sum(encoder.batch_sizes) - before


def vectors(records: list[Record]) -> list[bytes]:
    assert all(isinstance(record, Prediction) for record in records)
    return [r.probabilities.tobytes() for r in records if isinstance(r, Prediction)]


# --- what is found ---


def test_what_was_kept_is_found_to_the_last_bit(cache: EmbeddingCache, images: list[Path]) -> None:
    slot = cache.look_up(KEY, str(images[0]))
    assert slot is not None
    assert slot.vector is None
    vector = np.random.default_rng(0).normal(size=512).astype(np.float32)
    cache.keep(KEY, [Slot(slot.content, vector, "a note")])
    found = cache.look_up(KEY, str(images[0]))
    assert found is not None
    assert found.vector is not None
    assert found.vector.tobytes() == vector.tobytes()
    assert found.note == "a note"
    other = cache.look_up(b"another model", str(images[0]))
    assert other is not None
    assert other.vector is None


def test_a_second_run_encodes_nothing_and_gives_the_same(
    tmp_path: Path, images: list[Path]
) -> None:
    fresh, encoded = scored(tmp_path)
    # Two of the six have the same content, and were decoded at the same time.
    assert encoded == 6
    again, encoded = scored(tmp_path)
    assert encoded == 0
    assert vectors(again) == vectors(fresh)


def test_unchanged_files_are_not_read_again(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(tmp_path)
    read: list[str] = []
    monkeypatch.setattr("clipcls.cache._content", read.append)
    assert scored(tmp_path)[1] == 0
    assert read == []


def test_other_labels_need_no_image_again(tmp_path: Path, images: list[Path]) -> None:
    scored(tmp_path)
    records, encoded = scored(tmp_path, labels="black,white")
    assert encoded == 0
    assert [r.prediction for r in records if isinstance(r, Prediction)][-2:] == ["black", "white"]


def test_moved_and_copied_files_are_known_by_their_content(
    tmp_path: Path, images: list[Path]
) -> None:
    scored(tmp_path)
    images[0].rename(tmp_path / "images" / "z-new-name.png")
    (tmp_path / "images" / "copy.png").write_bytes(images[1].read_bytes())
    records, encoded = scored(tmp_path)
    assert (len(records), encoded) == (7, 0)


def test_bytes_are_known_where_their_file_was(cache: EmbeddingCache, images: list[Path]) -> None:
    data = images[0].read_bytes()
    assert cache.look_up_bytes(KEY, data).vector is None
    slot = cache.look_up(KEY, str(images[0]))
    assert slot is not None
    vector = np.ones(512, np.float32)
    cache.keep(KEY, [Slot(slot.content, vector, "a note")])
    found = cache.look_up_bytes(KEY, data)
    assert found.vector is not None
    assert found.vector.tobytes() == vector.tobytes()
    assert found.note == "a note"
    assert cache.look_up_bytes(KEY, data + b"\0").vector is None
    assert cache.look_up_bytes(b"another model", data).vector is None


def test_changed_files_are_computed_anew(tmp_path: Path, images: list[Path]) -> None:
    scored(tmp_path)
    colour_image("blue").save(images[0])
    records, _ = scored(tmp_path)
    first = records[0]
    assert isinstance(first, Prediction)
    assert first.prediction == "blue"


@pytest.mark.parametrize("verify", [False, True])
def test_a_change_that_keeps_size_and_time_is_caught(
    tmp_path: Path, images: list[Path], verify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time of the status where the system has one, and always with `--verify-cache`."""
    target = images[0].with_suffix(".ppm")
    for image in images:
        image.unlink()
    colour_image("red").save(target)
    age(target)
    facts = target.stat()
    scored(tmp_path)
    colour_image("blue").save(target)
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (target.stat().st_size, target.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    if verify:
        # Even where that time says nothing either.
        database = sqlite3.connect(tmp_path / "cache" / FILE)
        with database:
            database.execute("UPDATE files SET ctime = ?", (target.stat().st_ctime_ns,))
        database.close()
    [record], _ = scored(tmp_path, verify=verify)
    assert isinstance(record, Prediction)
    assert record.prediction == "blue"


def test_models_and_decoding_do_not_mix(tmp_path: Path, images: list[Path]) -> None:
    scored(tmp_path)
    assert scored(tmp_path, FakeEncoder(logit_scale=20.0))[1] == 6
    assert scored(tmp_path, decode=DecodeOptions(max_megapixels=3))[1] == 6
    assert scored(tmp_path, decode=DecodeOptions(truncated=Truncated.ACCEPT))[1] == 6
    assert scored(tmp_path)[1] == 0


def test_a_pipe_is_left_to_the_decoder(cache: EmbeddingCache, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert cache.look_up(KEY, str(tmp_path / "pipe.png")) is None


def test_a_file_that_changes_while_it_is_read_keeps_nothing(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(path: str, decode: DecodeOptions, side: int) -> Decoded:
        if path.endswith("4-black.png"):
            colour_image("blue").save(path)
        return load_image(path, decode, side)

    with monkeypatch.context() as patched:
        patched.setattr("clipcls.embed.load_image", replaced)
        scored(tmp_path, labels="black,blue")
    colour_image("black").save(images[4])
    records, _ = scored(tmp_path, labels="black,blue")
    assert isinstance(records[4], Prediction)
    assert records[4].prediction == "black"


def test_failures_are_not_kept(tmp_path: Path, images: list[Path]) -> None:
    images[1].write_bytes(b"")
    records, _ = scored(tmp_path)
    assert isinstance(records[1], Failure)
    colour_image("green").save(images[1])
    records, _ = scored(tmp_path)
    assert isinstance(records[1], Prediction)


def test_prompts_are_encoded_once(tmp_path: Path, images: list[Path]) -> None:
    asked: list[list[str]] = []

    class Counting(FakeEncoder):
        def encode_texts(self, prompts):  # type: ignore[no-untyped-def]
            asked.append(list(prompts))
            return super().encode_texts(prompts)

    scored(tmp_path, Counting())
    scored(tmp_path, Counting(), labels="green,black,red")
    assert asked == [
        ["a photo of a red", "a photo of a green", "a photo of a blue"],
        ["a photo of a black"],
    ]


# --- what is wrong with it never ends a run ---


def test_a_file_that_is_no_database_is_made_anew(tmp_path: Path, images: list[Path]) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FILE).write_bytes(b"not a database" * 1000)
    warnings: list[str] = []
    records, _ = scored(tmp_path, warnings=warnings)
    assert len(vectors(records)) == 6
    assert len(warnings) == 1
    assert "is damaged" in warnings[0]
    assert scored(tmp_path)[1] == 0


@pytest.mark.parametrize("seed", range(6))
def test_damage_anywhere_changes_no_row(tmp_path: Path, images: list[Path], seed: int) -> None:
    fresh, _ = scored(tmp_path)
    file = tmp_path / "cache" / FILE
    data = bytearray(file.read_bytes())
    places = np.random.default_rng(seed).integers(0, len(data), 400)
    for byte in places:
        data[byte] ^= 0x55
    file.write_bytes(data)
    warnings: list[str] = []
    damaged, _ = scored(tmp_path, warnings=warnings)
    assert vectors(damaged) == vectors(fresh)
    assert len(warnings) <= 2
    assert vectors(scored(tmp_path)[0]) == vectors(fresh)


def test_a_vector_whose_bits_have_turned_is_computed_anew(
    tmp_path: Path, images: list[Path]
) -> None:
    fresh, _ = scored(tmp_path)
    database = sqlite3.connect(tmp_path / "cache" / FILE)
    with database:
        database.execute("UPDATE images SET vector = zeroblob(16)")
    database.close()
    again, encoded = scored(tmp_path)
    assert encoded == 6
    assert vectors(again) == vectors(fresh)


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path: Path, images: list[Path]) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    warnings: list[str] = []
    records, _ = scored(tmp_path, warnings=warnings)
    assert len(vectors(records)) == 6
    assert len(warnings) == 1
    assert "--cache-dir" in warnings[0]


def test_a_full_disk_is_one_warning(tmp_path: Path, images: list[Path]) -> None:
    warnings: list[str] = []
    small = EmbeddingCache(CacheOptions(tmp_path / "cache"), warnings.append)
    assert small._database is not None
    small._database.execute("PRAGMA max_page_count = 1")
    for _ in range(3):
        small.keep(KEY, [Slot(bytes([i]) * 20, np.ones(2000, np.float32)) for i in range(9)])
    assert len(warnings) == 1
    assert "full" in warnings[0]
    assert small.look_up(KEY, str(images[0])) is None
    small.close()


def test_a_locked_cache_is_one_warning(
    tmp_path: Path, cache: EmbeddingCache, warnings: list[str]
) -> None:
    holder = sqlite3.connect(tmp_path / "cache" / FILE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert cache._database is not None
    cache._database.execute("PRAGMA busy_timeout = 10")
    cache.keep(KEY, [Slot(b"x" * 20, np.ones(4, np.float32))])
    assert len(warnings) == 1
    assert "locked" in warnings[0]
    holder.close()


def test_threads_that_fail_together_are_one_warning(
    cache: EmbeddingCache, warnings: list[str]
) -> None:
    for _ in range(2):
        with cache._guarded():
            raise sqlite3.OperationalError("disk I/O error")
    assert len(warnings) == 1


# --- several at once ---


def test_several_runs_share_one_cache(tmp_path: Path) -> None:
    failed: list[str] = []

    def work(number: int) -> None:
        own = EmbeddingCache(CacheOptions(tmp_path / "cache"), failed.append)
        for i in range(40):
            content = bytes([number, i]) * 10
            own.keep(KEY, [Slot(content, np.full(64, number + i, np.float32))])
            own.facts(KEY)
        own.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    whole = EmbeddingCache(CacheOptions(tmp_path / "cache"), failed.append)
    assert sum(whole.usage().images.values()) == 160
    whole.close()


# --- its size ---


def test_pruning_removes_the_oldest_first(cache: EmbeddingCache) -> None:
    for i in range(200):
        cache.keep(KEY, [Slot(i.to_bytes(20, "big"), np.ones(512, np.float32))])
    before = disk_usage(cache.path)
    removed = cache.prune(before // 2)
    assert 0 < removed < 200
    assert disk_usage(cache.path) <= before // 2
    left = cache._rows("SELECT content FROM images ORDER BY rowid")
    assert [int.from_bytes(row[0], "big") for row in left] == list(range(removed, 200))
    assert cache.prune(10**9) == 0


def test_a_machine_remembers_its_own_device_and_notices_when_that_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(machine: str, precision: Precision) -> Classifier:
        monkeypatch.setattr("platform.node", lambda: machine)
        monkeypatch.setattr(
            "clipcls.classifier.choose_device",
            lambda options: place("cpu", precision, "test", options),
        )
        runtime = RuntimeOptions(cache=CacheOptions(tmp_path))
        return Classifier(["cat", "dog"], model="mini", runtime=runtime)

    assert asked("one", Precision.BF16).device.precision is Precision.BF16
    assert asked("another", Precision.FP32).device.precision is Precision.FP32
    changed = asked("one", Precision.FP32)
    assert changed.device.precision is Precision.BF16, "nothing is asked that is known"
    with pytest.raises(DeviceError, match="the devices of this machine have changed"):
        assert changed.scorer
    assert asked("one", Precision.FP32).device.precision is Precision.FP32
