"""Variants of a question over the same images: scored together, compared pair by pair.

Images are embedded once per model, however many variants ask it. Two variants are told apart by the
images on which they disagree (McNemar 1947, exact), and p-values are adjusted for the number of
pairs (Holm 1979), because the best of ten equal wordings always looks good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from clipcls.classifier import ask
from clipcls.errors import OptionError
from clipcls.evaluation.bootstrap import (
    RESAMPLES,
    Bools,
    Figure,
    Floats,
    Weighted,
    bootstrap,
    interval,
    means_of,
    ranking_figures,
)
from clipcls.evaluation.metrics import Metrics, Scores, measure, measure_multi_label
from clipcls.evaluation.truth import Truth
from clipcls.evaluation.unknown import UnknownFigures, is_unknown, measure_unknown
from clipcls.observer import Observer
from clipcls.options import DecodeOptions, Precision
from clipcls.question import ModelChoice, Question
from clipcls.records import Embedded, Failure, Prediction, Record, RunReport
from clipcls.scoring import score

if TYPE_CHECKING:
    from clipcls.models.base import Encoder

SIGNIFICANT = 0.05
"""An adjusted p-value below this is called beyond chance."""


@dataclass(frozen=True)
class Variant:
    """One way to ask.

    Attributes:
        name: What tables call it.
        question: Labels, templates, scoring.
        model: Which model answers.
    """

    name: str
    question: Question
    model: ModelChoice


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a variant.

    Attributes:
        name: The variant's.
        records: One per image, in the order of the truth.
        multi_label: Whether the truth is any number of labels to an image.
        truth: Of each image, in the same order; `unknown` where it is of none of the labels. Such
            images count in no figure but those of `unknown_figures`.
        labels: The C labels.
        made_by: What made the records, as far as it is known: model, prompts, scoring.
        resolution: As in `Scores`.
    """

    name: str
    labels: tuple[str, ...]
    records: Sequence[Record]
    truth: Sequence[tuple[str, ...]]
    multi_label: bool
    made_by: Mapping[str, Any]
    resolution: float = 1e-15

    @property
    def failures(self) -> list[Failure]:
        """The images without a score."""
        return [record for record in self.records if isinstance(record, Failure)]

    @property
    def turned_down_by(self) -> tuple[str, ...]:
        """What makes predictions `unknown` besides a threshold: `unknown` (its words), `margin`."""
        asked = any(isinstance(r, Prediction) and r.p_unknown is not None for r in self.records)
        margin = self.made_by.get("scoring", {}).get("margin") is not None
        return ("unknown",) * asked + ("margin",) * margin

    def scores(self) -> Scores:
        """Return the scored images with their truth, one label each.

        Raises:
            OptionError: No image was scored.
        """
        pairs = self._scored()
        places = {label: place for place, label in enumerate(self.labels)}
        predicted = np.array([places.get(record.prediction, len(places)) for record, _ in pairs])
        return Scores(
            labels=self.labels,
            paths=tuple(record.path for record, _ in pairs),
            truth=np.array([places[values[0]] for _, values in pairs]),
            predicted=predicted,
            probabilities=np.stack([record.probabilities for record, _ in pairs]),
            ranks=np.stack([record.logits for record, _ in pairs]).astype(np.float64),
            resolution=self.resolution,
            turned_down=predicted == len(places) if self.turned_down_by else None,
        )

    def truth_matrix(self) -> Bools:
        """Return (N, C) bool: which labels are true of the scored images."""
        rows = [[label in values for label in self.labels] for _, values in self._scored()]
        return np.array(rows, dtype=bool)

    def probabilities(self) -> Floats:
        """Return (N, C) float64 of the scored images."""
        return np.stack([record.probabilities for record, _ in self._scored()])

    def metrics(self) -> Metrics:
        """Return the figures.

        Raises:
            OptionError: No image was scored.
        """
        if self.multi_label:
            asked = self.made_by.get("scoring", {}).get("threshold")
            own = () if asked is None else (asked,)
            return measure_multi_label(self.labels, self.truth_matrix(), self.probabilities(), *own)
        return measure(self.scores())

    def _scored(self) -> list[tuple[Prediction, tuple[str, ...]]]:
        scored = [
            (record, values)
            for record, values in zip(self.records, self.truth, strict=True)
            if isinstance(record, Prediction) and not is_unknown(values, self.labels)
        ]
        if not scored:
            raise OptionError(
                f"none of the {len(self.records)} images could be scored: {self.failures[0].path}:"
                f" {self.failures[0].reason}"
            )
        return scored

    def unknown_figures(self) -> UnknownFigures | None:
        """Return how well images of none of the labels are told.

        None where there are none, and nothing was done to tell them.
        """
        records, of_none = self._by_unknown()
        wanted = of_none.any() or "unknown" in self.turned_down_by
        return measure_unknown(records, of_none) if wanted else None

    def unknown_shares(self) -> tuple[Floats, Bools]:
        """Return (N,) `p_unknown`, NaN where it was not asked, and whether truth is `unknown`."""
        records, of_none = self._by_unknown()
        return np.array([record.p_unknown for record in records], dtype=np.float64), of_none

    def _by_unknown(self) -> tuple[list[Prediction], Bools]:
        pairs = zip(self.records, self.truth, strict=True)
        scored = [(r, is_unknown(v, self.labels)) for r, v in pairs if isinstance(r, Prediction)]
        return [record for record, _ in scored], np.array([of for _, of in scored], dtype=bool)


