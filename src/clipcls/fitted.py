"""What a head and a calibration were made for; over anything else they would give wrong figures."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import shorten

from clipcls.errors import CalibrationError, HeadError, UsageError
from clipcls.heads import Head
from clipcls.options import Calibration
from clipcls.prompts import PromptSet


def check_question(fitted: Calibration, head: Head | None, prompts: PromptSet) -> None:
    """Refuse a calibration of other logits than those in question.

    Args:
        fitted: The calibration.
        head: What gives the logits, if prompts do not.
        prompts: The labels and their prompts.

    Raises:
        CalibrationError: It was fitted for another head or other prompts; says for which.
    """
    _check_head(fitted, head, prompts.labels)
    _check_prompts(fitted, prompts)


def check_model(
    head: Head | None, calibration: Calibration | None, name: str, fingerprint: str
) -> None:
    """Refuse a head or a calibration that was made for another model.

    Args:
        head: The head in question.
        calibration: The calibration in question.
        name: The model's.
        fingerprint: The model's, at `fp32`.

    Raises:
        HeadError: The head was.
        CalibrationError: The calibration was.
    """
    made: tuple[tuple[Calibration | Head | None, str, type[UsageError]], ...] = (
        (head, "--head was learned for {}: run clipcls learn again", HeadError),
        (
            calibration,
            "--calibration was fitted for {}: run clipcls calibrate again",
            CalibrationError,
        ),
    )
    for fitted, message, error in made:
        if fitted is not None and fitted.model_fingerprint != fingerprint:
            raise error(
                message.format(
                    f"the model {name} with other weights, preprocessing, --fit or --decode"
                    if fitted.model == name
                    else f"the model {fitted.model}, and this run uses {name}"
                )
            )


def _check_head(fitted: Calibration, head: Head | None, labels: tuple[str, ...]) -> None:
    now = None if head is None else head.digest
    if fitted.head != now:
        was, used = (
            f"the prompts of {_few(names)}"
            if digest is None
            else f"the head of {_few(names)} (SHA-256 {digest[:12]}...)"
            for digest, names in ((fitted.head, dict(fitted.prompts)), (now, labels))
        )
        raise CalibrationError(
            f"--calibration was fitted for {was}, and this run uses {used}: run clipcls calibrate"
            " again"
        )


def _check_prompts(fitted: Calibration, prompts: PromptSet) -> None:
    before = dict(fitted.prompts)
    if tuple(before) != prompts.labels:
        raise CalibrationError(
            f"--calibration was fitted for the labels {_few(before)}, and these are"
            f" {_few(prompts.labels)}: run clipcls calibrate again"
        )
    for label, texts in zip(prompts.labels, prompts.prompts, strict=True):
        if before[label] != texts:
            was, now = next(
                (pair for pair in zip(before[label], texts, strict=False) if pair[0] != pair[1]),
                (before[label][-1], texts[-1]),
            )
            raise CalibrationError(
                f"--calibration was fitted for other prompts: of '{label}' it was {was!r} and is"
                f" now {now!r} ({len(before[label])} and {len(texts)} in all): run clipcls"
                " calibrate again"
            )


def _few(labels: Iterable[str]) -> str:
    return shorten(", ".join(labels), 120, placeholder=" ...")
