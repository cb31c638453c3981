"""Scores and outcomes out of thin air."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from clipcls.evaluation.bootstrap import Bools, Floats, Ints
from clipcls.evaluation.compare import Outcome
from clipcls.evaluation.metrics import Scores
from clipcls.records import Failure, Prediction, Record
from clipcls.scoring import sigmoid, softmax


def names(count: int) -> tuple[str, ...]:
    return tuple(f"label {i}" for i in range(count))


def scores_of(logits: Floats, truth: Sequence[int] | Ints, predicted: Ints | None = None) -> Scores:
    images, labels = logits.shape
    return Scores(
        labels=names(labels),
        paths=tuple(f"{i}.jpg" for i in range(images)),
        truth=np.asarray(truth, dtype=np.int64),
        predicted=logits.argmax(axis=1) if predicted is None else predicted,
        probabilities=softmax(logits.astype(np.float32)),
        ranks=logits,
    )


def example(
    labels: int,
    images: int = 60,
    *,
    ties: bool = False,
    absent: bool = False,
    unknown: bool = False,
    seed: int = 0,
) -> Scores:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels - absent, images)
    logits = rng.normal(0, 1, (images, labels))
    logits[np.arange(images), truth] += 1.0
    if ties:
        logits = np.rint(logits)
    predicted = logits.argmax(axis=1)
    if unknown:
        predicted[rng.random(images) < 0.2] = labels
    return scores_of(logits, truth, predicted)


def multi_label_example(
    labels: int, images: int = 60, *, ties: bool = False, absent: bool = False, seed: int = 0
) -> tuple[Bools, Floats]:
    rng = np.random.default_rng(seed)
    truth = rng.random((images, labels)) < 0.3
    truth[:, labels - absent :] = False
    logits = rng.normal(-0.5, 1, (images, labels)) + truth
    return truth, sigmoid((np.rint(logits) if ties else logits).astype(np.float32))


def outcome_of(
    logits: Floats,
    truth: Sequence[int] | Ints,
    *,
    name: str = "base",
    failed: Collection[int] = (),
    threshold: float | None = None,
) -> Outcome:
    labels = names(logits.shape[1])
    records: list[Record] = []
    for i, row in enumerate(logits.astype(np.float32)):
        probabilities, best = softmax(row), int(row.argmax())
        kept = threshold is None or probabilities[best] >= threshold
        records.append(
            Failure(i, f"{i}.jpg", "corrupt")
            if i in failed
            else Prediction(
                index=i,
                path=f"{i}.jpg",
                labels=labels,
                prediction=labels[best] if kept else "unknown",
                probability=float(probabilities[best]),
                probabilities=probabilities,
                logits=row,
                similarities=row,
            )
        )
    return Outcome(
        name=name,
        labels=labels,
        records=records,
        truth=[(labels[place],) for place in truth],
        multi_label=False,
        made_by={
            "model": {"name": "fake", "precision": "fp32", "fingerprint": "print"},
            "model_fingerprint": "print",
            "prompts": {label: (f"a photo of a {label}",) for label in labels},
        },
    )


def multi_label_outcome(
    truth: Bools, probabilities: Floats, *, name: str = "base", failed: Collection[int] = ()
) -> Outcome:
    labels = names(truth.shape[1])
    records: list[Record] = [
        Failure(i, f"{i}.jpg", "corrupt")
        if i in failed
        else Prediction(
            index=i,
            path=f"{i}.jpg",
            labels=labels,
            prediction=labels[int(row.argmax())],
            probability=float(row.max()),
            probabilities=row,
            logits=row.astype(np.float32),
            similarities=row.astype(np.float32),
        )
        for i, row in enumerate(probabilities)
    ]
    return Outcome(
        name=name,
        labels=labels,
        records=records,
        truth=[tuple(np.array(labels)[row].tolist()) for row in truth],
        multi_label=True,
        made_by={},
    )
