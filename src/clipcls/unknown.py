"""The words that compete with the labels for an image, so that one of none of them can be told.

The negative labels of NegLabel (arXiv:2403.20078): nouns far from every label. Words that mean the
same as a label, less or more are left out by what WordNet knows, since a kind of dog must not speak
against `dog` (arXiv:2507.09795), and the nearest of the rest by what the model makes of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipcls.errors import ModelError, OptionError
from clipcls.labels import default_wording
from clipcls.lexicon import lexicon
from clipcls.prompts import fill

if TYPE_CHECKING:
    from clipcls.models.base import Encoder

Float32 = NDArray[np.float32]

NEAREST = 0.05
"""The share of the words that is left out for being nearest to the labels."""

PERCENTILE = 0.95
"""Which of a word's similarities with the labels is its nearness: the paper's, so that one odd
label does not decide."""

LEAST = 100
"""With fewer words of the lexicon, the labels are too general for it."""

_BATCH = 128
_A_WHILE = 2.0


def competing_words(own: Sequence[str] | None, wordings: Sequence[str]) -> tuple[str, ...]:
    """Return words that mean something else than the labels.

    Args:
        own: The user's words, of which only those go that are a wording; None for the lexicon's.
        wordings: Of all labels.

    Raises:
        OptionError: Too few are left.
    """
    taken = {default_wording(wording).lower() for wording in wordings}
    if own is not None:
        words = tuple(word for word in own if default_wording(word).lower() not in taken)
        if not words:
            raise OptionError("--unknown-words holds nothing but labels: add other words")
        return words
    excluded = taken | lexicon().related(wordings)
    words = tuple(word for word in lexicon().words if word not in excluded)
    if len(words) < LEAST:
        raise OptionError(
            f"the labels are so general that only {len(words)} words mean something else: give"
            " words of your own with --unknown-words FILE"
        )
    return words


def embed_words(
    encoder: Encoder,
    words: Sequence[str],
    template: str,
    classes: Float32,
    tell: Callable[[str], None],
) -> Float32:
    """Return (M, D) float32 embeddings of the words that are not nearest to the labels.

    Args:
        encoder: The model; with a cache, it computes each word once.
        words: From `competing_words`.
        template: What the words are put into.
        classes: (C, D) float32 class embeddings, L2-normalised.
        tell: Told when it takes a while.

    Raises:
        ModelError: The model gives no finite numbers.
    """
    prompts = [fill(template, word) for word in words]
    parts = []
    began, told = time.perf_counter(), False
    for start in range(0, len(prompts), _BATCH):
        parts.append(encoder.encode_texts(prompts[start : start + _BATCH]))
        if not told and time.perf_counter() - began > _A_WHILE:
            tell(f"Encoding what is new of {len(prompts):,} words to tell the unknown by")
            told = True
    found = np.concatenate(parts)
    if not np.isfinite(found).all():
        raise ModelError(f"{encoder.name} gives no finite numbers for words (--precision fp32)")
    nearness = np.quantile(found @ classes.T, PERCENTILE, axis=1)
    farthest = np.argsort(nearness, kind="stable")[: len(words) - int(NEAREST * len(words))]
    return found[np.sort(farthest)]
