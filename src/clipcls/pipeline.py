"""The flow of a run: references in, one record each out, in input order.

Decode threads work ahead of the encoder: Pillow and numpy release the interpreter lock, so pictures
are opened while the model computes. The look-ahead is bounded in batches, so memory does not grow
with the number of pictures, and a slow consumer slows the reading down.

Batches are cut by input position, not by what could be decoded: picture i is always in batch
i // batch_size, whatever failed before it. That makes a resumed run compute the very batches that
the uninterrupted run would have computed, so that the bytes written are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipcls.decode import load_image
from clipcls.errors import DecodeError
from clipcls.options import DecodeOptions
from clipcls.records import Failure, ImageRef, Prediction, Record
from clipcls.scoring import Scorer

if TYPE_CHECKING:
    from clipcls.encoder import Encoder

LOOK_AHEAD_BATCHES = 3
"""One batch is being encoded, one waits ready, one is being decoded; more only costs memory."""

Pixels = NDArray[np.uint8]


def classify_refs(
    refs: Iterable[ImageRef],
    encoder: Encoder,
    scorer: Scorer,
    decode: DecodeOptions,
    *,
    batch_size: int,
    workers: int,
) -> Iterator[Record]:
    """Yield one `Prediction` or `Failure` per reference, in input order.

    Args:
        refs: The pictures; consumed at most `LOOK_AHEAD_BATCHES` batches ahead.
        encoder: Turns pictures into unit vectors.
        scorer: Turns unit vectors into predictions.
        decode: What is taken for a picture.
        batch_size: Pictures per forward pass.
        workers: Decode threads.
    """

    def prepare(ref: ImageRef) -> tuple[Pixels, str] | Failure:
        try:
            decoded = load_image(ref.path, decode)
            return encoder.prepare(decoded.image), decoded.note
        except DecodeError as error:
            return Failure(ref.index, ref.path, str(error))
        except MemoryError:
            return Failure(ref.index, ref.path, "not enough memory to resize the picture")

    for batch in _in_batches(refs, prepare, batch_size=batch_size, workers=workers):
        yield from _score_batch(batch, encoder, scorer)


def _in_batches(
    refs: Iterable[ImageRef],
    prepare: Callable[[ImageRef], tuple[Pixels, str] | Failure],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[list[tuple[ImageRef, tuple[Pixels, str] | Failure]]]:
    """Yield lists of (reference, result) while the threads work on the lists that follow."""
    source = iter(refs)
    waiting: deque[list[tuple[ImageRef, Future[tuple[Pixels, str] | Failure]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="clipcls-decode")
    try:
        while True:
            while len(waiting) < LOOK_AHEAD_BATCHES:
                batch = [(ref, pool.submit(prepare, ref)) for ref in islice(source, batch_size)]
                if not batch:
                    break
                waiting.append(batch)
            if not waiting:
                return
            yield [(ref, future.result()) for ref, future in waiting.popleft()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _score_batch(
    batch: list[tuple[ImageRef, tuple[Pixels, str] | Failure]], encoder: Encoder, scorer: Scorer
) -> Iterator[Record]:
    pixels = [result[0] for _, result in batch if not isinstance(result, Failure)]
    if pixels:
        scores = scorer(encoder.encode_images(np.stack(pixels)))
    row = 0
    for ref, result in batch:
        if isinstance(result, Failure):
            yield result
            continue
        probabilities = scores.probabilities[row]
        yield Prediction(
            index=ref.index,
            path=ref.path,
            labels=scorer.labels,
            prediction=scores.predictions[row],
            probability=float(probabilities.max()),
            probabilities=probabilities,
            logits=scores.logits[row],
            similarities=scores.similarities[row],
            note=result[1],
        )
        row += 1
