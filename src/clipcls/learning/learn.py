"""From labelled images to a head: embed, judge, decide, and say what was found.

Shapes: N images, C labels, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clipcls.classifier import Classifier, ask
from clipcls.errors import HeadError
from clipcls.evaluation.bootstrap import Floats
from clipcls.evaluation.trial import Trial
from clipcls.evaluation.truth import Truth, find_truth
from clipcls.heads import Head, sketches
from clipcls.learning.curve import Point, learning_curve
from clipcls.learning.examples import Examples
from clipcls.learning.fitting import Fitted, fit_head
from clipcls.learning.judging import Judged, judge, near_duplicates
from clipcls.learning.linear import Linear
from clipcls.observer import Observer
from clipcls.options import HeadMethod, Precision
from clipcls.question import Question
from clipcls.records import Embedded, Failure, RunReport
from clipcls.text import listed, visible

if TYPE_CHECKING:
    from clipcls.models.base import Encoder

ZERO_SHOT = "zero-shot"
"""The method of a head that answers as the prompts do."""

ALIKE = 0.98
"""Two images of a higher cosine similarity are called near-duplicates."""


@dataclass(frozen=True)
class LearnOptions:
    """How a head is learned.

    Attributes:
        method: `auto` decides by the number of examples of a label.
        curve: Whether the learning curve is computed too.
        seed: Of the folds.
    """

    method: HeadMethod = HeadMethod.AUTO
    curve: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned.

    Attributes:
        head: What is to be written: the new head or, where that is no better, the zero-shot one.
        fitted: The new head as it was fitted.
        judged: How good the new head is.
        per_label: Label -> number of examples.
        failures: Images that could not be embedded.
        duplicates: The paths of pairs of near-duplicates that folds may separate.
        curve: The learning curve, empty unless it was wished.
    """

    head: Head
    fitted: Fitted
    judged: Judged
    per_label: dict[str, int]
    failures: tuple[Failure, ...] = ()
    duplicates: tuple[tuple[str, str], ...] = ()
    curve: tuple[Point, ...] = ()


def learn(
    trial: Trial,
    options: LearnOptions,
    observer: Observer | None = None,
    encoder: Encoder | None = None,
) -> Learned:
    """Learn a head from labelled images and judge it by cross-validation.

    Args:
        trial: The images, their truth, the labels and templates, the model.
        options: How.
        observer: Told about the progress.
        encoder: Used in place of the model that the trial names.

    Raises:
        ClipclsError: See `clipcls.errors`; what the user wrote is checked before a model is loaded.
    """
    observer = observer or Observer()
    truth = find_truth(trial.inputs, trial.table, trial.labels, replace(trial.truth, to_learn=True))
    observer.joined(truth.report.lines())
    _check_teaching(truth)
    asked = trial.labels or truth.labels
    known = {value for values in truth.values for value in values}
    if not known & {label.name for label in asked}:
        raise HeadError(
            f"no label has an example: the labels are {listed([a.name for a in asked])}, and the"
            f" truth is {listed(sorted(known))}: give the same ones, or --map VALUE=LABEL"
        )
    question = Question(asked, trial.templates, trial.scoring)
    classifier = ask(question, trial.model, trial.inputs.decode, encoder)
    records = _embedded(classifier, truth, observer)
    embedded = {i: record for i, record in enumerate(records) if isinstance(record, Embedded)}
    kept = list(embedded)
    failures = tuple(record for record in records if isinstance(record, Failure))
    if failures:
        _check_teaching(truth, kept, failures[0])
    embeddings = np.stack([record.embedding for record in embedded.values()]).astype(np.float64)
    examples, axes = _examples(classifier, truth, kept, embeddings)
    judged = judge(examples, options.method, options.seed)
    fitted = fit_head(examples, options.method, options.seed)
    curve = learning_curve(examples, options.method, judged, options.seed) if options.curve else ()
    paths = [record.path for record in embedded.values()]
    linear = fitted.linear
    if axes is not None:
        linear = Linear(linear.weights @ axes.T, linear.biases)
    found = Learned(
        head=_head(classifier, trial, truth, replace(fitted, linear=linear)),
        fitted=fitted,
        judged=judged,
        per_label=dict(zip(truth.names, examples.per_label.tolist(), strict=True)),
        failures=failures,
        duplicates=tuple(
            (paths[i], paths[j]) for i, j in near_duplicates(embeddings, examples.groups, ALIKE)
        ),
        curve=tuple(curve),
    )
    head = _zero_shot_head(classifier, found.head)
    if judged.is_better:
        head = replace(found.head, examples=sketches(embeddings))
    return replace(found, head=replace(head, figures=_document(found)))


