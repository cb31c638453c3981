"""The one way from labelled images and a question to scored images: truth, variants, outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clipcls.evaluation.compare import Outcome, Variant, score_variants
from clipcls.evaluation.truth import Truth, TruthOptions, find_truth
from clipcls.evaluation.variants import Changes, make_variants
from clipcls.heads import Head
from clipcls.labels import Label, make_labels
from clipcls.observer import Observer
from clipcls.options import ScoringOptions
from clipcls.question import Inputs, ModelChoice, Question

if TYPE_CHECKING:
    from clipcls.models.base import Encoder


@dataclass(frozen=True)
class Trial:
    """What is to be judged.

    Attributes:
        inputs: Which images.
        table: The table of their true labels; None takes the names of their folders.
        truth: How that is read and joined.
        labels: The labels; empty leaves them to the variants, then to the truth.
        templates: Finished templates.
        scoring: How logits become predictions.
        model: Which model answers.
        changes: Variant -> what it does otherwise; without any, the above is all that is asked.
        head: What gives the logits in place of labels and templates.
    """

    inputs: Inputs
    table: Path | None
    model: ModelChoice
    templates: tuple[str, ...]
    labels: tuple[Label, ...] = ()
    truth: TruthOptions = field(default_factory=TruthOptions)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    changes: Mapping[str, Changes] = field(default_factory=dict)
    head: Head | None = None


def evaluate(
    trial: Trial, observer: Observer | None = None, encoder: Encoder | None = None
) -> tuple[Truth, list[Outcome]]:
    """Join images to their truth and score them, once per variant.

    Args:
        trial: What is to be judged.
        observer: Told about the progress.
        encoder: Used in place of the models that the trial names.

    Returns:
        The truth, and an outcome per variant, in order.

    Raises:
        ClipclsError: See `clipcls.errors`; what the user wrote is checked before a model is loaded.
    """
    observer = observer or Observer()
    changes = trial.changes.values()
    heads = [head for head in (trial.head, *(change.head for change in changes)) if head]
    own = next((change.labels for change in changes if change.labels), ())
    # Their names only: the wordings are what that variant does otherwise.
    names = heads[0].labels if heads else [label.name for label in own]
    named = make_labels(names) if names else ()
    truth = find_truth(trial.inputs, trial.table, trial.labels or named, trial.truth)
    observer.joined(truth.report.lines())
    question = Question(truth.labels, trial.templates, trial.scoring, trial.head)
    variants = make_variants(Variant("base", question, trial.model), trial.changes)
    return truth, score_variants(truth, variants, trial.inputs.decode, observer, encoder)
