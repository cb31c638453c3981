"""The tables of an evaluation, on stdout: figures with their intervals, classes, comparisons."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipcls.console import percent, plain, points, said, stdout_console
from clipcls.evaluation.bootstrap import Figure
from clipcls.evaluation.calibration import Calibrated
from clipcls.evaluation.compare import Comparison, Outcome
from clipcls.evaluation.metrics import Metrics
from clipcls.evaluation.search import FOLDS, LABELS, TEMPLATES, Found
from clipcls.evaluation.unknown import RECALL, UnknownFigures
from clipcls.learning.curve import FLAT
from clipcls.learning.learn import Learned
from clipcls.options import ScoringOptions

_MOST_CLASSES = 20
"""Classes of a table before only the worst are shown."""

_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "top_3_accuracy": "top-3 accuracy",
    "top_5_accuracy": "top-5 accuracy",
    "f1_macro": "F1, macro",
    "f1_micro": "F1, micro",
    "cohen_kappa": "Cohen's kappa",
    "roc_auc": "ROC-AUC, macro",
    "average_precision": "average precision, macro",
    "mean_average_precision": "mean average precision",
    "log_loss": "log loss",
    "brier_score": "Brier score",
    "calibration_error": "calibration error",
    "known_kept": "known kept",
    "unknown_found": "unknown found",
}
_FEW_IMAGES = 50
"""With fewer to fit on, a calibration is a first guess."""
_MOST_CANDIDATES = 10
"""Rows of a search before the rest is counted."""
_AS_NUMBER = frozenset({"cohen_kappa", "roc_auc", "log_loss", "brier_score"})
_DIFFERENCE = "difference"
"""The name of a difference of two shares, which has points where a share has per cent."""

_TOLD_BY = {"p_unknown": "share of the words", "maximum_probability": "highest probability"}
"""Score -> what it is called in the table of the unknown."""

_OF_ONE_LABEL = {"precision": "precision", "recall": "recall", "f1": "F1"}
_OF_MULTI_LABEL = {
    "average_precision": "average precision",
    "f1": "F1",
    "best_threshold": "best threshold",
    "best_f1": "F1 there",
}
"""Key -> title of the columns of a table of classes."""


def show_metrics(outcome: Outcome, metrics: Metrics) -> None:
    """Print the figures of one outcome."""
    console = stdout_console(least=60)
    made_by = outcome.made_by.get("model")
    model = made_by["name"] if made_by else ""
    line = f"{said(metrics.images, 'image')}, {said(len(outcome.labels), 'label')}"
    console.print(plain(line + (f", model {model}" if model else "")))
    if outcome.failures:
        console.print(plain(_failed(outcome, metrics)))
    console.print()
    table = _table(("", "left"), ("", "right"), ("95 % interval", "left"))
    for name, figure in metrics.headline.items():
        table.add_row(_TITLES[name], _value(name, figure.value), _interval(name, figure))
    console.print(table)
    console.print()
    unknown = outcome.unknown_figures()
    if unknown is not None:
        _show_unknown(console, unknown)
        console.print()
    _show_classes(console, outcome, metrics)
    if metrics.thresholds:
        console.print()
        for line in _threshold_lines(outcome, metrics, unknown):
            console.print(plain(line))


def _show_unknown(console: Console, found: UnknownFigures) -> None:
    """Print how well images of none of the labels are told from the others."""
    kept = percent(found.known_kept.value)
    if found.unknown_found is None:
        console.print(
            plain(
                f"--unknown keeps {kept} of the images. None of them is unknown in truth, so how"
                " many of those it finds cannot be said"
            )
        )
        return
    known, unknown = f"{found.known:,} known", f"{found.unknown:,} unknown"
    console.print(plain(f"{known} images against {unknown}, which count in no other figure"))
    table = _table(
        ("told by", "left"),
        ("ROC-AUC", "right"),
        ("95 % interval", "left"),
        ("false positives", "right"),
    )
    for name, told in found.told_by.items():
        area = told.roc_auc
        rate = percent(told.false_positive_rate)
        cells = (_value("roc_auc", area.value), _interval("roc_auc", area), rate)
        table.add_row(_TOLD_BY[name], *cells)
    console.print(table)
    found_share = percent(found.unknown_found.value)
    console.print(
        plain(
            f"False positives: how many of the unknown are kept where {percent(RECALL)} of the"
            f" known are. Predicted unknown: {found_share} of the unknown; kept: {kept} of the"
            " known"
        )
    )


def show_comparison(
    comparison: Comparison, outcomes: Sequence[Outcome], measured: Sequence[Metrics]
) -> None:
    """Print variants beside each other, the best first, and say what can be said."""
    console = stdout_console(least=60)
    figure = comparison.figure
    console.print(
        plain(f"{said(comparison.images, 'image')}, {said(len(outcomes[0].labels), 'label')}")
    )
    console.print()
    metrics = {o.name: m for o, m in zip(outcomes, measured, strict=True)}
    best = comparison.ranking[0]
    behind = {pair.second: pair for pair in comparison.pairs if pair.first == best}
    columns = (("variant", "left"), (_TITLES[figure], "right"), ("95 % interval", "left"))
    table = _table(*columns, ("behind", "right"), ("95 % interval", "left"), ("p", "right"))
    for name in comparison.ranking:
        own = metrics[name].headline[figure]
        row: list[str | Text] = [plain(name), _value(figure, own.value), _interval(figure, own)]
        if name in behind:
            pair = behind[name]
            row += [
                _value(_DIFFERENCE, pair.difference.value),
                _interval(_DIFFERENCE, pair.difference),
                f"{pair.p_value:.3f}" if pair.p_value >= 0.001 else "< 0.001",
            ]
        table.add_row(*row)
    console.print(table)
    console.print()
    if comparison.winner is not None:
        verdict = f"The winner is {best}: better than every other variant beyond chance."
    else:
        rivals = ", ".join(comparison.rivals)
        verdict = (
            f"No winner: with {said(comparison.images, 'image')}, {best} cannot be told from"
            f" {rivals}."
        )
    console.print(plain(verdict))


def show_search(found: Found, folder: Path) -> None:
    """Print what a search for templates and wordings found, and what it is worth.

    Args:
        found: The search.
        folder: Where it was written.
    """
    console = stdout_console(least=60)
    count = said(len(found.ranking), "choice") + " of templates"
    console.print(
        plain(f"{said(found.images, 'image')}, {count}; the default is {found.default.name}")
    )
    if found.left_out:
        console.print(plain(f"Left out, for their number of prompts: {', '.join(found.left_out)}"))
    console.print()
    table = _table(("templates", "left"), ("number", "right"), ("accuracy, best wordings", "right"))
    shown = [
        row
        for place, row in enumerate(found.ranking)
        if place < _MOST_CANDIDATES or row[0] == found.default
    ]
    for templates, accuracy in shown:
        name = templates.name + " (the default)" * (templates == found.default)
        table.add_row(plain(name), str(len(templates.templates)), percent(accuracy))
    console.print(table)
    if rest := len(found.ranking) - len(shown):
        console.print(plain(f"and {rest} more"))
    console.print()
    console.print(
        plain(f"Chosen: {found.templates.name}, also in {found.chosen_in} of {FOLDS} folds")
    )
    for label, choices in zip(found.labels, found.choices, strict=True):
        is_default = label.wordings == choices[0]
        what = "the default" if is_default else f"the default is {' | '.join(choices[0])}"
        text = f"{' | '.join(label.wordings)} (one of {len(choices)}; {what})"
        console.print(plain(f"  {label.name}: {text}"))
    console.print()
    table = _table(("", "left"), ("accuracy", "right"), ("95 % interval", "left"))
    rows = {
        "default": found.before,
        "chosen, on images that did not choose": found.after,
        _DIFFERENCE: found.difference,
    }
    for name, figure in rows.items():
        table.add_row(name, _value(name, figure.value), _interval(name, figure))
    console.print(table)
    console.print()
    if found.is_better:
        files = {"--labels-file": folder / LABELS, "--templates": folder / TEMPLATES}
        names = " ".join(f"{flag} {shlex.quote(str(file))}" for flag, file in files.items())
        verdict = f"Better than the default beyond chance (p = {found.p_value:.3f})."
        written = f"Written to {folder}; use it with {names}"
    else:
        verdict = (
            f"Not better than the default beyond chance (p = {found.p_value:.3f}): keep to the"
            " default."
        )
        written = f"Written to {folder} all the same"
    console.print(plain(verdict))
    console.print(plain(written), soft_wrap=True)


def show_calibration(
    found: Calibrated, path: Path, wished: float | None = None, *, unknown: bool = False
) -> None:
    """Print what a calibration does to the images that were held out.

    Args:
        found: The calibration.
        path: Where it was written.
        wished: The precision that was asked for.
        unknown: Whether a threshold for the unknown was asked for.
    """
    console = stdout_console(least=60)
    own = found.calibration
    noun = "image" if own.unknown_threshold is None else "known image"
    fitted, judged = said(found.fitted, noun), said(found.held_out, "other")
    console.print(plain(f"Fitted on {fitted}, judged on {judged}"))
    console.print()
    interval = ("95 % interval", "left")
    table = _table(("", "left"), ("before", "right"), interval, ("after", "right"), interval)
    for name, after in found.after.items():
        before = found.before[name]
        cells = [
            cell for f in (before, after) for cell in (_value(name, f.value), _interval(name, f))
        ]
        # It judges the labels, so what would be `unknown` is no mistake, as it is in an evaluation.
        aside = name == "accuracy" and (unknown or own.threshold is not None)
        table.add_row(_TITLES[name] + ", unknown aside" * aside, *cells)
    console.print(table)
    console.print()
    for line in _calibration_lines(found, wished):
        console.print(plain(line))
    if unknown and own.unknown_threshold is None:
        console.print(
            plain(
                "No threshold for the unknown: no image is unknown in truth (--other-as unknown"
                " takes every truth that is no label for it)"
            )
        )
    console.print(plain(f"Written to {path}; use it with --calibration {shlex.quote(str(path))}"))


def _calibration_lines(found: Calibrated, wished: float | None) -> Iterator[str]:
    own = found.calibration
    yield f"Temperature {own.temperature:.3f}"
    if own.biases:
        named = sorted(zip(own.biases, (label for label, _ in own.prompts), strict=True))
        (low, lowest), (high, highest) = named[0], named[-1]
        yield f"Biases from {low:+.3f} ({lowest}) to {high:+.3f} ({highest})"
    if found.after["log_loss"].value >= found.before["log_loss"].value:
        yield "The log loss is no lower on the held-out images: the probabilities held before"
    if own.threshold is not None and found.coverage is not None:
        # What --unknown turns down was fitted, and is judged, apart from it.
        images = "images" if own.unknown_threshold is None else "known images, --unknown aside"
        yield (
            f"Threshold {own.threshold:.4f} keeps {percent(found.coverage.value)}"
            f" of the held-out {images},"
        )
        right = found.kept_right
        share = "none" if right is None else percent(right.value)
        yield f"{share} of them right" + ("" if right is None else f" ({_interval('', right)})")
        if wished is not None and (right is None or right.value < wished):
            yield (
                f"That is less than the wished {percent(wished)}, which held where it was fitted:"
                " with more images the two come together"
            )
    if own.unknown_threshold is not None:
        default = ScoringOptions().most_unknown
        yield f"Unknown threshold {own.unknown_threshold:.4f}, in place of {default}"
        before, after = (
            (figures["known_kept"].value + figures["unknown_found"].value) / 2
            for figures in (found.before, found.after)
        )
        if after <= before:
            yield (
                f"The mean of known kept and unknown found is no higher on the held-out images:"
                f" {percent(after)}, and {percent(before)} before"
            )
    if found.fitted < _FEW_IMAGES:
        yield f"With {said(found.fitted, 'image')} to fit on, this is a first guess: label more"


def show_learned(found: Learned, path: Path) -> None:
    """Print how good a head is beside zero-shot, and which of the two was written."""
    console = stdout_console(least=60)
    judged, tried = found.judged, found.fitted
    images = sum(found.per_label.values())
    settings = ", ".join(f"{name} {value:.3g}" for name, value in tried.settings.items())
    console.print(
        plain(
            f"{said(images, 'image')}, {said(len(found.per_label), 'label')}, model"
            f" {found.head.model}; {tried.method} ({settings})"
        )
    )
    times = f", {judged.repeats} times" if judged.repeats > 1 else ""
    console.print(
        plain(
            f"Judged on {said(judged.images, 'image')} by cross-validation with"
            f" {judged.folds} folds{times}"
        )
    )
    console.print()
    wide = ("95 % interval", "left")
    table = _table(("", "left"), ("zero-shot", "right"), wide, ("head", "right"), wide)
    both = [(_value("", f.value), _interval("", f)) for f in (judged.zero_shot, judged.head)]
    table.add_row("accuracy", *both[0], *both[1])
    for name in ("log_loss", "calibration_error"):
        before, after = getattr(judged, name)
        table.add_row(_TITLES[name], _value(name, before), "", _value(name, after), "")
    console.print(table)
    console.print()
    for line in _verdict(found):
        console.print(plain(line))
    console.print(plain(f"Written to {path}; use it with --head {shlex.quote(str(path))}"))


def _verdict(found: Learned) -> Iterator[str]:
    difference = found.judged.difference
    gain = f"{points(difference.value)} ({_interval(_DIFFERENCE, difference)})"
    if found.judged.is_better:
        yield f"The head is better beyond chance, by {gain}"
    else:
        yield f"No better than zero-shot beyond chance: a difference of {gain}"
        yield "What is written is the zero-shot classifier; with more labels, try again"


def show_curve(found: Learned, picture: Path) -> None:
    """Print accuracy against examples, and whether more will pay."""
    console = stdout_console(least=60)
    console.print()
    table = _table(("of each label", "right"), ("accuracy", "right"), ("95 % interval", "left"))
    *steps, last = found.curve
    rows = {"none, zero-shot": found.judged.zero_shot}
    rows |= {str(step.examples): step.accuracy for step in steps}
    rows |= {f"all, {last.examples}": last.accuracy}
    for name, figure in rows.items():
        table.add_row(name, _value("", figure.value), _interval("", figure))
    console.print(table)
    console.print()
    if (gain := last.gain) is not None:
        brought = f"{points(gain.value)} ({_interval(_DIFFERENCE, gain)})"
        console.print(
            plain(f"From {last.examples // 2} to {last.examples} of each label: {brought}")
        )
        if gain.low > 0:
            verdict = "The curve still rises beyond chance: labelling more should pay"
        elif gain.high < FLAT:
            verdict = "The curve is flat: labelling more will hardly pay"
        else:
            verdict = "Whether the curve still rises or is flat, these images cannot tell"
        console.print(plain(verdict))
    console.print(plain(f"Plotted in {picture}"))


def _show_classes(console: Console, outcome: Outcome, metrics: Metrics) -> None:
    rows = list(metrics.per_class)
    shown = rows
    if len(rows) > _MOST_CLASSES:
        shown = sorted((r for r in rows if r["support"]), key=lambda r: r["f1"])[:_MOST_CLASSES]
    columns = _OF_MULTI_LABEL if outcome.multi_label else _OF_ONE_LABEL
    last = () if outcome.multi_label else (("most often taken for", "left"),)
    table = _table(
        ("label", "left"), ("images", "right"), *((h, "right") for h in columns.values()), *last
    )
    places = {label: place for place, label in enumerate(outcome.labels)}
    for row in shown:
        cells = [_cell(key, row, outcome) for key in columns]
        if last:
            cells.append(_taken_for(places[row["label"]], outcome.labels, metrics))
        table.add_row(plain(row["label"]), f"{row['support']:,}", *cells)
    console.print(table)
    if len(shown) < len(rows):
        console.print(plain(f"The {len(shown)} labels of lowest F1, of {len(rows)}.", "dim"))
    if outcome.multi_label:
        console.print(plain("Best thresholds were chosen on these images, so they flatter.", "dim"))


def _cell(key: str, row: Mapping[str, Any], outcome: Outcome) -> str | Text:
    value = row[key]
    if value is None:
        absent = "no images" if not row["support"] else "never predicted"
        return Text(absent if key in ("recall", "precision", "average_precision") else "", "dim")
    return f"{value:.3f}" if key == "best_threshold" else percent(value)


def _taken_for(place: int, labels: Sequence[str], metrics: Metrics) -> Text:
    counts = metrics.confusion[place].copy()
    counts[place] = 0
    other = int(counts.argmax())
    if not counts[other]:
        return plain("")
    return plain(f"{(*labels, 'unknown')[other]} ({counts[other]})")


def _threshold_lines(
    outcome: Outcome, metrics: Metrics, unknown: UnknownFigures | None
) -> Iterator[str]:
    """Yield what thresholds on the probability would keep, and how right that is."""
    beside = " and ".join(f"--{name}" for name in outcome.turned_down_by)
    images = "the known images" if unknown is not None and unknown.unknown else "the images"
    if beside:
        yield f"With {beside}, of {images}:"
    of_them = "" if beside else f" of {images}"
    for wanted in (0.5, 0.8, 0.95):
        row = next(row for row in metrics.thresholds if row["threshold"] >= wanted)
        if row["accuracy"] is not None:
            yield (
                f"--threshold {wanted:g} keeps {percent(row['coverage'])}{of_them},"
                f" {percent(row['accuracy'])} of them right"
            )


def _failed(outcome: Outcome, metrics: Metrics) -> str:
    failures = outcome.failures
    line = (
        f"{said(len(failures), 'image')} failed and counted in no figure"
        f" ({failures[0].path}: {failures[0].reason})"
    )
    accuracy = metrics.headline.get("accuracy")
    if accuracy is None:
        return line
    share = accuracy.value * metrics.images / (metrics.images + len(failures))
    return f"{line}; taken for wrong, accuracy is {percent(share)}"


def _value(name: str, value: float) -> str:
    if name in _AS_NUMBER:
        return f"{value:.3f}"
    return points(value) if name == _DIFFERENCE else percent(value)


def _interval(name: str, figure: Figure) -> str:
    if figure.low != figure.low:
        return "not known"
    low, _, _ = _value(name, figure.low).partition(" ")
    return f"{low} to {_value(name, figure.high)}"


def _table(*columns: tuple[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=True)
    for title, justify in columns:
        table.add_column(title, justify=justify, overflow="fold")
    return table
