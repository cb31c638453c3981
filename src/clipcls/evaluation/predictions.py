"""An output of `clipcls classify` as scored images, so that it can be judged without a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipcls.columns import AFTER, BEFORE, P_UNKNOWN, TRUTH, kept_names
from clipcls.errors import InputError, OptionError, ResumeError
from clipcls.evaluation.compare import Outcome
from clipcls.evaluation.truth import Truth, TruthOptions, join_truth
from clipcls.inputs.refs import ImageRef
from clipcls.labels import RAW_PREFIXES, make_labels
from clipcls.observer import Observer
from clipcls.options import OutputFormat
from clipcls.outputs.manifest import manifest_path, read_manifest
from clipcls.outputs.results import read_results
from clipcls.records import UNKNOWN, Failure, Prediction, Record
from clipcls.text import original_path, printable_path, visible

if TYPE_CHECKING:
    import pandas as pd

RESOLUTION = 5e-7
"""Outputs have six decimals."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """An output, read back.

    Attributes:
        labels: The C labels.
        records: The N rows; scores that the output does not have are NaN.
        manifest: What made it; empty where nothing beside the output says so.
        truth: The N cells of an evaluation's `truth` column; None for other outputs.
        ranked: Whether it was written with `--top-k`.
    """

    labels: tuple[str, ...]
    records: Sequence[Record]
    manifest: Mapping[str, Any]
    truth: tuple[str, ...] | None
    ranked: bool


def judge_predictions(
    path: Path, table: Path | None, options: TruthOptions, observer: Observer | None = None
) -> tuple[Truth, Outcome]:
    """Join an output of `clipcls classify` to the truth.

    Args:
        path: The output; CSV, JSON Lines or Parquet.
        table: The labelled table; None takes the folders' names.
        options: How they are joined.
        observer: Told how they were.

    Raises:
        UsageError: The output cannot be read, its labels do not fit, or nothing joins.
    """
    found = read_predictions(path)
    if any(isinstance(r, Prediction) and r.p_unknown is not None for r in found.records):
        options = replace(options, unknown=True)
    refs = [ImageRef(i, record.path) for i, record in enumerate(found.records)]
    roots = _roots(found.manifest, [ref.path for ref in refs])
    truth = join_truth(refs, roots, table, make_labels(list(found.labels)), options)
    (observer or Observer()).joined(truth.report.lines())
    if options.multi_label and found.ranked:
        raise OptionError(
            f"{visible(str(path))} was written with --top-k, so most labels have no probability:"
            " write it without"
        )
    by_path: dict[str, Record] = {}
    for record in found.records:
        by_path.setdefault(record.path, record)
    known = ("model", "prompts", "scoring")
    outcome = Outcome(
        name=printable_path(str(path)),
        labels=found.labels,
        records=[by_path[ref.path] for ref in truth.refs],
        truth=truth.values,
        multi_label=options.multi_label,
        made_by={
            "predictions": printable_path(str(path)),
            **{key: found.manifest[key] for key in known if key in found.manifest},
        },
        resolution=RESOLUTION,
    )
    return truth, outcome


def read_predictions(path: Path, format: OutputFormat | None = None) -> Predictions:
    """Read an output of `clipcls classify`, or the `predictions.csv` of an evaluation.

    Args:
        path: The output.
        format: Its format; None takes it from the extension.

    Raises:
        InputError: It cannot be read, is no such output, or no image in it was scored.
    """
    frame = read_results(path, format)
    manifest: dict[str, Any] = {}
    # Without a manifest, only what the table itself says is known.
    with suppress(ResumeError):
        manifest = read_manifest(manifest_path(path))
    # By place, as a label may be called so.
    truth = tuple(frame.pop(TRUTH)) if frame.columns[1] == TRUTH else None
    frame = frame.drop(columns=kept_names(list(frame.columns)))
    labels = _labels(frame, manifest)
    if not labels or frame.empty:
        raise InputError(f"{visible(str(path))} holds no scored image")
    return Predictions(labels, _records(frame, labels), manifest, truth, _is_ranked(frame))


def _roots(manifest: Mapping[str, Any], paths: Sequence[str]) -> list[str]:
    """Return the folders that were classified, else the one that holds all images."""
    given = manifest.get("inputs")
    roots = [original_path(str(text)) for text in given] if isinstance(given, list) else []
    roots = [root for root in roots if any(p.startswith(os.path.join(root, "")) for p in paths)]
    if not roots:
        # Absolute and relative paths have no folder in common.
        with suppress(ValueError):
            roots = [os.path.commonpath([os.path.dirname(path) for path in paths])]
    return roots


def _is_ranked(frame: pd.DataFrame) -> bool:
    """Whether `--top-k` was used; by place, as a label may be called `label_1`."""
    start = len(BEFORE)
    return list(frame.columns[start : start + 2]) == ["label_1", "probability_1"]


def _labels(frame: pd.DataFrame, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of an output; without its manifest, those of the ranks with `--top-k`."""
    names = [name for name in frame.columns if name not in (*BEFORE, P_UNKNOWN, *AFTER)]
    if _is_ranked(frame):
        ranked = [frame[name] for name in names if name.startswith("label_")]
        found = sorted({label for column in ranked for label in column if label})
    else:
        # Raw columns repeat the labels with a prefix.
        found = [name for name in names if not _is_raw(name, names)]
    prompts = manifest.get("prompts")
    known = tuple(prompts) if isinstance(prompts, dict) else ()
    # A manifest of another output, left over under this name, knows other labels.
    return known if set(found) <= set(known) else tuple(found)