def _check_teaching(
    truth: Truth, kept: list[int] | None = None, failure: Failure | None = None
) -> None:
    """Refuse examples that no head can be learned from, or judged on.

    Args:
        truth: All of them.
        kept: The places of those that could be embedded; None for all.
        failure: The first that could not.

    Raises:
        HeadError: Says which labels lack how many.
    """
    if failure is not None and not kept:
        raise HeadError(f"no image could be read: {visible(failure.path)}: {failure.reason}")
    places = range(len(truth.values)) if kept is None else kept
    counts = dict.fromkeys(truth.names, 0)
    for place in places:
        counts[truth.values[place][0]] += 1
    examples = {label: count for label, count in counts.items() if count}
    if len(examples) < 2:
        raise HeadError(
            f"a head tells labels apart, and of the labelled images all {len(places)} are"
            f" '{visible(next(iter(examples)))}': label some of another label too (--label-column"
            " names the column of the labels)"
        )
    enough = [label for label, count in examples.items() if count > 1]
    if len(enough) < 2:
        lacking = next(label for label, count in examples.items() if count == 1)
        raise HeadError(
            "to be judged on one and learned from another, two labels need 2 examples each:"
            f" '{visible(lacking)}' has 1, so label one more of it"
        )
    if truth.groups and len({truth.groups[place] or place for place in places}) < 2:
        raise HeadError(
            "all images are of one group, and a head is judged on groups that it did not learn"
            " from: give another --group-column, or leave it out"
        )


def _embedded(classifier: Classifier, truth: Truth, observer: Observer) -> list[Embedded | Failure]:
    """Embed the images of a truth, in its order."""
    classifier.warn = observer.warned
    device = classifier.device
    classifier.settle(tell=observer.downloading)
    observer.loading(classifier.name, device)
    observer.started(classifier.prompts, len(truth.refs), 0)
    records = []
    for record in classifier.embed(truth.refs):
        records.append(record)
        observer.worked()
    observer.finished(RunReport(model=classifier.name))
    return records


def _examples(
    classifier: Classifier, truth: Truth, kept: list[int], embeddings: Floats
) -> tuple[Examples, Floats | None]:
    """Return the examples, and the axes on which they lie.

    Where there are fewer images and labels than dimensions, all of them, and every head that is
    learned from them, lie in a space of so few dimensions; sums there are a fraction of the work.

    Returns:
        The examples, and (D, r) orthonormal axes; None where the dimensions are those of the model.
    """
    scorer = classifier.scorer
    places = {label: place for place, label in enumerate(truth.names)}
    prompted = np.array([label in scorer.labels for label in truth.names])
    weights = np.zeros((len(places), embeddings.shape[1]))
    own = scorer.scale * scorer.classes.astype(np.float64)
    weights[[places[label] for label in scorer.labels]] = own - own.mean(axis=0)
    axes = None
    if len(embeddings) + len(weights) < embeddings.shape[1]:
        axes, _ = np.linalg.qr(np.concatenate([embeddings, weights]).T)
        embeddings, weights = embeddings @ axes, weights @ axes
    cells = [truth.groups[place] or f"\0{place}" for place in kept]
    grouped = any(truth.groups[place] for place in kept)
    counts = np.array([truth.counts[place] for place in kept])
    examples = Examples(
        embeddings=embeddings,
        truth=np.array([places[truth.values[place][0]] for place in kept]),
        zero_shot=Linear(weights, np.zeros(len(places))),
        prompted=prompted,
        groups=np.unique(cells, return_inverse=True)[1] if grouped else None,
        # Where chance drew none of them, all are counted; the join has said so.
        counts=counts if counts.any() else None,
    )
    return examples, axes


def _head(classifier: Classifier, trial: Trial, truth: Truth, fitted: Fitted) -> Head:
    texts = dict(zip(classifier.labels, classifier.prompts.prompts, strict=True))
    return Head(
        labels=truth.names,
        prompts=tuple(texts.get(label, ()) for label in truth.names),
        weights=fitted.linear.weights.astype(np.float32),
        biases=fitted.linear.biases.astype(np.float32),
        temperature=fitted.temperature,
        method=fitted.method.value,
        model=classifier.name,
        model_fingerprint=classifier.fingerprint(Precision.FP32),
        architecture=trial.model.architecture,
    )


def _zero_shot_head(classifier: Classifier, head: Head) -> Head:
    """Return the head that answers as the prompts do."""
    scorer = classifier.scorer
    return replace(
        head,
        labels=classifier.labels,
        prompts=classifier.prompts.prompts,
        weights=(scorer.classes * np.float32(scorer.scale)).astype(np.float32),
        biases=np.full(len(scorer.labels), scorer.bias, dtype=np.float32),
        temperature=1.0,
        method=ZERO_SHOT,
    )


def _document(found: Learned) -> dict[str, Any]:
    """Return what is known of a head, ready for JSON."""
    judged = asdict(found.judged) | {"is_better": found.judged.is_better}
    del judged["right"]
    return {
        "examples": found.per_label,
        "tried": {"method": found.fitted.method.value, **found.fitted.settings},
        "judged": judged,
        "near_duplicates": len(found.duplicates),
        "curve": [asdict(point) for point in found.curve],
    }


def advice(found: Learned) -> Iterator[str]:
    """Yield what the user should know about the examples, a sentence each."""
    if found.failures:
        failure = found.failures[0]
        yield (
            f"{len(found.failures):,} image{'s' * (len(found.failures) > 1)} failed and taught"
            f" nothing ({visible(failure.path)}: {failure.reason})"
        )
    lone = [label for label, count in found.per_label.items() if count == 1]
    if lone:
        yield (
            f"'{visible(lone[0])}'{f' and {len(lone) - 1} more' if lone[1:] else ''} has one"
            " example, which teaches but cannot judge: label one more"
        )
    if found.duplicates:
        first, second = map(visible, found.duplicates[0])
        yield (
            f"{len(found.duplicates):,} pairs of images are nearly the same ({first} and {second}),"
            " so the figures may flatter: keep each together with --group-column"
        )