def score_variants(
    truth: Truth,
    variants: Sequence[Variant],
    decode: DecodeOptions,
    observer: Observer | None = None,
    encoder: Encoder | None = None,
) -> list[Outcome]:
    """Score the images of a truth once for each variant.

    Args:
        truth: Images and labels; the labels of every variant have the same names.
        variants: What is asked.
        decode: What is taken for an image.
        observer: Told about the progress.
        encoder: Used in place of the models that the variants name.

    Returns:
        One outcome per variant, in order.

    Raises:
        ClipclsError: As from `Classifier`.
    """
    observer = observer or Observer()
    # All of them are built before a model is loaded: what is written wrongly shows at once.
    for variant in variants:
        ask(variant.question, variant.model, decode, encoder)
    groups: dict[tuple[str, str | None], list[Variant]] = {}
    for variant in variants:
        groups.setdefault((variant.model.word, variant.model.architecture), []).append(variant)
    outcomes = {
        outcome.name: outcome
        for group in groups.values()
        for outcome in _score_group(group, truth, decode, observer, encoder)
    }
    return [outcomes[variant.name] for variant in variants]


def _score_group(
    variants: Sequence[Variant],
    truth: Truth,
    decode: DecodeOptions,
    observer: Observer,
    encoder: Encoder | None,
) -> list[Outcome]:
    """Score the images for variants that ask the same model; each image is embedded once."""
    first = ask(variants[0].question, variants[0].model, decode, encoder)
    first.warn, first.tell = observer.warned, observer.noted
    device = first.device
    first.settle(tell=observer.downloading)
    observer.loading(first.name, device)
    others = [first.asking(variant.question) for variant in variants[1:]]
    scorers = [classifier.scorer for classifier in (first, *others)]
    report = RunReport(model=first.name)
    observer.started(first.prompts, len(truth.refs), 0)
    records: list[list[Record]] = [[] for _ in variants]
    head = next((v.question.head for v in variants if v.question.head is not None), None)
    remembered = 0
    for image in first.embed(truth.refs):
        if head is not None and isinstance(image, Embedded):
            remembered += head.learned_from(image.embedding)
        for scorer, rows in zip(scorers, records, strict=True):
            rows.extend(score([image], scorer))
        report.add(records[0][-1])
        observer.scored(records[0][-1])
    observer.finished(report)
    if remembered:
        observer.warned(
            f"the head was learned from {remembered:,} of the {len(truth.refs):,} images, or from"
            " nearly the same, so its figures are too good: those of clipcls learn, which are"
            " cross-validated, are the honest ones"
        )
    return [
        Outcome(
            name=variant.name,
            labels=classifier.labels,
            records=rows,
            truth=truth.values,
            multi_label=variant.question.scoring.multi_label,
            made_by={
                "model": first.identity(device.precision),
                "model_fingerprint": first.fingerprint(Precision.FP32),
                "prompts": dict(zip(classifier.labels, classifier.prompts.prompts, strict=True)),
                "head": variant.question.head.digest if variant.question.head else None,
                "scoring": variant.question.scoring.described(),
            },
        )
        for variant, classifier, rows in zip(variants, (first, *others), records, strict=True)
    ]