def _is_raw(name: str, names: Sequence[str]) -> bool:
    return any(name.startswith(p) and name.removeprefix(p) in names for p in RAW_PREFIXES)


def _records(frame: pd.DataFrame, labels: tuple[str, ...]) -> list[Record]:
    """Return one record per row; scores of labels that the output does not have are NaN."""
    count = len(frame)
    probabilities = np.full((count, len(labels)), np.nan)
    ranks = np.full((count, len(labels)), -np.inf)
    places = {label: place for place, label in enumerate(labels)}
    if _is_ranked(frame):
        rank = 1
        while f"label_{rank}" in frame.columns:
            found = np.array([places.get(label, -1) for label in frame[f"label_{rank}"]])
            rows = np.flatnonzero(found >= 0)
            values = frame[f"probability_{rank}"].to_numpy()[rows]
            probabilities[rows, found[rows]] = values
            # By rank: of rounded probabilities, several can be equal.
            ranks[rows, found[rows]] = -rank
            rank += 1
    else:
        probabilities = frame[list(labels)].to_numpy(dtype=np.float64)
        logits = [f"logit:{label}" for label in labels]
        has_logits = all(name in frame.columns for name in logits)
        ranks = frame[logits].to_numpy(dtype=np.float64) if has_logits else probabilities.copy()
        # What was predicted ranks first, also where rounding made it equal to another.
        found = np.array([places.get(name, -1) for name in frame["prediction"]])
        rows = np.flatnonzero(found >= 0)
        ranks[rows, found[rows]] = np.nextafter(ranks[rows].max(axis=1), np.inf)
    unknown = frame[P_UNKNOWN] if P_UNKNOWN in frame.columns else [None] * count
    return [
        Failure(i, path, error)
        if error
        else Prediction(
            index=i,
            path=path,
            labels=labels,
            prediction=name if name in places else UNKNOWN,
            probability=float(probability),
            probabilities=probabilities[i],
            logits=ranks[i],
            similarities=np.full(len(labels), np.nan, dtype=np.float32),
            note=note,
            p_unknown=p_unknown,
        )
        for i, (path, name, probability, note, error, p_unknown) in enumerate(
            zip(*(frame[name] for name in (*BEFORE, *AFTER)), unknown, strict=True)
        )
    ]
