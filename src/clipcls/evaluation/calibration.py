"""Probabilities that hold: a temperature, biases and a threshold, fitted on labelled images.

They are fitted on one part of the images and judged on the rest, so that the figures are those of
images that had no say. What was judged is what is written; nothing is fitted again on all.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import clipcls
from clipcls.errors import CalibrationError, OptionError
from clipcls.evaluation.bootstrap import Bools, Figure, Floats, Ints, share_of
from clipcls.evaluation.compare import Outcome
from clipcls.evaluation.metrics import Scores, measure
from clipcls.evaluation.unknown import best_threshold
from clipcls.options import Calibration, ScoringOptions
from clipcls.outputs.base import write_file
from clipcls.scoring import calibrated, softmax
from clipcls.text import visible

VERSION = 1
"""Version of the layout of the file."""

SHOWN = ("accuracy", "log_loss", "brier_score", "calibration_error")
"""The figures that are reported before and after."""


@dataclass(frozen=True)
class CalibrationOptions:
    """What is fitted.

    Attributes:
        biases: Whether each label gets a bias, besides the temperature.
        precision: The share of kept images that should be right; None for no such wish.
        coverage: The share of images that should be kept; None for no such wish.
        held_out: The share of the labelled images on which the result is judged.
        seed: Of the split.
    """

    biases: bool = False
    precision: float | None = None
    coverage: float | None = None
    held_out: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision is not None and self.coverage is not None:
            raise OptionError("--precision and --coverage contradict each other: give one of them")
        for flag, value in (
            ("--precision", self.precision),
            ("--coverage", self.coverage),
            ("--held-out", self.held_out),
        ):
            if value is not None and not 0.0 < value < 1.0:
                raise OptionError(f"{flag} is {value}: give a number between 0 and 1")


@dataclass(frozen=True)
class Calibrated:
    """A calibration and what it does on the images that were held out.

    Attributes:
        calibration: What was fitted.
        fitted: Number of images that it was fitted on.
        held_out: Number of images that it is judged on.
        before: Name of a figure -> the figure without it; with a threshold on `p_unknown` also
            `known_kept` and `unknown_found`, the shares of the known images that are not `unknown`
            by it and of those of none of the labels that are, here at the default threshold.
        after: The same with it.
        coverage: The share of the held-out images that the threshold keeps; None without one.
        kept_right: The share of those that is right; likewise.
    """

    calibration: Calibration
    fitted: int
    held_out: int
    before: dict[str, Figure]
    after: dict[str, Figure]
    coverage: Figure | None = None
    kept_right: Figure | None = None

    def document(self) -> dict[str, Any]:
        """Return the content of the file, ready for JSON."""
        own = self.calibration
        labels = [label for label, _ in own.prompts]
        return {
            "calibration": VERSION,
            "clipcls": clipcls.__version__,
            "model": {"name": own.model, "fingerprint": own.model_fingerprint},
            "prompts": {label: list(texts) for label, texts in own.prompts},
            "head": own.head,
            "temperature": own.temperature,
            "biases": dict(zip(labels, own.biases, strict=True)) if own.biases else None,
            "threshold": own.threshold,
            "unknown_threshold": own.unknown_threshold,
            "judged": {
                "fitted": self.fitted,
                "held_out": self.held_out,
                "before": {name: asdict(figure) for name, figure in self.before.items()},
                "after": {name: asdict(figure) for name, figure in self.after.items()},
                **{
                    name: None if figure is None else asdict(figure)
                    for name, figure in (
                        ("coverage", self.coverage),
                        ("kept_right", self.kept_right),
                    )
                },
            },
        }


def calibrate(outcome: Outcome, options: CalibrationOptions) -> Calibrated:
    """Fit a calibration on a stratified part of scored images and judge it on the rest.

    Args:
        outcome: Images with one true label each, scored without a calibration.
        options: What is fitted.

    Raises:
        CalibrationError: There are too few images or labels, or no threshold does what is wished.
    """
    scores = outcome.scores()
    limit, told_before, told_after = _told_apart(outcome, options)
    if len(scores.labels) < 2 and limit is None:
        raise CalibrationError(
            f"'{visible(scores.labels[0])}' is the only label, so every probability is 1.0 and"
            " nothing can be fitted: name the other labels with --labels, and label some images of"
            " each"
        )
    # What --unknown turns down has figures of its own.
    scores = replace(scores, predicted=scores.ranks.argmax(axis=1))
    held = split(scores.truth, options.held_out, options.seed)
    if held.all() or not held.any():
        raise CalibrationError(
            f"{len(scores)} labelled images are too few to fit on some and judge on others: label"
            " more (two of each label at least, fifty are better)"
        )
    temperature, biases = fit(scores.ranks[~held], scores.truth[~held], biases=options.biases)
    prompts = outcome.made_by["prompts"]
    fitted = Calibration(
        model=str(outcome.made_by["model"]["name"]),
        model_fingerprint=str(outcome.made_by["model_fingerprint"]),
        prompts=tuple((label, tuple(texts)) for label, texts in prompts.items()),
        temperature=temperature,
        biases=biases,
        head=outcome.made_by.get("head"),
    )
    logits = calibrated(scores.ranks.astype(np.float32), fitted)
    after = replace(
        scores,
        predicted=logits.argmax(axis=1),
        probabilities=softmax(logits),
        ranks=logits.astype(np.float64),
    )
    threshold = _threshold(after.part(~held), options)
    judged = after.part(held)
    coverage = kept_right = None
    if threshold is not None:
        kept = judged.confidence >= threshold
        coverage = share_of(kept)
        kept_right = share_of(judged.correct[kept]) if kept.any() else None
    before, after_figures = measure(scores.part(held)).headline, measure(judged).headline
    return Calibrated(
        calibration=replace(fitted, threshold=threshold, unknown_threshold=limit),
        fitted=int((~held).sum()),
        held_out=int(held.sum()),
        before={name: before[name] for name in SHOWN} | told_before,
        after={name: after_figures[name] for name in SHOWN} | told_after,
        coverage=coverage,
        kept_right=kept_right,
    )


def _told_apart(
    outcome: Outcome, options: CalibrationOptions
) -> tuple[float | None, dict[str, Figure], dict[str, Figure]]:
    """Return a threshold on `p_unknown`, and the figures of the default one and of it.

    Raises:
        CalibrationError: There are too few images of none of the labels.
    """
    shares, of_none = outcome.unknown_shares()
    # Without --unknown, such images have no share, and only count in no figure.
    if not of_none.any() or np.isnan(shares).any():
        return None, {}, {}
    held = split(of_none.astype(np.int64), options.held_out, options.seed)
    if not (of_none & held).any() or not (of_none & ~held).any():
        raise CalibrationError(
            f"{int(of_none.sum())} images of none of the labels are too few to fit on some and"
            " judge on others: label more (two at least, fifty are better)"
        )
    threshold = best_threshold(shares[~held], of_none[~held])
    before, after = (
        {
            "known_kept": share_of(shares[held & ~of_none] <= limit),
            "unknown_found": share_of(shares[held & of_none] > limit),
        }
        for limit in (ScoringOptions().most_unknown, threshold)
    )
    return threshold, before, after


def split(truth: Ints, held_out: float, seed: int) -> Bools:
    """Return (N,) bool: which images are held out, in every label the same share of them.

    Of a label with a single image, chance decides where it goes.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(truth), dtype=bool)
    for label in np.unique(truth):
        places = rng.permutation(np.flatnonzero(truth == label))
        # The fraction of an image is one by chance, so that the shares are right on the whole.
        count = int(len(places) * held_out + rng.random())
        held[places[:count]] = True
    return held


