"""An evaluation on disk: `metrics.json`, `predictions.csv` and plots."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import clipcls
from clipcls.columns import TRUTH, Columns
from clipcls.errors import OptionError, OutputError
from clipcls.evaluation import plots
from clipcls.evaluation.compare import Comparison, Outcome
from clipcls.evaluation.join import JoinReport
from clipcls.evaluation.metrics import SCHEMA, Metrics
from clipcls.outputs.base import write_file
from clipcls.records import Prediction
from clipcls.text import printable_path, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"
COMPARISON = "comparison.json"


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Make sure, before anything is computed, that a report can be written.

    Raises:
        OptionError: The folder holds a report, or is no folder.
        OutputError: The folder cannot be made.
    """
    there = [name for name in (METRICS, COMPARISON) if (folder / name).exists()]
    if there and not overwrite:
        raise OptionError(
            f"{visible(str(folder / there[0]))} exists: add --overwrite to replace it"
        )
    _make(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"--report: cannot make {visible(str(folder))}: {reason}") from error


def document(outcome: Outcome, metrics: Metrics, report: JoinReport) -> dict[str, Any]:
    """Return the content of `metrics.json`, ready for JSON; docs/evaluate.md describes it."""
    failures = outcome.failures
    right = metrics.headline.get("accuracy")
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "clipcls": clipcls.__version__,
        "name": outcome.name,
        "made_by": dict(outcome.made_by),
        "multi_label": outcome.multi_label,
        "labels": list(outcome.labels),
        "images": {
            "scored": metrics.images,
            "failed": len(failures),
            "failures": [[printable_path(f.path), printable_path(f.reason)] for f in failures],
            **{key: _printable(value) for key, value in asdict(report).items() if key != "notes"},
        },
        "headline": {name: asdict(figure) for name, figure in metrics.headline.items()},
        "averages": dict(metrics.averages),
        "per_class": list(metrics.per_class),
        "resamples": {"ranking_figures": metrics.resamples[1], "others": metrics.resamples[0]},
    }
    if right is not None:
        everything = metrics.images + len(failures)
        content["images"]["accuracy_if_failures_are_wrong"] = (
            right.value * metrics.images / everything
        )
    unknown = outcome.unknown_figures()
    if unknown is not None:
        content["unknown"] = asdict(unknown)
    if not outcome.multi_label:
        content["confusion"] = {
            "rows": list(outcome.labels),
            "columns": [*outcome.labels, "unknown"],
            "counts": metrics.confusion.tolist(),
        }
        content["calibration"] = list(metrics.bins)
        content["thresholds"] = list(metrics.thresholds)
    return {key: _jsonable(value) for key, value in content.items()}


def comparison_document(comparison: Comparison, documents: Sequence[Any]) -> dict[str, Any]:
    """Return the content of `comparison.json`, ready for JSON."""
    content = {
        "schema": SCHEMA,
        "clipcls": clipcls.__version__,
        "figure": comparison.figure,
        "images": comparison.images,
        "ranking": list(comparison.ranking),
        "winner": comparison.winner,
        "rivals": list(comparison.rivals),
        "pairs": [
            {**asdict(pair), "is_beyond_chance": pair.is_beyond_chance} for pair in comparison.pairs
        ],
        "variants": list(documents),
    }
    return {key: _jsonable(value) for key, value in content.items()}


def write_report(
    folder: Path,
    outcome: Outcome,
    metrics: Metrics,
    content: dict[str, Any],
    *,
    own_folder: bool = False,
) -> Path:
    """Write `metrics.json`, `predictions.csv` and the plots of one outcome.

    Args:
        folder: Where to.
        outcome: What is written.
        metrics: Its figures.
        content: Of `metrics.json`.
        own_folder: Whether they go into a folder of the outcome's name inside.

    Returns:
        The folder that they are in.

    Raises:
        OutputError: A file cannot be written; what was written before stays.
    """
    if own_folder:
        folder = folder / outcome.name
        _make(folder)
    write_json(folder / METRICS, content)
    write_file(folder / PREDICTIONS, _predictions(outcome).encode())
    for name, figure in _plots(outcome, metrics).items():
        plots.save_figure(figure, folder / f"{name}.png")
    return folder


def _predictions(outcome: Outcome) -> str:
    """Return the rows of an output of `clipcls classify`, each with its truth after the path."""
    scored = (record for record in outcome.records if isinstance(record, Prediction))
    columns = Columns(outcome.labels, unknown=any(r.p_unknown is not None for r in scored))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    path, prediction, *scores, note, error = columns.names
    writer.writerow([path, TRUTH, prediction, *scores, note, error])
    for record, values in zip(outcome.records, outcome.truth, strict=True):
        row = columns.row(record)
        # A number is not known where the row failed, or an output of --top-k left it out.
        numbers = [math.nan] * len(scores) if row.numbers is None else row.numbers.tolist()
        cells = ["" if math.isnan(number) else f"{number:.6f}" for number in numbers]
        truth = ";".join(values)
        writer.writerow([row.path, truth, row.prediction, *cells, row.note, row.error])
    return stream.getvalue()


def write_json(path: Path, content: object) -> None:
    """Write JSON so that a reader sees the old file or the new one.

    Raises:
        OutputError: It cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_file(path, text.encode())


def _plots(outcome: Outcome, metrics: Metrics) -> dict[str, Figure]:
    """Return file name -> figure."""
    from sklearn.metrics import precision_recall_curve

    def column(rows: Sequence[Mapping[str, Any]], key: str) -> Any:
        return np.array([np.nan if row[key] is None else row[key] for row in rows], dtype=float)

    figures = {}
    rows = metrics.per_class
    figures["classes"] = plots.draw_classes(
        outcome.labels, *(column(rows, key) for key in ("precision", "recall", "f1", "support"))
    )
    truth = outcome.truth_matrix()
    probabilities = outcome.probabilities()
    if not np.isnan(probabilities).any():
        curves = []
        for i, row in enumerate(rows):
            if row["average_precision"] is not None:
                precision, recall, _ = precision_recall_curve(truth[:, i], probabilities[:, i])
                curves.append((outcome.labels[i], precision, recall, row["average_precision"]))
        figures["precision_recall"] = plots.draw_precision_recall(curves)
    if outcome.multi_label:
        return figures
    unknown = metrics.confusion[:, -1].any()
    matrix = metrics.confusion if unknown else metrics.confusion[:, :-1]
    figures["confusion"] = plots.draw_confusion(matrix, outcome.labels)
    figures["reliability"] = plots.draw_reliability(
        confidence=column(metrics.bins, "confidence"),
        accuracy=column(metrics.bins, "accuracy"),
        counts=column(metrics.bins, "images"),
        ece=metrics.headline["calibration_error"].value,
    )
    figures["thresholds"] = plots.draw_thresholds(
        column(metrics.thresholds, "threshold"),
        column(metrics.thresholds, "coverage"),
        column(metrics.thresholds, "accuracy"),
        beside=[f"--{name}" for name in outcome.turned_down_by],
    )
    return figures


def _printable(value: Any) -> Any:
    """Return a value whose names and paths are text that JSON can hold."""
    if isinstance(value, Mapping):
        return {printable_path(key): item for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(item) for item in value]
    return printable_path(value) if isinstance(value, str) else value


def _jsonable(value: Any) -> Any:
    """Return a value with null for what is no finite number, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
