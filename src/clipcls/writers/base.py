"""What every output format has in common: the columns, and how a file is taken up again."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from clipcls.errors import LabelError
from clipcls.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOGIT_PREFIX = "logit:"
SIMILARITY_PREFIX = "similarity:"


@dataclass(frozen=True)
class Columns:
    """Which columns an output has, in order: the same for every format.

    Attributes:
        labels: The C labels.
        top_k: None for a column per label, else how many of the best labels are written.
        logits: Whether raw logits are written too.
        similarities: Whether raw cosine similarities are written too.
    """

    labels: tuple[str, ...]
    top_k: int | None = None
    logits: bool = False
    similarities: bool = False

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise LabelError(
                f"two columns would be named '{twice[0]}': rename that label (label=wording keeps"
                " the prompt as it is)"
            )

    @property
    def top_names(self) -> tuple[tuple[str, str], ...]:
        """(label column, probability column) of each rank; empty without `top_k`."""
        return tuple((f"label_{i}", f"probability_{i}") for i in range(1, self.ranks + 1))

    @property
    def ranks(self) -> int:
        """How many ranks are written: `top_k`, but never more than there are labels."""
        return min(self.top_k or 0, len(self.labels))

    @property
    def names(self) -> tuple[str, ...]:
        """All column names, in order."""
        shown = [n for pair in self.top_names for n in pair] if self.top_k else list(self.labels)
        logits = [LOGIT_PREFIX + label for label in self.labels] if self.logits else []
        similarities = (
            [SIMILARITY_PREFIX + label for label in self.labels] if self.similarities else []
        )
        return ("path", "prediction", "probability", *shown, *logits, *similarities, "error")

    def raw_scores(
        self, logits: NDArray[np.float32], similarities: NDArray[np.float32]
    ) -> list[float]:
        """Return the values of the raw columns, in their order."""
        values = logits.tolist() if self.logits else []
        return [*values, *(similarities.tolist() if self.similarities else [])]


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A complete row found in a partial file.

    Attributes:
        path: The picture's path, as written.
        prediction: The prediction, empty for a failure.
        error: The failure's reason or the prediction's note, empty when there is none.
        end: Offset in bytes of the end of what holds this row.
    """

    path: str
    prediction: str
    error: str
    end: int


class Writer(ABC):
    """Writes records in batches; each batch has reached the system when `write` returns.

    Args:
        columns: What to write.
        stream: A binary stream at the position to write at; the caller closes it.
    """

    def __init__(self, columns: Columns, stream: BinaryIO) -> None:
        self.columns = columns
        self.stream = stream

    @abstractmethod
    def start(self) -> None:
        """Write what stands before the first row."""

    @abstractmethod
    def write(self, records: Sequence[Record]) -> None:
        """Write one batch and flush it."""

    @abstractmethod
    def saved_rows(self) -> Iterator[SavedRow]:
        """Yield the complete rows of a partial file from its beginning, and stop at a torn one.

        The stream must be seekable; its position afterwards is undefined.
        """

    def finish(self, partial: Path, target: Path, rows: int) -> None:
        """Move the complete partial file into its place; the stream is closed by now.

        Args:
            partial: The partial file, with all rows.
            target: Where it goes.
            rows: How many rows it has.

        Raises:
            OSError: It cannot be done; the partial file is still there.
        """
        os.replace(partial, target)
