"""Order, completeness, bounds: what every picture is owed, whatever its neighbours do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipcls.classifier import Classifier
from clipcls.embed import LOOK_AHEAD_BATCHES, EmbeddingStream, Stages, embed
from clipcls.errors import DecodeError, DeviceError, InputError
from clipcls.inputs.refs import ImageRef
from clipcls.options import DecodeOptions
from clipcls.records import Embedded, Failure, Prediction, Record
from clipcls.scoring import score
from clipcls.testing import FakeEncoder, save_colours


def stream(
    refs: Iterable[ImageRef],
    encoder: FakeEncoder,
    stages: Stages,
    should_stop: Callable[[], bool] = lambda: False,
) -> EmbeddingStream:
    return embed(refs, encoder, DecodeOptions(), stages, should_stop)


def listed(paths: Iterable[Path]) -> list[ImageRef]:
    return [ImageRef(i, str(path)) for i, path in enumerate(paths)]


def classify(
    paths: list[Path], encoder: FakeEncoder, *, batch_size: int = 3, workers: int = 2
) -> list[Record]:
    scorer = Classifier(["red", "green", "blue", "yellow"], model=encoder).scorer
    return list(score(stream(listed(paths), encoder, Stages(batch_size, workers)), scorer))


def test_a_corrupt_file_between_two_good_ones_keeps_all_three_names_right(
    tmp_path: Path, encoder: FakeEncoder
) -> None:
    red, green, blue = save_colours(tmp_path, ["red", "green", "blue"])
    green.write_bytes(green.read_bytes()[:60])
    records = classify([red, green, blue], encoder)
    assert [record.path for record in records] == [str(red), str(green), str(blue)]
    assert isinstance(records[0], Prediction)
    assert records[0].prediction == "red"
    assert isinstance(records[1], Failure)
    assert isinstance(records[2], Prediction)
    assert records[2].prediction == "blue"


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
@pytest.mark.parametrize("workers", [1, 4])
def test_records_do_not_depend_on_batches_or_threads(
    tmp_path: Path, encoder: FakeEncoder, batch_size: int, workers: int
) -> None:
    colours = ["red", "green", "blue", "yellow"] * 5
    paths = save_colours(tmp_path, colours)
    paths[7].write_bytes(b"")
    records = classify(paths, encoder, batch_size=batch_size, workers=workers)
    assert [record.index for record in records] == list(range(20))
    found = [r.prediction if isinstance(r, Prediction) else "failed" for r in records]
    assert found == [*colours[:7], "failed", *colours[8:]]
    reference = classify(paths, FakeEncoder(), batch_size=3, workers=2)
    for record, expected in zip(records, reference, strict=True):
        if isinstance(record, Prediction) and isinstance(expected, Prediction):
            np.testing.assert_allclose(record.probabilities, expected.probabilities, atol=1e-6)


def test_batches_are_cut_by_position_whatever_failed(tmp_path: Path, encoder: FakeEncoder) -> None:
    paths = save_colours(tmp_path, ["red"] * 7)
    paths[1].write_bytes(b"")
    classify(paths, encoder, batch_size=3)
    assert encoder.batch_sizes == [2, 3, 1]


def test_a_batch_of_failures_needs_no_model(tmp_path: Path, encoder: FakeEncoder) -> None:
    records = classify([tmp_path / "a.jpg", tmp_path / "b.jpg"], encoder)
    assert [type(record) for record in records] == [Failure, Failure]
    assert encoder.batch_sizes == []


def test_the_look_ahead_is_bounded(tmp_path: Path, encoder: FakeEncoder) -> None:
    path = save_colours(tmp_path, ["red"])[0]
    taken = 0

    def endless() -> Iterator[ImageRef]:
        nonlocal taken
        while True:
            taken += 1
            yield ImageRef(taken - 1, str(path))

    batches = stream(endless(), encoder, Stages(4, 2)).batches()
    next(batches)
    next(batches)
    # Two batches were handed out; the next ones may be waiting, but no more than that.
    time.sleep(0.3)
    assert taken <= 8 + 4 * LOOK_AHEAD_BATCHES
    batches.close()


def test_closing_early_leaves_no_thread_behind(tmp_path: Path, encoder: FakeEncoder) -> None:
    paths = save_colours(tmp_path, ["red"] * 30)
    batches = stream(listed(paths), encoder, Stages(2, 3)).batches()
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("clipcls-")]


def test_decoding_overlaps_with_encoding(tmp_path: Path) -> None:
    """The picture of batch two is prepared while batch one is still in the encoder."""
    second_prepared = threading.Event()
    paths = save_colours(tmp_path, ["red", "green"])

    class Waiting(FakeEncoder):
        def prepare(self, image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
            pixels = super().prepare(image)
            if pixels[1].mean() > 100:
                second_prepared.set()
            return pixels

        def encode_images(
            self, batch: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            assert second_prepared.wait(timeout=20)
            return super().encode_images(batch)

    assert len(classify(paths, Waiting(), batch_size=1, workers=1)) == 2


def test_a_silent_source_holds_back_no_finished_batch(tmp_path: Path, encoder: FakeEncoder) -> None:
    paths = save_colours(tmp_path, ["red", "green", "blue"])
    go_on, stopped = threading.Event(), threading.Event()

    def silent_after_three() -> Iterator[ImageRef]:
        for i, path in enumerate(paths):
            yield ImageRef(i, str(path))
        go_on.wait(timeout=60)

    images = stream(silent_after_three(), encoder, Stages(2, 2), stopped.is_set)
    batches = images.batches()
    assert [image.index for image in next(batches)] == [0, 1]
    # An interrupt is noticed although the source says nothing, and what came is not lost.
    threading.Timer(0.3, stopped.set).start()
    assert [image.index for batch in batches for image in batch] == [2]
    assert images.interrupted
    go_on.set()


def test_an_eager_stream_does_not_wait_for_a_full_batch(
    tmp_path: Path, encoder: FakeEncoder
) -> None:
    paths = save_colours(tmp_path, ["red", "green", "blue"])
    go_on = threading.Event()

    def silent_after_one() -> Iterator[ImageRef]:
        for ref in listed(paths):
            yield ref
            go_on.wait(timeout=60)

    batches = stream(silent_after_one(), encoder, Stages(32, 2, eager=True)).batches()
    assert [image.index for image in next(batches)] == [0]
    go_on.set()
    assert [image.index for batch in batches for image in batch] == [1, 2]


@pytest.mark.parametrize(("after", "interrupted"), [(1, True), (2, True), (3, False)])
def test_a_stop_after_the_last_image_interrupts_nothing(
    tmp_path: Path, encoder: FakeEncoder, after: int, interrupted: bool
) -> None:
    refs = listed(save_colours(tmp_path, ["red"] * 6))
    images = stream(refs, encoder, Stages(2, 2), lambda: len(encoder.batch_sizes) >= after)
    assert len(list(images)) == 2 * after
    assert images.interrupted is interrupted


def test_an_error_of_the_source_comes_after_what_it_gave(
    tmp_path: Path, encoder: FakeEncoder
) -> None:
    path = save_colours(tmp_path, ["red"])[0]

    def breaking() -> Iterator[ImageRef]:
        yield ImageRef(0, str(path))
        raise InputError("the list is broken")

    images = iter(stream(breaking(), encoder, Stages(4, 1)))
    assert next(images).path == str(path)
    with pytest.raises(InputError, match="the list is broken"):
        next(images)


def test_numbers_that_are_not_finite_are_a_failure(tmp_path: Path) -> None:
    class Overflowing(FakeEncoder):
        def encode_images(
            self, batch: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            rows = super().encode_images(batch)
            rows[0] = np.nan
            return rows

    first, second = classify(save_colours(tmp_path, ["red", "green"]), Overflowing())
    assert isinstance(first, Failure)
    assert "no finite numbers (--precision fp32)" in first.reason
    assert isinstance(second, Prediction)
    assert second.prediction == "green"


# ---- images that are fetched ----


@dataclass(frozen=True)
class Fetched:
    """A source in memory; `waits` holds its answer back until somebody lets go or stops."""

    data: bytes = b""
    error: str = ""
    waits: threading.Event | None = None
    reading: list[int] = field(default_factory=list)
    concurrency: int = 4

    def read(self, stopped: threading.Event) -> bytes:
        self.reading.append(1)
        while self.waits is not None and not (self.waits.is_set() or stopped.is_set()):
            time.sleep(0.01)
        if self.error:
            raise DecodeError(self.error)
        return self.data


def fetched(folder: Path, colours: list[str], **more: object) -> list[ImageRef]:
    paths = save_colours(folder, colours)
    return [
        ImageRef(i, f"https://h/{i}", Fetched(path.read_bytes(), **more))  # type: ignore[arg-type]
        for i, path in enumerate(paths)
    ]


def test_fetched_images_are_scored_like_files_in_their_places(
    tmp_path: Path, encoder: FakeEncoder
) -> None:
    colours = ["red", "green", "blue", "yellow"] * 5
    refs = fetched(tmp_path, colours)
    refs[3] = ImageRef(3, "https://h/3", Fetched(error="download failed: HTTP 404"))
    refs[7] = ImageRef(7, "https://h/7", Fetched(b"no image"))
    refs[8] = ImageRef(8, str(tmp_path / sorted(path.name for path in tmp_path.iterdir())[8]))
    scorer = Classifier(["red", "green", "blue", "yellow"], model=encoder).scorer
    records = list(score(stream(refs, encoder, Stages(3, 2)), scorer))
    assert [record.path for record in records] == [ref.path for ref in refs]
    failed = {r.index: r.reason for r in records if isinstance(r, Failure)}
    assert failed == {3: "download failed: HTTP 404", 7: "not an image"}
    scored = [r for r in records if isinstance(r, Prediction)]
    assert [r.prediction for r in scored] == [c for i, c in enumerate(colours) if i not in failed]


def test_as_many_are_fetched_at_once_as_the_source_says(
    tmp_path: Path, encoder: FakeEncoder
) -> None:
    go, reading = threading.Event(), list[int]()
    at_once: list[int] = []
    refs = fetched(tmp_path, ["red"] * 12, waits=go, reading=reading, concurrency=3)
    embeddings = iter(stream(refs, encoder, Stages(4, 1)))

    def let_go() -> None:
        at_once.extend(reading)
        go.set()

    threading.Timer(0.3, let_go).start()
    assert len(list(embeddings)) == 12
    assert len(at_once) == 3


def test_what_has_nothing_to_read_does_not_make_downloads_wait(
    tmp_path: Path, encoder: FakeEncoder
) -> None:
    together = threading.Barrier(3, timeout=20)

    class Meeting(Fetched):
        def read(self, stopped: threading.Event) -> bytes:
            together.wait()
            return self.data

    first = ImageRef(0, "row 0", Fetched(error="no image in this row", concurrency=1))
    data = save_colours(tmp_path, ["red"])[0].read_bytes()
    refs = [first, *(ImageRef(i, f"https://h/{i}", Meeting(data)) for i in (1, 2, 3))]
    reasons = [getattr(record, "reason", "") for record in stream(refs, encoder, Stages(4, 1))]
    assert reasons == ["no image in this row", "", "", ""]


def test_an_interrupt_does_not_wait_for_a_download(tmp_path: Path, encoder: FakeEncoder) -> None:
    refs = fetched(tmp_path, ["red"] * 4)
    refs += [
        replace(ref, index=ref.index + 4)
        for ref in fetched(tmp_path, ["red"] * 4, waits=threading.Event())
    ]
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    embeddings = stream(refs, encoder, Stages(4, 1), stopped.is_set)
    assert [record.index for record in embeddings] == [0, 1, 2, 3]
    assert embeddings.interrupted
    assert not [t for t in threading.enumerate() if t.name.startswith("clipcls-fetch")]


class Together(FakeEncoder):
    """Encodes no batch before another one is there too."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = threading.Barrier(2)

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.meeting.wait(timeout=60)
        return super().encode_images(batch)


