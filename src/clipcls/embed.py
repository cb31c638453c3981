"""References in, one embedding or failure each out, in input order.

Everything that needs image embeddings stands on `embed`; nothing else encodes images. Decode
threads work ahead of the encoder: Pillow and numpy release the interpreter lock, so images are
opened while the model computes. The look-ahead is bounded in batches, so memory does not grow with
the number of images, and a slow consumer slows the reading down.

Batches are cut by input position, not by what could be decoded: image i is always in batch
i // batch_size, whatever failed before it. That makes a resumed run compute the very batches that
the uninterrupted run would have computed, so that the bytes written are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipcls.cache import Shelf, Slot
from clipcls.errors import DecodeError
from clipcls.inputs.decode import load_image
from clipcls.inputs.refs import ImageRef, Source
from clipcls.options import DecodeOptions
from clipcls.records import Embedded, Failure

if TYPE_CHECKING:
    from clipcls.models.base import Encoder, Preparer

LOOK_AHEAD_BATCHES = 3
"""One batch is being encoded, one waits ready, one is being decoded; more only costs memory."""

_POLL_SECONDS = 0.1
"""How often a thread that waits looks whether it should stop."""


class _Pixels(NamedTuple):
    """An image ready for the model: (3, H, W) uint8, its note, and where its embedding is kept."""

    pixels: NDArray[np.uint8]
    note: str
    slot: Slot | None


Prepared = _Pixels | Embedded | Failure


@dataclass(frozen=True, slots=True)
class Stages:
    """How the work is cut up.

    Attributes:
        batch_size: Images per forward pass.
        workers: Decode threads.
        eager: Whether a batch goes on without being full when the source falls silent. What is
            computed together then depends on when the images came.
        in_flight: Batches that are encoded at once; then a finished one waits for the next.
    """

    batch_size: int
    workers: int
    eager: bool = False
    in_flight: int = 1


def embed(
    refs: Iterable[ImageRef],
    encoder: Encoder,
    decode: DecodeOptions,
    stages: Stages,
    should_stop: Callable[[], bool] = lambda: False,
    shelf: Shelf | None = None,
) -> EmbeddingStream:
    """Embed images: a stream of one `Embedded` or `Failure` per reference, in input order.

    Args:
        refs: The images; consumed in a thread, at most `LOOK_AHEAD_BATCHES` batches ahead.
        encoder: Turns images into unit vectors.
        decode: What is taken for an image.
        stages: How the work is cut up.
        should_stop: Asked between batches and while the source is silent (a pipe may be, for
            hours); True ends the stream after the images that have come.
        shelf: Where embeddings are found and kept; None computes all of them.
    """
    return EmbeddingStream(refs, encoder, decode, stages, should_stop, shelf)


class EmbeddingStream(Iterable[Embedded | Failure]):
    """What `embed` returns; can be iterated once, by image or by batch.

    Attributes:
        interrupted: Whether `should_stop` ended the stream before its source had ended.
        cached: How many embeddings so far were found in the cache.
    """

    def __init__(
        self,
        refs: Iterable[ImageRef],
        encoder: Encoder,
        decode: DecodeOptions,
        stages: Stages,
        should_stop: Callable[[], bool],
        shelf: Shelf | None,
    ) -> None:
        self._encoder = encoder
        self._decode = decode
        self._stages = stages
        self._should_stop = should_stop
        self._shelf = shelf
        self._stopped = Event()
        self._pool = ThreadPoolExecutor(stages.workers, thread_name_prefix="clipcls-decode")
        self._fetchers: dict[int, ThreadPoolExecutor] = {}
        # One batch at a time needs no thread but the consumer's own.
        self._encoders: ThreadPoolExecutor | None = None
        if stages.in_flight > 1:
            self._encoders = ThreadPoolExecutor(stages.in_flight, "clipcls-encode")
        self._feeder = _Feeder(refs, self._submitted, stages)
        self.interrupted = False
        self.cached = 0

    def __iter__(self) -> Iterator[Embedded | Failure]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Generator[list[Embedded | Failure], None, None]:
        """Yield the same by batch, each as soon as it is computed."""
        self.start()
        with closing(self):
            if self._encoders is None:
                yield from map(self._encoded, self._ready())
            else:
                yield from self._overlapped(self._encoders)

    def _ready(self) -> Iterator[list[tuple[ImageRef, Prepared]]]:
        """Yield batches that can be encoded, and count what needs no encoding."""
        while batch := self._feeder.take_batch(self._should_stop):
            if self._is_given_up(batch):
                self.interrupted = True
                return
            ready = [(ref, prepared.result()) for ref, prepared in batch]
            self.cached += sum(isinstance(prepared, Embedded) for _, prepared in ready)
            yield ready
            if self._should_stop():
                break
        self.interrupted = self._should_stop() and not self._feeder.is_drained()

    def _overlapped(self, encoders: ThreadPoolExecutor) -> Iterator[list[Embedded | Failure]]:
        """Encode several batches at once; an error of the source waits for what came before it."""
        ready, running = self._ready(), deque[Future[list[Embedded | Failure]]]()
        ended: Exception | None = None
        more = True
        while more or running:
            try:
                if more:
                    running.append(encoders.submit(self._encoded, next(ready)))
            except StopIteration:
                more = False
            except Exception as error:  # noqa: BLE001  raised again below
                more, ended = False, error
            if running and (not more or len(running) == self._stages.in_flight):
                yield running.popleft().result()
        if ended is not None:
            raise ended

    def start(self) -> None:
        """Begin with the first images, unless that was done; `close` must follow."""
        if not self._feeder.ident:
            self._feeder.start()

    def close(self) -> None:
        """End all threads; what was not yielded is lost."""
        self._stopped.set()
        self._feeder.stop()
        for fetchers in self._fetchers.values():
            fetchers.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._encoders is not None:
            self._encoders.shutdown(wait=True, cancel_futures=True)

    def _submitted(self, ref: ImageRef) -> Future[Prepared]:
        if ref.source is None:
            return self._pool.submit(self._prepare, ref)
        at_once = ref.source.concurrency
        if at_once not in self._fetchers:
            if self._stopped.is_set():
                raise RuntimeError("a reference came after the end of the stream")
            self._fetchers[at_once] = ThreadPoolExecutor(at_once, "clipcls-fetch")
        return self._fetchers[at_once].submit(self._fetch, ref, ref.source)

    def _fetch(self, ref: ImageRef, source: Source) -> Prepared:
        try:
            data = source.read(self._stopped)
        except DecodeError as error:
            return Failure(ref.index, ref.path, str(error), ref.kept)
        # Waiting here bounds the files in memory by the number of fetching threads.
        return self._pool.submit(self._prepare, ref, data).result()

    def _is_given_up(self, batch: list[tuple[ImageRef, Future[Prepared]]]) -> bool:
        """Wait for what is fetched; an interrupt ends that at once, and nothing is lost by it."""
        for ref, prepared in batch:
            while ref.source is not None and wait([prepared], _POLL_SECONDS).not_done:
                if self._should_stop():
                    return True
        return False

    def _prepare(self, ref: ImageRef, data: bytes | None = None) -> Prepared:
        slot = self._slot(ref, data)
        if slot is not None and slot.vector is not None:
            return Embedded(ref.index, ref.path, slot.vector, slot.note, ref.kept)
        return prepare(ref, data, self._encoder, self._decode, slot)

    def _slot(self, ref: ImageRef, data: bytes | None) -> Slot | None:
        if self._shelf is None:
            return None
        cache, key = self._shelf
        return cache.look_up(key, ref.path) if data is None else cache.look_up_bytes(key, data)

    def _encoded(self, batch: list[tuple[ImageRef, Prepared]]) -> list[Embedded | Failure]:
        return encoded(batch, self._encoder, self._shelf)


def prepare(
    ref: ImageRef,
    data: bytes | None,
    preparer: Preparer,
    decode: DecodeOptions,
    slot: Slot | None = None,
) -> Prepared:
    """Decode an image and bring it into the model's shape.

    Args:
        ref: The image.
        data: Its bytes; None reads its file.
        preparer: Knows the shape.
        decode: What is taken for an image.
        slot: Where its embedding is kept.
    """
    try:
        image = ref.path if data is None else data
        decoded = load_image(image, decode, max(preparer.image_size))
        # What was decoded must be what the slot is for.
        if slot is not None and data is None and not slot.is_of(ref.path):
            slot = None
        return _Pixels(preparer.prepare(decoded.image), decoded.note, slot)
    except DecodeError as error:
        return Failure(ref.index, ref.path, str(error), ref.kept)


def encoded(
    batch: Sequence[tuple[ImageRef, Prepared]], encoder: Encoder, shelf: Shelf | None = None
) -> list[Embedded | Failure]:
    """Embed a batch of prepared images in one pass, and keep what was computed."""
    ready = [prepared for _, prepared in batch if isinstance(prepared, _Pixels)]
    pixels = [image.pixels for image in ready]
    vectors = encoder.encode_images(np.stack(pixels)) if pixels else ()
    if shelf is not None:
        shelf.cache.keep(
            shelf.key,
            [
                Slot(image.slot.content, vector, image.note)
                for image, vector in zip(ready, vectors, strict=True)
                if image.slot is not None and np.isfinite(vector).all()
            ],
        )
    computed = iter(vectors)
    return [
        embedded(ref, next(computed), prepared.note) if isinstance(prepared, _Pixels) else prepared
        for ref, prepared in batch
    ]


def embedded(ref: ImageRef, vector: NDArray[np.float32], note: str) -> Embedded | Failure:
    """Return the record of an image's (D,) embedding, a failure where it is not finite."""
    if not np.isfinite(vector).all():
        reason = "the model gave no finite numbers (--precision fp32)"
        return Failure(ref.index, ref.path, reason, ref.kept)
    return Embedded(ref.index, ref.path, vector, note, ref.kept)


