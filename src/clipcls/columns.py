"""The columns of every output: their names and their order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipcls.errors import LabelError

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
