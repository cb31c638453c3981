"""The head of a page: what was run, and on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

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
    texts = subject.known("prompts")
    return Facts(
        known=tuple(_known(subject)),
        complete=model_of(subject.made_by) is not None and bool(texts),
        prompts=tuple(
            (label, tuple(own[:_MOST_PROMPTS]), max(len(own) - _MOST_PROMPTS, 0))
            for label in subject.labels
            for own in [list(texts.get(label) or ())]
        ),
        images=len(subject.records),
        failed=reasons.total(),
        reasons=tuple(reasons.most_common()),
    )


def _known(subject: Subject) -> Iterator[tuple[str, str]]:
    name = model_of(subject.made_by)
    if name is not None:
        yield "Model", name
        yield "Precision", str(subject.known("model").get("precision", "not known"))
    scoring = subject.known("scoring")
    if scoring:
        yield "Scores", "each label alone" if scoring.get("multi_label") else "softmax"
    for key, title in (("threshold", "Threshold"), ("margin", "Margin")):
        if scoring.get(key) is not None:
            yield title, str(scoring[key])
    unknown = scoring.get("unknown")
    if unknown:
        words = "auto" if unknown.get("words") is None else "words of your own"
        limit = unknown.get("threshold")
        yield "Unknown", words if limit is None else f"{words}, above {limit}"
    if scoring.get("calibration"):
        yield "Calibrated", "yes"
    fit = subject.known("decode").get("fit")
    if fit is not None:
        yield "Fit", str(fit)
    when = subject.made_by.get("finished") or subject.made_by.get("started")
    if when:
        yield "Date", str(when).replace("T", " ").replace("+00:00", " UTC")
    version = subject.known("versions").get("clipcls")
    if version:
        yield "clipcls", str(version)
