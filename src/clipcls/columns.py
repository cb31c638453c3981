"""The columns of every output: their names, their order, and what a record puts into them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from clipcls.errors import LabelError, OptionError
from clipcls.records import Cell, Failure, Record
from clipcls.text import printable_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GROUPS = (("probabilities", ""), ("logits", "logit:"), ("similarities", "similarity:"))
"""(key in JSON, prefix of the columns) of each group of one number per label, in order."""
BEFORE, AFTER = ("path", "prediction", "probability"), ("note", "error")
"""The columns of every output that stand before and after the scores."""
TOP = "top"
"""The key in JSON of the best labels, with `top_k`."""

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
        kept: The columns that come from the image's table.
    """

    path: str
    prediction: str = ""
    numbers: NDArray[np.floating] | None = None
    top: tuple[tuple[str, float], ...] = ()
    note: str = ""
    error: str = ""
    kept: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Which columns an output has, in order: the same for every format.

    Attributes:
        labels: The C labels.
        top_k: None for a column per label, else how many of the best labels are written.
        logits: Whether raw logits are written too.
        similarities: Whether raw cosine similarities are written too.
        keep: Name -> type, as pyarrow spells it, of the columns of tables of images that are kept.
            They stand after the path.
        unknown: Whether `p_unknown` is written too.
    """

    labels: tuple[str, ...]
    top_k: int | None = None
    logits: bool = False
    similarities: bool = False
    keep: Mapping[str, str] = field(default_factory=dict)
    unknown: bool = False

    def __post_init__(self) -> None:
        own = {*self.names[1 + len(self.keep) :], *BEFORE, TRUTH, TOP, *(key for key, _ in GROUPS)}
        if clash := own.intersection(self.keep):
            raise OptionError(
                f"--keep: '{min(clash)}' is a column of the output itself: rename it in the table,"
                " or the label that is called so"
            )
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
        unknown = [P_UNKNOWN] if self.unknown else []
        return (BEFORE[0], *self.keep, *BEFORE[1:], *top, *scores, *unknown, *AFTER)

    @cached_property
    def texts(self) -> frozenset[str]:
        """The names of our own columns that hold text; all others of ours hold numbers."""
        return frozenset({"path", "prediction", *AFTER, *(label for label, _ in self.top_names)})

    def row(self, record: Record) -> Row:
        """Return what a record puts into the columns."""
        import numpy as np

        path = printable_path(record.path)
        kept = record.kept or (None,) * len(self.keep)  # of an image that is in no table
        if isinstance(record, Failure):
            return Row(path, error=printable_path(record.reason), kept=kept)
        groups = [getattr(record, key) for key, _ in self.groups]
        last = [record.p_unknown] if self.unknown else []
        numbers = np.concatenate([[record.probability], *groups, np.array(last, np.float64)])
        top = tuple(record.ranking(len(self.top_names))) if self.top_k else ()
        note = printable_path(record.note)
        return Row(path, record.prediction, numbers, top, note, kept=kept)


def kept_names(names: Sequence[str]) -> list[str]:
    """Return which columns of an output, in their order, come from tables of images."""
    end = names.index(BEFORE[1]) if BEFORE[1] in names else 0
    return [name for name in names[1:end] if name != TRUTH]


def cell_text(cell: Cell) -> str:
    """Return a kept cell as text, empty where nothing is in it."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    if isinstance(cell, date):
        return cell.isoformat()
    return json.dumps(cell, ensure_ascii=False)