def test_batches_that_are_encoded_together_keep_their_order(tmp_path: Path) -> None:
    paths = save_colours(tmp_path, ["red", "green", "blue", "red", "blue", "green", "red"])
    (tmp_path / "damaged.png").write_bytes(b"no image")
    refs = listed([*paths[:5], tmp_path / "damaged.png", *paths[5:]])
    plain = list(stream(refs, FakeEncoder(), Stages(2, 2)))
    together = list(stream(refs, Together(), Stages(2, 2, in_flight=2)))
    assert [image.path for image in together] == [image.path for image in plain]
    for ours, theirs in zip(together, plain, strict=True):
        assert type(ours) is type(theirs)
        if isinstance(ours, Embedded) and isinstance(theirs, Embedded):
            np.testing.assert_array_equal(ours.embedding, theirs.embedding)


def test_an_error_comes_after_all_that_came_before_it_also_when_batches_overlap(
    tmp_path: Path,
) -> None:
    paths = save_colours(tmp_path, ["red", "green", "blue"])

    def breaking() -> Iterator[ImageRef]:
        yield from listed(paths)
        raise InputError("the list is broken")

    images = iter(stream(breaking(), FakeEncoder(), Stages(1, 1, in_flight=2)))
    assert [next(images).path for _ in paths] == [str(path) for path in paths]
    with pytest.raises(InputError, match="the list is broken"):
        next(images)

    class Failing(FakeEncoder):
        def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            if batch[:, 1].mean() > 100:  # the green one
                raise DeviceError("gone")
            return super().encode_images(batch)

    images = iter(stream(listed(paths), Failing(), Stages(1, 1, in_flight=2)))
    assert next(images).path == str(paths[0])
    with pytest.raises(DeviceError, match="gone"):
        next(images)
    assert not [t for t in threading.enumerate() if t.name.startswith("clipcls-")]