# --- the comparison -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two variants beside each other, over the images that all variants scored.

    Attributes:
        first: The one with the higher figure.
        second: The other one.
        difference: Of the figure, first minus second.
        only_first: Images that only the first has right; None with several labels to an image.
        only_second: Images that only the second has right; likewise.
        p_value: Probability of such a difference between equals, adjusted for the number of pairs.
    """

    first: str
    second: str
    difference: Figure
    only_first: int | None
    only_second: int | None
    p_value: float

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the two can be told apart."""
        return self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class Comparison:
    """Which variant is best, as far as the images can tell.

    Attributes:
        figure: What is compared: `accuracy` or `mean_average_precision`.
        ranking: The names, highest figure first.
        pairs: All pairs.
        images: Number of images that all variants scored.
    """

    figure: str
    ranking: tuple[str, ...]
    pairs: tuple[Pair, ...]
    images: int

    @property
    def rivals(self) -> tuple[str, ...]:
        """The variants that cannot be told from the best one."""
        best = self.ranking[0]
        return tuple(p.second for p in self.pairs if p.first == best and not p.is_beyond_chance)

    @property
    def winner(self) -> str | None:
        """The best variant, if it is better than every other beyond chance."""
        return None if self.rivals else self.ranking[0]


def compare(outcomes: Sequence[Outcome]) -> Comparison:
    """Compare variants over the images that all of them scored.

    Raises:
        OptionError: No image was scored by all, or none of those has a label.
    """
    common = _common(outcomes)
    images = len(common[0].records)
    right: dict[str, Bools] = {}
    if common[0].multi_label:
        name = "mean_average_precision"
        if not any(common[0].truth):
            raise OptionError(
                f"none of the {images} images has a label, so nothing can be compared: see"
                " --label-column"
            )
        functions = [_named(outcome) for outcome in common]
    else:
        name = "accuracy"
        right = {outcome.name: outcome.scores().correct for outcome in common}
        functions = [means_of(right)]
    # A label that is true of every image has no ROC curve.
    with np.errstate(invalid="ignore"):
        points = [function(np.ones((1, images))) for function in functions]
    values = {key: float(value[0]) for found in points for key, value in found.items()}
    drawn = bootstrap(functions, images, RESAMPLES)
    ranking = sorted(values, key=lambda key: -values[key])
    pairs = []
    for first, second in combinations(ranking, 2):
        differences = drawn[first] - drawn[second]
        difference = Figure(values[first] - values[second], *interval(differences))
        if right:
            one, other = right[first], right[second]
            counts = int((one & ~other).sum()), int((other & ~one).sum())
            pairs.append(Pair(first, second, difference, *counts, mcnemar(*counts)))
        else:
            # How often the order turns round; a resample without a true label cannot tell.
            known = differences[~np.isnan(differences)]
            turned = min((known <= 0).mean(), (known >= 0).mean())
            p_value = min(1.0, 2 * max(float(turned), 1 / len(known)))
            pairs.append(Pair(first, second, difference, None, None, p_value))
    adjusted = holm([pair.p_value for pair in pairs])
    pairs = [replace(pair, p_value=p) for pair, p in zip(pairs, adjusted, strict=True)]
    return Comparison(name, tuple(ranking), tuple(pairs), images)


def _common(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes without the images that one of them has no score for."""
    scored = [
        i
        for i, records in enumerate(zip(*(outcome.records for outcome in outcomes), strict=True))
        if all(isinstance(record, Prediction) for record in records)
        and not is_unknown(outcomes[0].truth[i], outcomes[0].labels)
    ]
    if not scored:
        raise OptionError("no image was scored by all variants, so nothing can be compared")
    return [
        replace(
            outcome,
            records=[outcome.records[i] for i in scored],
            truth=[outcome.truth[i] for i in scored],
        )
        for outcome in outcomes
    ]


def _named(outcome: Outcome) -> Weighted:
    """Return mean average precision, by the variant's name, as a function of weights."""
    figures = ranking_figures(outcome.truth_matrix(), outcome.probabilities())
    return lambda weights: {outcome.name: figures(weights)["average_precision"]}


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test on the images of disagreement."""
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total).pvalue) if total else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down method, in the same order."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = highest
    return adjusted
