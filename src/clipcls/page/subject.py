"""What a page shows: scored images, what made them and, where it is known, their truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import clipcls
from clipcls.evaluation.compare import Outcome
from clipcls.evaluation.predictions import read_predictions
from clipcls.options import OutputFormat
from clipcls.records import UNKNOWN, Record
from clipcls.text import printable_path


@dataclass(frozen=True, eq=False)
class Subject:
    """What a page shows.

    Attributes:
        name: What was classified, for the title.
        labels: The C labels.
        records: The N images; scores that are not known are NaN.
        truth: Of each image, any number of labels; None where no truth is known.
        multi_label: Whether each label stands for itself.
        made_by: As in a manifest: `model`, `prompts`, `scoring`, `decode`, `versions`, `finished`;
            without what is not known.
    """

    name: str
    labels: tuple[str, ...]
    records: Sequence[Record]
    truth: Sequence[tuple[str, ...]] | None = None
    multi_label: bool = False
    made_by: Mapping[str, Any] = field(default_factory=dict)

    def known(self, part: str) -> Mapping[str, Any]:
        """Return a part of `made_by`, empty where it is not known or is no mapping."""
        found = self.made_by.get(part)
        return found if isinstance(found, Mapping) else {}


def read_subject(path: Path, format: OutputFormat | None = None) -> Subject:
    """Read an output of `clipcls classify`, or the `predictions.csv` of an evaluation.

    Args:
        path: The output.
        format: Its format; None takes it from the extension.

    Raises:
        InputError: It cannot be read, is no such output, or no image in it was scored.
    """
    found = read_predictions(path, format)
    name = printable_path(path.name)
    subject = Subject(name, found.labels, found.records, made_by=found.manifest)
    multi_label = bool(subject.known("scoring").get("multi_label"))
    truth = None
    if found.truth is not None:
        # One label may hold a semicolon; several are joined by it.
        known = {*found.labels, UNKNOWN}
        several = multi_label or not {cell for cell in found.truth if cell} <= known
        multi_label = several
        parts = [cell.split(";") if several else [cell] for cell in found.truth]
        truth = [tuple(part for part in cell if part in known) for cell in parts]
    return replace(subject, truth=truth, multi_label=multi_label)


def subject_of(outcome: Outcome, name: str) -> Subject:
    """Return an outcome of an evaluation, with its truth, under a name for the title."""
    made_by = {
        **outcome.made_by,
        "versions": {"clipcls": clipcls.__version__},
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return Subject(
        printable_path(name),
        outcome.labels,
        outcome.records,
        outcome.truth,
        outcome.multi_label,
        made_by,
    )
