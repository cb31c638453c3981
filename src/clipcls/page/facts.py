"""The head of a page: what was run, and on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clipcls.outputs.manifest import model_of
from clipcls.page.subject import Subject
from clipcls.records import Failure

_MOST_PROMPTS = 3
"""Prompts of a label that are shown before the rest is counted."""


@dataclass(frozen=True)
class Facts:
    """What the head of a page says.

    Attributes:
        known: (name, value) of what was run; without a manifest little is known.
        complete: Whether the model and the prompts are known.
        prompts: (label, its first prompts, how many more) of each label.
        images: Number of images.
        failed: How many of them could not be scored.
        reasons: (reason, how many) of those, the most frequent first.
    """

    known: tuple[tuple[str, str], ...]
    complete: bool
    prompts: tuple[tuple[str, tuple[str, ...], int], ...]
    images: int
    failed: int
    reasons: tuple[tuple[str, int], ...]


def facts_of(subject: Subject) -> Facts:
    """Return what is known about how a subject came about."""
    reasons = Counter(r.reason for r in subject.records if isinstance(r, Failure))
    prompts = subject.made_by.get("prompts")
    texts = prompts if isinstance(prompts, Mapping) else {}
    return Facts(
        known=tuple(_known(subject.made_by)),
        complete=model_of(subject.made_by) is not None and bool(texts),
        prompts=tuple(
            (label, tuple(own[:_MOST_PROMPTS]), max(len(own) - _MOST_PROMPTS, 0))
            for label in subject.labels
            for own in [list(texts.get(label, ()))]
        ),
        images=len(subject.records),
        failed=reasons.total(),
        reasons=tuple(reasons.most_common()),
    )


def _known(made_by: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = model_of(made_by)
    if name is not None:
        yield "Model", name
        yield "Precision", str(made_by["model"].get("precision", "not known"))
    scoring = made_by.get("scoring", {})
    if scoring:
        yield "Scores", "each label alone" if scoring.get("multi_label") else "softmax"
    for key, title in (("threshold", "Threshold"), ("margin", "Margin")):
        if scoring.get(key) is not None:
            yield title, f"{scoring[key]:g}"
    if scoring.get("calibration"):
        yield "Calibrated", f"temperature {scoring['calibration'].get('temperature', 1):.3f}"
    fit = made_by.get("decode", {}).get("fit")
    if fit is not None:
        yield "Fit", str(fit)
    when = made_by.get("finished") or made_by.get("started")
    if when:
        yield "Date", datetime.fromisoformat(str(when)).strftime("%Y-%m-%d %H:%M %Z").strip()
    version = made_by.get("versions", {}).get("clipcls")
    if version:
        yield "clipcls", str(version)
