"""What travels up through the rooms: one record per image, one report per run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Cell: TypeAlias = "bool | int | float | str | date | list[Any] | dict[str, Any] | None"
"""What a table says of an image in one column; lists and mappings hold what JSON can hold."""

UNKNOWN = "unknown"
"""The prediction of an image that a threshold or a margin turned down."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One image as the model sees it.

    Attributes:
        index: Place in the input order, from 0.
        path: The image's path, as in `clipcls.inputs.refs.ImageRef`.
        embedding: (D,) float32, L2-normalised.
        note: Empty, or what is worth knowing about the image (a truncated one was accepted).
        kept: What the image's table says of it, as in `ImageRef`.
    """

    index: int
    path: str
    embedding: NDArray[np.float32]
    note: str = ""
    kept: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One scored image.

    Attributes:
        index: Place in the input order, from 0.
        path: The image's path, as in `ImageRef`.
        labels: The C labels, in the order of the arrays below.
        prediction: The label with the highest logit, or `unknown`.
        probability: That label's probability, also when the prediction is `unknown`.
        probabilities: (C,) float64.
        logits: (C,) float32, `scale * similarity + bias`, calibrated where a calibration is used.
        similarities: (C,) float32, cosine similarity of image and class embedding.
        note: Empty, or what is worth knowing about the image (a truncated one was accepted).
        kept: What the image's table says of it, as in `ImageRef`.
        p_unknown: How much speaks for none of the labels (0 to 1); None where it was not asked.
    """

    index: int
    path: str
    labels: tuple[str, ...]
    prediction: str
    probability: float
    probabilities: NDArray[np.float64]
    logits: NDArray[np.float32]
    similarities: NDArray[np.float32]
    note: str = ""
    kept: tuple[Cell, ...] = ()
    p_unknown: float | None = None

    def ranking(self, k: int | None = None) -> list[tuple[str, float]]:
        """Return the `k` best (label, probability) pairs, best first; all of them by default.

        Labels with equal logits keep the user's order.
        """
        order = (-self.logits).argsort(kind="stable")[:k]
        return [(self.labels[i], float(self.probabilities[i])) for i in order]


@dataclass(frozen=True, slots=True)
class Failure:
    """One image that could not be scored: it keeps its path, its place and a reason."""

    index: int
    path: str
    reason: str
    kept: tuple[Cell, ...] = ()


Record = Prediction | Failure


@dataclass(slots=True)
class RunReport:
    """What happened in a run; it decides the exit code.

    Attributes:
        done: Images scored by this run.
        cached: How many of those had their embedding in the cache.
        resumed: Rows that an interrupted earlier run had already written.
        failed: Images without a score, those of the earlier run included.
        counts: Prediction -> number of images, those of the earlier run included.
        reasons: Reason -> number of failures.
        skipped: Why a file was left out (`hidden`, `not an image`, `duplicate`) -> how many.
        skipped_paths: The first of the files left out, as (path, why).
        seconds: Wall time of the scoring loop, without loading the model.
        interrupted: Whether the run was stopped before its end.
        model: The name of the model that made the rows.
    """

    done: int = 0
    cached: int = 0
    resumed: int = 0
    failed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_paths: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    model: str = ""

    def add(self, record: Record) -> None:
        """Count a record that this run made."""
        if isinstance(record, Failure):
            self.count("", record.reason)
        else:
            self.done += 1
            self.count(record.prediction, "")

    def count(self, prediction: str, reason: str) -> None:
        """Count a row: its prediction or, where that is empty, the reason of the failure."""
        if prediction:
            self.counts[prediction] += 1
        else:
            self.failed += 1
            self.reasons[reason] += 1

    @property
    def exit_code(self) -> int:
        """0 when every image was scored, 3 when some failed, 130 when interrupted."""
        if self.interrupted:
            return 130
        return 3 if self.failed else 0