class _Feeder(Thread):
    """Pulls references and hands them to the decode threads, some batches ahead.

    In a thread of its own, because a source may block: batches that are decoded go on meanwhile,
    and the main thread stays free to notice an interrupt.
    """

    def __init__(
        self,
        refs: Iterable[ImageRef],
        submit: Callable[[ImageRef], Future[Prepared]],
        stages: Stages,
    ) -> None:
        # A daemon, because nothing can wake a thread that waits for a silent pipe.
        super().__init__(name="clipcls-feeder", daemon=True)
        self._refs = refs
        self._submit = submit
        self._stages = stages
        ahead = (LOOK_AHEAD_BATCHES - 1) * stages.batch_size
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
        except BaseException as error:  # noqa: BLE001  raised again where the batches are consumed
            self._put(error)

    def take_batch(
        self, should_stop: Callable[[], bool]
    ) -> list[tuple[ImageRef, Future[Prepared]]]:
        """Return the next batch: a full one, or what is left at the end, or nothing."""
        batch: list[tuple[ImageRef, Future[Prepared]]] = []
        while len(batch) < self._stages.batch_size and not self._ended:
            try:
                item = self._queue.get(timeout=_POLL_SECONDS)
            except Empty:
                if should_stop() or (batch and self._stages.eager):
                    break
                continue
            if isinstance(item, tuple):
                batch.append(item)
            else:
                self._ended, self._error = True, item
        if not batch and self._error is not None:
            raise self._error
        return batch

    def is_drained(self) -> bool:
        """Return whether the source has ended and all that came of it was taken."""
        if not self._ended:
            try:
                # A source at its end says so at once.
                self._ended = self._queue.get(timeout=_POLL_SECONDS) is None
            except Empty:
                return False
        return self._ended

    def stop(self) -> None:
        """Make the thread end; one that is blocked in its source is left behind."""
        self._stopped.set()
        if self.ident:
            self.join(timeout=5 * _POLL_SECONDS)

    def _put(self, item: tuple[ImageRef, Future[Prepared]] | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False
