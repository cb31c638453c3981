"""How much of each logit every part of an image carries: parts are covered, one after another.

Occlusion (Zeiler & Fergus 2014, arXiv:1311.2901) asks a model for nothing but embeddings, so it is
the same for every architecture. Large windows are covered everywhere, overlapping by half; then
small ones, where the large ones said that it matters.

Shapes: C labels, L of them explained, K windows, D embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipcls.records import Embedded
from clipcls.scoring import Float64, Scorer

if TYPE_CHECKING:
    from clipcls.models.base import Encoder

CELLS = 14
"""Parts of an image along each side: of 224 pixels, 16 each."""
COARSE, FINE = 4, 2
"""Parts along the side of a large and of a small window; 36 large ones cover the image."""
MOST_FINE = 24
"""Small windows that are covered, of 169."""

Pixels = NDArray[np.uint8]


class Window(NamedTuple):
    """A square of the grid, in parts."""

    top: int
    left: int
    side: int

    def of(self, height: int, width: int) -> tuple[slice, slice]:
        """Return its rows and columns in something of that size."""
        top, bottom = (round(y * height / CELLS) for y in (self.top, self.top + self.side))
        left, right = (round(x * width / CELLS) for x in (self.left, self.left + self.side))
        return slice(top, bottom), slice(left, right)


def windows(side: int) -> list[Window]:
    """Return the windows of a side, row by row, each overlapping the next by half."""
    places = range(0, CELLS - side + 1, side // 2)
    return [Window(top, left, side) for top in places for left in places]


def heat_of(
    pixels: Pixels, encoder: Encoder, scorer: Scorer, shown: Sequence[int], batch_size: int
) -> Float64:
    """Return how much of each label's lead every part of an image carries.

    The lead of a label is its logit minus the mean of all other labels' (of a single label, its
    logit). The heat of a part is how far the lead falls when a window with this part is covered by
    the image's mean colour, as the mean over the large windows plus that over the small ones. Where
    it is negative, the part speaks against the label.

    Args:
        pixels: (3, H, W) uint8, as the model's `prepare` gives them.
        encoder: The model.
        scorer: What turns an embedding into the logits of C labels.
        shown: The L labels to explain, as places among the C.
        batch_size: Images per pass through the model.

    Returns:
        (L, CELLS, CELLS) float64 in logits; not finite where the model gives no finite numbers.
    """

    def leads(batch: Pixels) -> Float64:
        """Return the (K, L) leads of (K, 3, H, W) images."""
        vectors = encoder.encode_images(batch)
        logits = np.array([scorer(Embedded(0, "", v)).logits for v in vectors], dtype=np.float64)
        own = logits[:, list(shown)]
        others: Float64 = (logits.sum(axis=1, keepdims=True) - own) / max(logits.shape[1] - 1, 1)
        return own - others

    whole = leads(pixels[None])

    def carried(chosen: Sequence[Window]) -> Float64:
        """Return the (L, CELLS, CELLS) mean falls over the windows that hold each part."""
        starts = range(0, len(chosen), batch_size)
        batches = [leads(_covered(pixels, chosen[i : i + batch_size])) for i in starts]
        falls = whole - np.concatenate(batches)
        held = np.zeros((len(chosen), CELLS, CELLS))
        for place, window in zip(held, chosen, strict=True):
            place[window.of(CELLS, CELLS)] = 1.0
        means: Float64 = np.einsum("kl,kyx->lyx", falls, held) / np.maximum(held.sum(axis=0), 1.0)
        return means

    coarse = carried(windows(COARSE))
    # Where a label is carried; the strongest part of each label counts as much as another's.
    shares = coarse / np.maximum(np.abs(coarse).max(axis=(1, 2), keepdims=True), 1e-12)
    fine = windows(FINE)
    matters = [shares[(..., *window.of(CELLS, CELLS))].mean(axis=(1, 2)).max() for window in fine]
    first = np.argsort(-np.array(matters), kind="stable")[:MOST_FINE]
    return coarse + carried([fine[i] for i in first])


def _covered(pixels: Pixels, chosen: Sequence[Window]) -> Pixels:
    """Return (K, 3, H, W) copies of an image, each with a window in the image's mean colour."""
    colour = np.round(pixels.mean(axis=(1, 2))).astype(np.uint8)
    copies = np.repeat(pixels[None], len(chosen), axis=0)
    for copy, window in zip(copies, chosen, strict=True):
        rows, columns = window.of(*pixels.shape[1:])
        copy[:, rows, columns] = colour[:, None, None]
    return copies
