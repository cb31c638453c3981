"""A search for templates and wordings over labelled images, judged on images that did not choose.

A candidate is one template or set of templates, and for each label one of its wordings or all of
them. What a search finds looks better on the images that chose it than it is, so it is judged by
nested cross-validation (Varma & Simon 2006, doi:10.1186/1471-2105-7-91): each outer fold is
predicted by what the other folds chose, which themselves choose by an inner cross-validation.

Shapes: N images, C labels, T choices of templates, W wordings of all labels together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipcls.errors import OptionError, OutputError
from clipcls.evaluation.bootstrap import (
    RESAMPLES,
    Bools,
    Figure,
    Floats,
    Ints,
    bootstrap,
    interval,
    means_of,
    share_of,
)
from clipcls.evaluation.compare import SIGNIFICANT, Variant, mcnemar, score_variants
from clipcls.evaluation.trial import Trial
from clipcls.evaluation.truth import find_truth
from clipcls.labels import Label, default_wording, read_wordings
from clipcls.observer import Observer
from clipcls.outputs.base import write_file
from clipcls.prompts import TemplateSet, list_sets
from clipcls.question import Question
from clipcls.records import Failure, Prediction
from clipcls.text import listed, visible

if TYPE_CHECKING:
    from clipcls.models.base import Encoder

FOLDS = 5
MOST_PROMPTS = 20_000
"""Prompts that are encoded; candidates of many templates are left out beyond."""
MOST_SCORES = 200_000_000
"""Similarities in memory at once, 4 bytes each."""
FEW_IMAGES = 50
"""With fewer, a choice among dozens of candidates is mostly luck."""
LABELS, TEMPLATES = "labels.json", "templates.txt"


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        default: The name of what was in force before.
        ranking: (name of templates, cross-validated accuracy over all images), best first, with
            the best wordings for each.
        left_out: Names of templates that were left out for their number of prompts.
        templates: The chosen ones.
        labels: The labels with the chosen wordings.
        chosen_in: In how many of the `FOLDS` outer folds the same templates were chosen.
        before: The default's accuracy.
        after: The accuracy on images that did not choose.
        difference: After minus before, over the same images.
        p_value: Of that difference, by McNemar's exact test.
        images: N.
        failures: Images without a score.
    """

    default: str
    ranking: tuple[tuple[str, float], ...]
    left_out: tuple[str, ...]
    templates: TemplateSet
    labels: tuple[Label, ...]
    chosen_in: int
    before: Figure
    after: Figure
    difference: Figure
    p_value: float
    images: int
    failures: tuple[Failure, ...]

    @property
    def is_better(self) -> bool:
        """Whether the search found something better than the default, beyond chance."""
        return self.difference.value > 0 and self.p_value < SIGNIFICANT

    def save(self, folder: Path) -> None:
        """Write what `classify --labels-file` and `--templates` take.

        Raises:
            OutputError: A file cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            where = visible(str(folder))
            raise OutputError(f"cannot make {where}: {error.strerror or error}") from error
        wordings = {label.name: list(label.wordings) for label in self.labels}
        text = json.dumps(wordings, indent=1, ensure_ascii=False) + "\n"
        write_file(folder / LABELS, text.encode())
        write_file(folder / TEMPLATES, "".join(f"{t}\n" for t in self.templates.templates).encode())


def search(
    trial: Trial,
    wordings: Path | None = None,
    observer: Observer | None = None,
    encoder: Encoder | None = None,
) -> Found:
    """Search for the templates and wordings with the highest accuracy.

    Args:
        trial: Images, truth and model; its labels and templates are the default.
        wordings: A file of further wordings to choose from, see `clipcls.labels.read_wordings`.
        observer: Told about the progress.
        encoder: Used in place of what the trial names.

    Raises:
        ClipclsError: As from `clipcls.evaluation.trial.evaluate`; too few images, or too many.
    """
    observer = observer or Observer()
    only_labels = replace(trial.truth, only_labels=True)
    truth = find_truth(trial.inputs, trial.table, trial.labels, only_labels)
    observer.joined(truth.report.lines())
    counts = Counter(value for values in truth.values for value in values)
    if sum(count > 1 for count in counts.values()) < 2:
        raise OptionError(
            "to choose on some images and judge on others, two labels need 2 images each; the"
            f" truth has {listed([f'{count} of {name}' for name, count in counts.items()])}"
        )
    further = {} if wordings is None else read_wordings(wordings, truth.labels)
    choices = [_choices(label, further.get(label.name, ())) for label in truth.labels]
    asked = tuple(wording for of_label in choices for wording in of_label)
    candidates, left_out = _candidates(trial.templates, len(asked))
    scores = len(candidates) * len(asked) * len(truth.refs)
    if scores > MOST_SCORES:
        raise OptionError(
            f"{len(truth.refs)} images are too many for {len(candidates)} candidates of"
            f" {len(asked)} wordings: choose on fewer, with --sample"
            f" {max(MOST_SCORES // (scores // len(truth.refs)), 1)}"
        )
    if len(truth.refs) < FEW_IMAGES:
        observer.warned(
            f"{len(truth.refs)} labelled images: what is chosen is mostly luck; label"
            f" {FEW_IMAGES} or more"
        )
    # Each wording as a label of its own: one pass over the images scores all of them.
    variants = [
        Variant(c.name, Question(asked, c.templates, trial.scoring), trial.model)
        for c in candidates
    ]
    outcomes = score_variants(truth, variants, trial.inputs.decode, observer, encoder)
    first = outcomes[0].records
    scored = [i for i, record in enumerate(first) if isinstance(record, Prediction)]
    if len(scored) < 2 * FOLDS:
        raise OptionError(
            f"{len(scored)} scored images are too few for {FOLDS} folds: label {2 * FOLDS} or more"
        )
    names = list(truth.names)
    places = np.array([names.index(truth.values[i][0]) for i in scored])
    table = np.stack([_similarities(outcome.records) for outcome in outcomes])
    owners = np.repeat(np.arange(len(choices)), [len(of_label) for of_label in choices])
    chooser = _Chooser(table, owners, places, trial.truth.seed)
    return _judged(chooser, candidates, asked, truth.labels, left_out, first)


def _choices(label: Label, further: Sequence[str]) -> list[Label]:
    """Return what a label may be called: as it is, by its bare name, by each wording, by all."""
    single = [label.wordings, (default_wording(label.name),), *((text,) for text in further)]
    unique = list(dict.fromkeys([*single, *([tuple(further)] if len(further) > 1 else [])]))
    return [Label(f"{label.name}={'|'.join(texts)}", texts) for texts in unique]


def _candidates(
    default: tuple[str, ...], wordings: int
) -> tuple[list[TemplateSet], tuple[str, ...]]:
    """Return the choices of templates, the default first, and the names of those left out.

    Every set is one, and every single template of the sets but those of `openai80`, which were made
    to be averaged.
    """
    sets = list_sets()
    single = [text for each in sets if each.name != "openai80" for text in each.templates]
    named = next((each.name for each in sets if each.templates == default), " | ".join(default))
    every = [TemplateSet(named, "", default), *sets, *(TemplateSet(t, "", (t,)) for t in single)]
    first: dict[tuple[str, ...], TemplateSet] = {}
    for each in every:
        first.setdefault(each.templates, each)
    kept: list[TemplateSet] = []
    left_out, prompts = [], 0
    # The largest last, so that they are what is left out; the default stays first.
    for each in sorted(first.values(), key=lambda t: (t.templates != default, len(t.templates))):
        prompts += len(each.templates) * wordings
        if kept and prompts > MOST_PROMPTS:
            left_out.append(each.name)
        else:
            kept.append(each)
    return kept, tuple(left_out)


def _similarities(records: Sequence[Prediction | Failure]) -> Floats:
    """Return (N, W) similarities of the scored images."""
    return np.stack([r.similarities for r in records if isinstance(r, Prediction)])


# --- the choice -----------------------------------------------------------------------------------


class _Chooser:
    """Chooses among (T, N, W) similarities by how many images are right.

    Args:
        table: (T, N, W).
        owners: (W,) the label of each wording, in order.
        truth: (N,) the label of each image.
        seed: Of the folds.
    """

    def __init__(self, table: Floats, owners: Ints, truth: Ints, seed: int) -> None:
        self._table, self.owners, self.truth = table, owners, truth
        self._starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
        self._rng = np.random.default_rng(seed)

    @property
    def default(self) -> tuple[int, Ints]:
        """The first templates, with the first wording of each label."""
        return 0, self._starts

    def folds(self, rows: Ints) -> list[Ints]:
        """Deal images into folds, those of a label evenly."""
        mixed = rows[self._rng.permutation(len(rows))]
        dealt = mixed[np.argsort(self.truth[mixed], kind="stable")]
        return [dealt[start::FOLDS] for start in range(FOLDS)]

    def right(self, templates: int, picks: Ints, rows: Ints) -> Bools:
        """Return which of the rows are right with these templates and (C,) wordings."""
        best = self._table[templates][np.ix_(rows, picks)].argmax(axis=1)
        hits: Bools = best == self.truth[rows]
        return hits

    def wordings(self, templates: int, rows: Ints) -> Ints:
        """Return (C,) wordings, label by label the one with which most rows are right.

        What is no better than what stands before it changes nothing.
        """
        picks = self._starts.copy()
        best = self.right(templates, picks, rows).sum()
        for wording in np.setdiff1d(np.arange(len(self.owners)), self._starts):
            tried = picks.copy()
            tried[self.owners[wording]] = wording
            hits = self.right(templates, tried, rows).sum()
            if hits > best:
                picks, best = tried, hits
        return picks

    def hits(self, rows: Ints) -> Ints:
        """Return (T,) how many rows are right, each with wordings that other rows chose."""
        total = np.zeros(len(self._table), dtype=np.int64)
        for held_out in self.folds(rows):
            rest = np.setdiff1d(rows, held_out)
            for templates in range(len(total)):
                picks = self.wordings(templates, rest)
                total[templates] += self.right(templates, picks, held_out).sum()
        return total

    def choose(self, rows: Ints) -> tuple[int, Ints, Ints]:
        """Return the best templates, their wordings, and the (T,) hits that decided."""
        hits = self.hits(rows)
        templates = int(hits.argmax())
        return templates, self.wordings(templates, rows), hits


def _judged(  # noqa: PLR0913  what a search is made of
    chooser: _Chooser,
    candidates: Sequence[TemplateSet],
    asked: Sequence[Label],
    labels: Sequence[Label],
    left_out: tuple[str, ...],
    records: Sequence[Prediction | Failure],
) -> Found:
    """Choose on all images, and judge the way of choosing by nested cross-validation."""
    rows = np.arange(len(chooser.truth))
    templates, picks, hits = chooser.choose(rows)
    after = np.zeros(len(rows), dtype=bool)
    chosen: Counter[int] = Counter()
    for held_out in chooser.folds(rows):
        of_rest, wordings, _ = chooser.choose(np.setdiff1d(rows, held_out))
        after[held_out] = chooser.right(of_rest, wordings, held_out)
        chosen[of_rest] += 1
    before = chooser.right(*chooser.default, rows)
    drawn = bootstrap([means_of({"before": before, "after": after})], len(rows), RESAMPLES)
    gain = float(after.mean() - before.mean())
    order = sorted(range(len(candidates)), key=lambda place: -hits[place])
    return Found(
        default=candidates[0].name,
        ranking=tuple((candidates[i].name, float(hits[i] / len(rows))) for i in order),
        left_out=left_out,
        templates=candidates[templates],
        labels=tuple(
            replace(label, wordings=asked[pick].wordings)
            for label, pick in zip(labels, picks, strict=True)
        ),
        chosen_in=chosen[templates],
        before=share_of(before),
        after=share_of(after),
        difference=Figure(gain, *interval(drawn["after"] - drawn["before"])),
        p_value=mcnemar(int((after & ~before).sum()), int((before & ~after).sum())),
        images=len(rows),
        failures=tuple(record for record in records if isinstance(record, Failure)),
    )
