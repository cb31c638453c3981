"""A subject as the JSON that the page's script reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clipcls.columns import CHANCE, CHOSEN_BY, PERSON, QUEUE
from clipcls.evaluation.unknown import is_unknown
from clipcls.page.queue import rounds, teaching
from clipcls.page.subject import Subject
from clipcls.page.thumbnails import Thumbnail
from clipcls.records import UNKNOWN, Failure, Prediction
from clipcls.scoring import Float64
from clipcls.text import printable_path

TEACHING = 300
"""So many images are queued because they teach, at most."""
MOST_BARS = 100
"""Labels of an image whose probability the page knows; the rest is counted."""
_SMALLEST = 5e-5
"""A probability below shows as 0.00 %."""


def content_of(subject: Subject) -> dict[str, Any]:
    """Return everything that the page's script needs but the thumbnails.

    One list per property, an item per image: that is smaller, and faster to read, than an object
    per image. Labels are places in `labels`; C stands for `unknown`, -1 for a failure.
    """
    places = {label: place for place, label in enumerate((*subject.labels, UNKNOWN))}
    records = subject.records
    scored = [i for i, record in enumerate(records) if isinstance(record, Prediction)]
    predictions = [record for record in records if isinstance(record, Prediction)]
    known = np.array([p.probabilities for p in predictions]).reshape(-1, len(subject.labels))
    margin, entropy = _margins(known), _entropies(known, multi_label=subject.multi_label)
    confidence = np.array([p.probability for p in predictions])

    def spread(values: Float64, digits: int) -> list[float | None]:
        """Return a value for every image; None for failures and what is not known."""
        cells: list[float | None] = [None] * len(records)
        for i, value in zip(scored, values.round(digits).tolist(), strict=True):
            cells[i] = value if value == value else None
        return cells

    def queued(chosen: Sequence[int]) -> list[int]:
        return [scored[i] for i in chosen]

    truth = subject.truth
    bars = {i: _bars(p) for i, p in zip(scored, predictions, strict=True)}
    content: dict[str, Any] = {
        "name": subject.name,
        "labels": list(subject.labels),
        "unknown": UNKNOWN,
        "multiLabel": subject.multi_label,
        "paths": [printable_path(record.path) for record in records],
        "predicted": [
            -1 if isinstance(record, Failure) else places[record.prediction] for record in records
        ],
        "probability": spread(confidence, 6),
        "margin": spread(margin, 6),
        "entropy": spread(entropy, 6),
        "bars": [bars.get(i, []) for i in range(len(records))],
        "errors": {
            i: printable_path(r.reason) for i, r in enumerate(records) if isinstance(r, Failure)
        },
        "notes": {
            i: printable_path(p.note) for i, p in zip(scored, predictions, strict=True) if p.note
        },
        "truth": truth and [[places[label] for label in labels] for labels in truth],
    }
    # Another page must not find the corrections of this one, and this one made again must.
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    column = {"name": CHOSEN_BY, "chance": CHANCE, "queue": QUEUE, "person": PERSON}
    queue = {
        "rounds": [queued(part) for part in rounds(confidence)],
        "teaching": queued(teaching(known, margin, TEACHING)),
    }
    asked = any(p.p_unknown is not None for p in predictions)
    takes_unknown = asked or any(is_unknown(labels, subject.labels) for labels in truth or ())
    more = {"queue": queue, "chosenBy": column, "takesUnknown": takes_unknown}
    share = np.array([p.p_unknown for p in predictions], dtype=np.float64)
    return {**content, "digest": digest, "pUnknown": spread(share, 6), **more}


def shown(content: Mapping[str, Any], made: Sequence[Thumbnail], folder: str) -> dict[str, Any]:
    """Return the content with what the page has of each image.

    Args:
        content: From `content_of`.
        made: The thumbnails.
        folder: Where they lie beside the page; empty where they are in it.
    """
    return {
        **content,
        "folder": folder,
        "links": [thumbnail.link for thumbnail in made],
        "missing": {i: t.reason for i, t in enumerate(made) if t.reason},
    }


def _margins(probabilities: Float64) -> Float64:
    """Return (N,) best minus second best probability; of a single label, its probability."""
    if probabilities.shape[1] < 2:
        return np.nan_to_num(probabilities[:, 0])
    best = np.sort(np.nan_to_num(probabilities), axis=1)[:, -2:]
    margins: Float64 = best[:, 1] - best[:, 0]
    return margins


def _entropies(probabilities: Float64, *, multi_label: bool) -> Float64:
    """Return (N,) entropies as a share of the highest possible one; NaN where not all is known."""
    labels = probabilities.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [probabilities, 1 - probabilities] if multi_label else [probabilities]
        bits = sum(np.where(part == 0, 0.0, -part * np.log2(part)) for part in parts)
        entropies: Float64 = np.sum(bits, axis=1)
    most = labels if multi_label else np.log2(labels) if labels > 1 else 1.0
    return entropies / most


def _bars(prediction: Prediction) -> list[float]:
    """Return label, probability, label, probability, ... of the labels that show, best first."""
    order = (-prediction.logits).argsort(kind="stable")[:MOST_BARS]
    kept = [i for i in order.tolist() if prediction.probabilities[i] >= _SMALLEST]
    return [x for i in kept for x in (i, round(float(prediction.probabilities[i]), 4))]