def fit(logits: Floats, truth: Ints, *, biases: bool = False) -> tuple[float, tuple[float, ...]]:
    """Return the temperature, and the biases, of the least log loss.

    Temperature scaling (Guo et al. 2017, arXiv:1706.04599); with biases, a part of vector scaling
    from the same paper. A normal prior on the temperature's logarithm and on the biases keeps them
    in place where there are few images, or none of a label.

    Args:
        logits: (N, C) float64.
        truth: (N,) int64.
        biases: Whether biases are fitted.

    Returns:
        The temperature, and C biases or none.
    """
    from scipy.optimize import minimize

    images, labels = logits.shape
    own = truth[:, None] == np.arange(labels)
    centred = logits - logits.max(axis=1, keepdims=True)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scaled = centred / np.exp(parameters[0])
        shifted = scaled + parameters[1:] if biases else scaled
        shifted = shifted - shifted.max(axis=1, keepdims=True)
        norms = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        slopes = (np.exp(shifted - norms) - own) / images
        value = float((norms - shifted)[own].sum() / images)
        gradient = np.zeros_like(parameters)
        gradient[0] = -(slopes * scaled).sum()
        if biases:
            gradient[1:] = slopes.sum(axis=0)
        value += float(parameters @ parameters) / (2 * images)
        return value, gradient + parameters / images

    start = np.zeros(1 + labels * biases)
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return float(np.exp(found[0])), tuple(float(value) for value in found[1:])


