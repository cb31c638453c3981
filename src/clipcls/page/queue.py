"""Which images to label next: some drawn by chance, some that teach most.

The ones drawn by chance come in rounds. The images are sorted by confidence and cut into strata of
equal size, and a round holds one random image of each stratum, in random order. So after any number
of whole rounds every image had the same chance to be among them: the share of right predictions in
whole rounds is an unbiased estimate of the accuracy over all scored images, and every other figure
may be taken from them without weights. A round that is not finished says nothing yet, because what
a person leaves for later is not left by chance.

Shapes: N images, C labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipcls.scoring import Float64

STRATA = 10
"""Images of a round, where there are enough."""
_POOL = 10
"""Among so many times the wanted images, the most uncertain, variety is looked for."""


def rounds(confidence: Float64, seed: int = 0) -> list[list[int]]:
    """Return all images in rounds, each a stratified random sample.

    Args:
        confidence: (N,) the probability of each image's best label.
        seed: Of the draw; the same images give the same rounds.

    Returns:
        Places of images, each once. What is left when N is no multiple of the strata was chosen by
        chance too, and is the last round.
    """
    rng = np.random.default_rng(seed)
    count = len(confidence)
    strata = min(STRATA, max(1, count // 2))
    whole = count - count % strata
    drawn = rng.permutation(count)
    kept, rest = drawn[:whole], drawn[whole:]
    by_confidence = kept[np.argsort(confidence[kept], kind="stable")].reshape(strata, -1)
    columns = rng.permuted(by_confidence, axis=1).T
    shuffled = rng.permuted(columns, axis=1).tolist()
    return [*shuffled, rest.tolist()] if len(rest) else shuffled


def teaching(probabilities: Float64, margin: Float64, wanted: int) -> list[int]:
    """Return images that teach much: uncertain ones, each unlike those before it.

    The first is the most uncertain one. Each next one has, among the most uncertain, the largest
    product of uncertainty and distance to its nearest predecessor (farthest first, Gonzalez 1985);
    the distance is Hellinger's, between probability vectors. Outputs hold no embeddings, so two
    images that look different but are scored alike count as alike.

    Args:
        probabilities: (N, C), NaN where not known.
        margin: (N,) best minus second best probability.
        wanted: How many at most.
    """
    pool = np.argsort(margin, kind="stable")[: _POOL * wanted]
    roots = np.sqrt(np.nan_to_num(probabilities[pool]))
    uncertainty = 1 - margin[pool]
    nearest: NDArray[np.float64] = np.full(len(pool), np.inf)
    chosen: list[int] = []
    place = 0
    while len(chosen) < min(wanted, len(pool)):
        chosen.append(place)
        distance = np.sqrt(((roots - roots[place]) ** 2).sum(axis=1) / 2)
        nearest = np.minimum(nearest, distance)
        # Also where many are scored alike, none comes twice.
        nearest[place] = -1.0
        place = int(np.argmax(uncertainty * nearest + 1e-9 * (nearest >= 0)))
    return [int(i) for i in pool[chosen]]
