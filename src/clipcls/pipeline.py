"""The flow of a run: references in, one record each out, in input order.

Decode threads work ahead of the encoder: Pillow and numpy release the interpreter lock, so pictures
are opened while the model computes. The look-ahead is bounded in batches, so memory does not grow
with the number of pictures, and a slow consumer slows the reading down.

Batches are cut by input position, not by what could be decoded: picture i is always in batch
i // batch_size, whatever failed before it. That makes a resumed run compute the very batches that
the uninterrupted run would have computed, so that the bytes written are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipcls.errors import DecodeError
from clipcls.inputs.decode import load_image
from clipcls.inputs.refs import ImageRef
from clipcls.options import DecodeOptions
from clipcls.records import Failure, Prediction, Record
from clipcls.scoring import Scorer, Scores

if TYPE_CHECKING:
    from clipcls.models.openclip import Encoder

LOOK_AHEAD_BATCHES = 3
"""One batch is being encoded, one waits ready, one is being decoded; more only costs memory."""

_POLL_SECONDS = 0.1
"""How often a thread that waits looks whether it should stop."""

Pixels = NDArray[np.uint8]
Prepared = tuple[Pixels, str] | Failure


def classify_refs(
    refs: Iterable[ImageRef],
    encoder: Encoder,
    scorer: Scorer,
    decode: DecodeOptions,
    pace: Pace,
) -> Generator[Record, None, None]:
    """Yield one `Prediction` or `Failure` per reference, in input order.

    Args:
        refs: The pictures; consumed in a thread, at most `LOOK_AHEAD_BATCHES` batches ahead.
        encoder: Turns pictures into unit vectors.
        scorer: Turns unit vectors into predictions.
        decode: What is taken for a picture.
        pace: How many at a time, and when to stop.
    """

    def prepare(ref: ImageRef) -> Prepared:
        try:
            decoded = load_image(ref.path, decode)
            return encoder.prepare(decoded.image), decoded.note
        except DecodeError as error:
            return Failure(ref.index, ref.path, str(error))

    pool = ThreadPoolExecutor(pace.workers, thread_name_prefix="clipcls-decode")
    feeder = _Feeder(refs, lambda ref: pool.submit(prepare, ref), pace)
    feeder.start()
    try:
        while batch := feeder.take_batch():
            yield from _score_batch(
                [(ref, ready.result()) for ref, ready in batch], encoder, scorer
            )
    finally:
        feeder.stop()
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a pipeline goes.

    Attributes:
        batch_size: Pictures per forward pass.
        workers: Decode threads.
        should_stop: Asked while the pipeline waits for its source (a pipe may be silent for
            hours); True ends the stream after the pictures that have come.
    """

    batch_size: int
    workers: int
    should_stop: Callable[[], bool] = lambda: False


class _Feeder(Thread):
    """Pulls references and hands them to the decode threads, some batches ahead.

    In a thread of its own, because a source may block: batches that are decoded go on meanwhile,
    and the main thread stays free to notice an interrupt.
    """

    def __init__(
        self,
        refs: Iterable[ImageRef],
        submit: Callable[[ImageRef], Future[Prepared]],
        pace: Pace,
    ) -> None:
        # A daemon, because nothing can wake a thread that waits for a silent pipe.
        super().__init__(name="clipcls-feeder", daemon=True)
        self._refs = refs
        self._submit = submit
        self._pace = pace
        ahead = (LOOK_AHEAD_BATCHES - 1) * pace.batch_size
        self._queue: Queue[tuple[ImageRef, Future[Prepared]] | BaseException | None] = Queue(ahead)
        self._stopped = Event()
        self._ended = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """Feed until the source ends; its end or its error is the last thing in the queue."""
        try:
            for ref in self._refs:
                if self._stopped.is_set() or not self._put((ref, self._submit(ref))):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001  raised again where the records are consumed
            self._put(error)

    def take_batch(self) -> list[tuple[ImageRef, Future[Prepared]]]:
        """Return the next batch: a full one, or what is left at the end, or nothing."""
        batch: list[tuple[ImageRef, Future[Prepared]]] = []
        while len(batch) < self._pace.batch_size and not self._ended:
            try:
                item = self._queue.get(timeout=_POLL_SECONDS)
            except Empty:
                self._ended = self._pace.should_stop()
                continue
            if isinstance(item, tuple):
                batch.append(item)
            else:
                self._ended, self._error = True, item
        if not batch and self._error is not None:
            raise self._error
        return batch

    def stop(self) -> None:
        """Make the thread end; one that is blocked in its source is left behind."""
        self._stopped.set()
        self.join(timeout=2 * _POLL_SECONDS)

    def _put(self, item: tuple[ImageRef, Future[Prepared]] | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False


def record_of(ref: ImageRef, scores: Scores, row: int, note: str) -> Record:
    """Return the record of one row of a batch's scores."""
    prediction = scores.predictions[row]
    if prediction is None:
        return Failure(ref.index, ref.path, "the model gave no finite numbers (--precision fp32)")
    return Prediction(
        index=ref.index,
        path=ref.path,
        labels=scores.labels,
        prediction=prediction,
        probability=float(scores.probabilities[row].max()),
        probabilities=scores.probabilities[row],
        logits=scores.logits[row],
        similarities=scores.similarities[row],
        note=note,
    )


def _score_batch(
    batch: list[tuple[ImageRef, Prepared]], encoder: Encoder, scorer: Scorer
) -> Iterator[Record]:
    pixels = [result[0] for _, result in batch if not isinstance(result, Failure)]
    if pixels:
        scores = scorer(encoder.encode_images(np.stack(pixels)))
    row = 0
    for ref, result in batch:
        if isinstance(result, Failure):
            yield result
            continue
        yield record_of(ref, scores, row, result[1])
        row += 1