def _threshold(scores: Scores, options: CalibrationOptions) -> float | None:
    """Return the lowest threshold with the wished precision, or that with the wished coverage.

    Raises:
        CalibrationError: No threshold has that precision.
    """
    order = np.argsort(-scores.confidence, kind="stable")
    confidence = scores.confidence[order]
    if options.coverage is not None:
        return float(confidence[int(np.ceil(round(options.coverage * len(order), 6))) - 1])
    if options.precision is None:
        return None
    shares = np.cumsum(scores.correct[order]) / np.arange(1, len(order) + 1)
    # Images of equal confidence are kept together.
    last = np.r_[confidence[1:] != confidence[:-1], True]
    good = np.flatnonzero(last & (shares >= options.precision))
    if not good.size:
        best = int(np.where(last, shares, -1).argmax())
        raise CalibrationError(
            f"no threshold gives a precision of {options.precision:g} on the {len(order)} images"
            f" that it is fitted on: the highest is {shares[best]:.3f}, with {best + 1} kept; wish"
            " for less with --precision, or find better prompts"
        )
    return float(confidence[good[-1]])


def write_calibration(path: Path, found: Calibrated) -> None:
    """Write the file that `--calibration` takes.

    Raises:
        OutputError: It cannot be written.
    """
    text = json.dumps(found.document(), indent=2, ensure_ascii=False) + "\n"
    write_file(path, text.encode())


def read_calibration(path: Path) -> Calibration:
    """Read what `clipcls calibrate` wrote.

    Raises:
        CalibrationError: It cannot be read, or is no such file.
    """
    where = f"--calibration: {visible(str(path))}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"{where} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{where} is no JSON: clipcls calibrate makes such files") from error
    if not isinstance(content, dict) or content.get("calibration") != VERSION:
        raise CalibrationError(
            f"{where} is no calibration of version {VERSION}: run clipcls calibrate again"
        )
    try:
        biases = content["biases"] or {}
        prompts = {label: tuple(texts) for label, texts in content["prompts"].items()}
        threshold, unknown = content["threshold"], content.get("unknown_threshold")
        read = Calibration(
            model=str(content["model"]["name"]),
            model_fingerprint=str(content["model"]["fingerprint"]),
            prompts=tuple(prompts.items()),
            temperature=float(content["temperature"]),
            biases=tuple(float(biases[label]) for label in prompts) if biases else (),
            threshold=None if threshold is None else float(threshold),
            head=None if content["head"] is None else str(content["head"]),
            unknown_threshold=None if unknown is None else float(unknown),
        )
        fault = _fault(read, set(biases))
    except KeyError as error:
        fault = f"{error} is missing"
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        fault = " ".join(str(error).split())
    if fault:
        raise CalibrationError(f"{where} is damaged: {fault}: run clipcls calibrate again")
    return read


def _fault(read: Calibration, biased: set[str]) -> str:
    """Return what is wrong with a calibration, empty where nothing is."""
    if not (np.isfinite(read.temperature) and read.temperature > 0):
        return f"its temperature is {read.temperature}"
    if biased and biased != {label for label, _ in read.prompts}:
        return "its biases are of other labels than its prompts"
    if not np.isfinite(read.biases).all():
        return "a bias is no finite number"
    for threshold in (read.threshold, read.unknown_threshold):
        if threshold is not None and not 0.0 <= threshold <= 1.0:
            return f"its threshold is {threshold}"
    # A label that a head has learned from examples alone has none.
    return "" if read.head or all(texts for _, texts in read.prompts) else "a label has no prompts"
