"""The columns of every output: their names, their order, and what a record puts into them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from clipcls.errors import LabelError
from clipcls.records import Failure, Record
from clipcls.text import printable_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GROUPS = (("probabilities", ""), ("logits", "logit:"), ("similarities", "similarity:"))
"""(key in JSON, prefix of the columns) of each group of one number per label, in order."""
BEFORE, AFTER = ("path", "prediction", "probability"), ("note", "error")
"""The columns of every output that stand before and after the scores."""
P_UNKNOWN = "p_unknown"
"""With `--unknown`, the last of the scores: how much speaks for none of the labels."""
TRUTH = "truth"
"""The column after the path in the `predictions.csv` of an evaluation."""
CHOSEN_BY = "chosen_by"
"""The column of a `labels.csv` that says why an image was labelled: one of the three below."""
CHANCE, QUEUE, PERSON = "chance", "queue", "person"
"""It was drawn at random, it seemed to teach much, or a person wanted to."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What a record puts into the columns.

    Attributes:
        path: The image's path, as written.
        prediction: Empty for a failure.
        numbers: The number columns in their order, without the `top` ones; None for a failure.
            The first is `probability`.
        top: With `top_k`, the best (label, probability) pairs.
        note: What is worth knowing about an image that was scored, or empty.
        error: Why it was not scored, or empty.
    """

    path: str
    prediction: str = ""
    numbers: NDArray[np.floating] | None = None
    top: tuple[tuple[str, float], ...] = ()
    note: str = ""
    error: str = ""


@dataclass(frozen=True)
class Columns:
    """Which columns an output has, in order: the same for every format.

    Attributes:
        labels: The C labels.
        top_k: None for a column per label, else how many of the best labels are written.
        logits: Whether raw logits are written too.
        similarities: Whether raw cosine similarities are written too.
        unknown: Whether `p_unknown` is written too.
    """

    labels: tuple[str, ...]
    top_k: int | None = None
    logits: bool = False
    similarities: bool = False
    unknown: bool = False

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise LabelError(
                f"two columns would be named '{twice[0]}': rename that label (label=wording keeps"
                " the prompt as it is)"
            )
        if not self.top_k and self.labels[:2] == ("label_1", "probability_1"):
            raise LabelError(
                "the labels 'label_1', 'probability_1' look like the columns of --top-k: give them"
                " in another order, or rename one (label=wording keeps the prompt as it is)"
            )

    @property
    def top_names(self) -> tuple[tuple[str, str], ...]:
        """(label column, probability column) of each rank; empty without `top_k`."""
        ranks = min(self.top_k or 0, len(self.labels))
        return tuple((f"label_{i}", f"probability_{i}") for i in range(1, ranks + 1))

    @property
    def groups(self) -> tuple[tuple[str, str], ...]:
        """Those of `GROUPS` that are written."""
        shown = (not self.top_k, self.logits, self.similarities)
        return tuple(group for group, is_shown in zip(GROUPS, shown, strict=True) if is_shown)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All column names, in order."""
        top = [name for pair in self.top_names for name in pair]
        scores = [prefix + label for _, prefix in self.groups for label in self.labels]
        return (*BEFORE, *top, *scores, *([P_UNKNOWN] if self.unknown else []), *AFTER)

    @cached_property
    def texts(self) -> frozenset[str]:
        """The names of the columns that hold text; all others hold numbers."""
        return frozenset({"path", "prediction", *AFTER, *(label for label, _ in self.top_names)})

    def row(self, record: Record) -> Row:
        """Return what a record puts into the columns."""
        import numpy as np

        path = printable_path(record.path)
        if isinstance(record, Failure):
            return Row(path, error=printable_path(record.reason))
        groups = [getattr(record, key) for key, _ in self.groups]
        last = [record.p_unknown] if self.unknown else []
        numbers = np.concatenate([[record.probability], *groups, np.array(last, np.float64)])
        top = tuple(record.ranking(len(self.top_names))) if self.top_k else ()
        return Row(path, record.prediction, numbers, top, printable_path(record.note))
