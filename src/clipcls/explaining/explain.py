"""Images in, explanations out: each image's prediction with the heat of its labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from clipcls.embed import embedded
from clipcls.errors import DecodeError
from clipcls.explaining.occlusion import Pixels, heat_of
from clipcls.explaining.seen import Box, seen_of
from clipcls.inputs.decode import load_image
from clipcls.options import DecodeOptions
from clipcls.records import Failure, Prediction
from clipcls.scoring import Float64

if TYPE_CHECKING:
    from clipcls.classifier import Classifier
    from clipcls.inputs.refs import ImageRef

MOST_LABELS = 6
"""Labels of an image that are explained; of more, those of the highest logits."""


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Which parts of an image carry the logits of its labels.

    Attributes:
        prediction: As `clipcls classify` makes it.
        pixels: (3, H, W) uint8, the very pixels that the model saw.
        seen: Which part of the upright image these are.
        shown: The L explained labels, as places in the prediction's: all of them in their order or,
            of more than `MOST_LABELS`, those of the highest logits, best first.
        heat: (L, CELLS, CELLS) float64 in logits, see `clipcls.explaining.occlusion.heat_of`.
    """

    prediction: Prediction
    pixels: Pixels
    seen: Box
    shown: tuple[int, ...]
    heat: Float64


def explain(
    classifier: Classifier, refs: Iterable[ImageRef], decode: DecodeOptions | None = None
) -> Iterator[Explanation | Failure]:
    """Yield an explanation per image, or why there is none, in input order.

    One image takes about a hundred passes through the model, so reading it ahead would gain
    nothing; the cache of embeddings knows no covered images and is not asked.

    Args:
        classifier: Labels and model.
        refs: The images.
        decode: What is taken for an image, as the classifier has it.

    Raises:
        ClipclsError: The model cannot be loaded.
    """
    for ref in refs:
        try:
            yield _explained(classifier, ref, decode or DecodeOptions())
        except DecodeError as error:
            yield Failure(ref.index, ref.path, str(error))


def _explained(
    classifier: Classifier, ref: ImageRef, decode: DecodeOptions
) -> Explanation | Failure:
    encoder, scorer = classifier.encoder, classifier.scorer
    image = ref.path if ref.source is None else ref.source.read(Event())
    decoded = load_image(image, decode, max(encoder.image_size))
    pixels = encoder.prepare(decoded.image)
    [vector] = encoder.encode_images(pixels[None])
    found = embedded(ref, vector, decoded.note)
    if isinstance(found, Failure):
        return found
    prediction = scorer(found)
    few = len(prediction.labels) <= MOST_LABELS
    order = range(len(prediction.labels)) if few else (-prediction.logits).argsort(kind="stable")
    shown = tuple(int(place) for place in order[:MOST_LABELS])
    heat = heat_of(pixels, encoder, scorer, shown, classifier.device.batch_size)
    if not np.isfinite(heat).all():
        return Failure(ref.index, ref.path, "the model gave no finite numbers (--precision fp32)")
    return Explanation(prediction, pixels, seen_of(decoded.image.size, encoder), shown, heat)
