"""Outputs and pages out of thin air."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipcls.page.subject import Subject
from clipcls.records import Failure, Prediction, Record
from clipcls.testing import save_colours

COLOURS = ("red", "green", "blue")


def prediction(
    index: int,
    path: str,
    labels: Sequence[str],
    probabilities: Sequence[float],
    *,
    unknown: bool = False,
    note: str = "",
) -> Prediction:
    """One scored image; it is `unknown` where a threshold would say so."""
    known = np.array(probabilities, dtype=np.float64)
    best = int(known.argmax())
    return Prediction(
        index=index,
        path=path,
        labels=tuple(labels),
        prediction="unknown" if unknown else labels[best],
        probability=float(known[best]),
        probabilities=known,
        logits=known.astype(np.float32),
        similarities=known.astype(np.float32),
        note=note,
    )


def subject_of(paths: Sequence[str], labels: Sequence[str] = COLOURS, **more: Any) -> Subject:
    """The images scored at random, though always in the same way."""
    rng = np.random.default_rng(0)
    drawn = rng.dirichlet(np.full(len(labels), 0.4), len(paths))
    records: list[Record] = [
        prediction(i, path, labels, row)
        for i, (path, row) in enumerate(zip(paths, drawn, strict=True))
    ]
    return Subject("out.csv", tuple(labels), records, **more)


def with_failure(subject: Subject, path: str, reason: str) -> Subject:
    records = [*subject.records, Failure(len(subject.records), path, reason)]
    return Subject(subject.name, subject.labels, records)


def pictures(folder: Path, count: int = 6) -> list[str]:
    """Write so many small pictures and return their paths."""
    made = save_colours(folder, [COLOURS[i % 3] for i in range(count)])
    return [str(path) for path in made]


def embedded(page: Path) -> dict[str, Any]:
    """Return the JSON that a page's script reads."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content
