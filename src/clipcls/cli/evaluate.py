"""`clipcls evaluate`: how good is it on labelled images, and which wording is best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcls.cli import _flags as flags
from clipcls.cli import _run_flags as run_flags
from clipcls.cli import _truth_flags as truth_flags
from clipcls.cli._base import echo, own_process
from clipcls.errors import OptionError
from clipcls.options import (
    DecodeOptions,
    Decoding,
    DiscoveryOptions,
    Fit,
    Precision,
    RemoteOptions,
    Truncated,
)

if TYPE_CHECKING:
    from clipcls.console import TerminalObserver
    from clipcls.evaluation.compare import Outcome
    from clipcls.evaluation.truth import Truth

EPILOG = """\b
Examples:
  clipcls evaluate ./images labels.csv --labels glasses,no-glasses
  clipcls evaluate ./faces train.csv --image-pattern "face-{id}.png" \\
      --label-column glasses --map 0=no-glasses,1=glasses
  clipcls evaluate ./images labels.csv \\
      --variant "bare:template=<>" --variant "seven:templates=openai7"
  clipcls evaluate --predictions out.csv labels.csv --report report
"""

_judged: Any = partial(typer.Option, rich_help_panel="What is judged")
_result: Any = partial(typer.Option, rich_help_panel="Output")


def evaluate(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES... LABELS",
            help="Files, folders or patterns, then the table of their true labels (.csv, .tsv,"
            " .jsonl, .parquet).",
            show_default=False,
        ),
    ] = None,
    labels: flags.LabelsFlag = None,
    label: flags.LabelFlag = None,
    labels_file: flags.LabelsFileFlag = None,
    template: flags.TemplateFlag = None,
    templates: flags.TemplatesFlag = None,
    head: flags.HeadFlag = None,
    model: flags.ModelFlag = None,
    arch: flags.ArchFlag = None,
    from_folders: truth_flags.FromFoldersFlag = False,
    image_column: truth_flags.ImageColumnFlag = None,
    label_column: truth_flags.LabelColumnFlag = None,
    image_pattern: truth_flags.ImagePatternFlag = None,
    mapping: truth_flags.MapFlag = None,
    class_names: truth_flags.ClassNamesFlag = None,
    ignore_unknown: truth_flags.IgnoreUnknownFlag = False,
    other_as: truth_flags.OtherAsFlag = None,
    limit: truth_flags.LimitFlag = None,
    sample: truth_flags.SampleFlag = None,
    seed: truth_flags.SeedFlag = 0,
    predictions: Annotated[
        Path | None,
        _judged(
            "--predictions",
            metavar="FILE",
            help="Judge what clipcls classify wrote, in place of IMAGES; no model is loaded.",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        _judged(
            "--variant",
            metavar="NAME:KEY=VALUE",
            help="Compare variants: KEY is labels, labels-file, template, templates, head, model or"
            " arch. Repeat it for more variants, and for more keys of one.",
        ),
    ] = None,
    variants: Annotated[
        Path | None,
        _judged(
            "--variants",
            metavar="FILE.toml",
            help="Compare the variants of a file: a table [NAME] with such keys for each.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        _result(
            "--report",
            metavar="DIR",
            help="Write metrics.json, predictions.csv, plots and a page to look at them into this"
            " folder.",
        ),
    ] = None,
    as_json: Annotated[bool, _result("--json", help="Print the metrics as JSON.")] = False,
    overwrite: Annotated[
        bool, _result("--overwrite", help="Replace the report that is in the folder.")
    ] = False,
    multi_label: run_flags.MultiLabelFlag = False,
    threshold: run_flags.ThresholdFlag = None,
    margin: run_flags.MarginFlag = None,
    calibration: run_flags.CalibrationFlag = None,
    unknown: run_flags.UnknownFlag = None,
    unknown_words: run_flags.UnknownWordsFlag = None,
    unknown_threshold: run_flags.UnknownThresholdFlag = None,
    recursive: run_flags.RecursiveFlag = True,
    exclude: run_flags.ExcludeFlag = None,
    fit: run_flags.FitFlag = Fit.MODEL,
    decoding: run_flags.DecodeFlag = Decoding.FAST,
    max_megapixels: run_flags.MaxMegapixelsFlag = DecodeOptions.max_megapixels,
    truncated: run_flags.TruncatedFlag = Truncated.ERROR,
    downloads: run_flags.DownloadsFlag = RemoteOptions.downloads,
    download_timeout: run_flags.DownloadTimeoutFlag = RemoteOptions.timeout,
    max_download: run_flags.MaxDownloadFlag = RemoteOptions.max_megabytes,
    allow_private_urls: run_flags.AllowPrivateUrlsFlag = False,
    device: run_flags.DeviceFlag = "auto",
    precision: run_flags.PrecisionFlag = Precision.AUTO,
    batch_size: run_flags.BatchSizeFlag = "auto",
    workers: run_flags.WorkersFlag = "auto",
    cache: run_flags.CacheFlag = True,
    cache_dir: run_flags.CacheDirFlag = None,
    verify_cache: run_flags.VerifyCacheFlag = False,
    quiet: run_flags.QuietFlag = False,
    verbose: run_flags.VerboseFlag = False,
) -> None:
    """Measure how good the predictions are, on images whose labels are known."""
    competing = run_flags.unknown_options(unknown, unknown_words, unknown_threshold)
    scoring = run_flags.scoring_options(multi_label, threshold, margin, calibration, competing)
    decode = DecodeOptions(max_megapixels, truncated, fit, decoding)
    remote = run_flags.remote_options(downloads, download_timeout, max_download, allow_private_urls)
    discovery = DiscoveryOptions(recursive, exclude=tuple(exclude or ()), remote=remote)
    runtime = run_flags.runtime_options(
        *(device, precision, batch_size, workers), *(cache, cache_dir, verify_cache)
    )
    given = inputs or []
    if predictions is not None:
        beside: dict[str, object] = {
            "--labels": labels or label or labels_file,
            "--template": template or templates,
            "--head": head,
            "--model": model or arch,
            "--variant": variant or variants,
            "--threshold": threshold,
            "--margin": margin,
            "--calibration": calibration,
            "--unknown": unknown,
        }
        _refuse_beside_predictions(given, from_folders, beside)
    images, table = truth_flags.split_inputs(
        given, from_folders=from_folders, images=predictions is None, image_column=image_column
    )
    options = truth_flags.truth_options(
        *(image_column, label_column, image_pattern, mapping, class_names),
        *(ignore_unknown, limit, sample, seed, multi_label),
        unknown=competing is not None,
        other_as=other_as,
    )
    asked, filled, learned = flags.labels_or_head(
        *(labels, label, labels_file, template, templates, head), given, quiet=quiet, needed=False
    )
    from clipcls.console import TerminalObserver
    from clipcls.evaluation import trial as trials
    from clipcls.evaluation.predictions import judge_predictions
    from clipcls.evaluation.report import check_folder
    from clipcls.evaluation.variants import read_variants
    from clipcls.page.build import PAGE, check_page
    from clipcls.question import Inputs

    if report is not None:
        check_folder(report, overwrite=overwrite)
        check_page(report / PAGE, overwrite=overwrite)
    own_process(max_megapixels)
    with TerminalObserver(run_flags.verbosity(quiet, verbose), summary=False) as observer:
        if predictions is not None:
            truth, *outcomes = judge_predictions(predictions, table, options, observer)
        else:
            changes = read_variants(variant or (), variants)
            # Beside a head, zero-shot is that of the head's own model.
            heads = [learned, *(change.head for change in changes.values())]
            choice = flags.model_choice(model, arch, runtime, next(filter(None, heads), None))
            what = (Inputs(images, discovery, decode), table, choice, filled, asked, options)
            trial = trials.Trial(*what, scoring, changes, learned)
            truth, outcomes = trials.evaluate(trial, observer)
        _tell(outcomes, truth, report, observer, as_json=as_json)
    raise typer.Exit(3 if any(outcome.failures for outcome in outcomes) else 0)


def _refuse_beside_predictions(
    given: Sequence[str], from_folders: bool, beside: Mapping[str, object]
) -> None:
    """Refuse what would need a model, or images, when an output is judged."""
    for flag, value in beside.items():
        if value is not None and value != []:
            raise OptionError(
                f"{flag} and --predictions contradict each other: what was asked is in the output"
            )
    if len(given) != (0 if from_folders else 1):
        raise OptionError(
            "--predictions takes the table of labels alone (clipcls evaluate --predictions out.csv"
            " LABELS.csv), or --from-folders without one"
        )


def _tell(
    outcomes: list[Outcome],
    truth: Truth,
    report: Path | None,
    observer: TerminalObserver,
    *,
    as_json: bool,
) -> None:
    """Print the figures and write the report."""
    from clipcls.evaluation import report as reports
    from clipcls.evaluation.compare import compare
    from clipcls.page.build import PAGE, write_page
    from clipcls.page.subject import subject_of
    from clipcls.tables import show_comparison, show_metrics

    measured = [outcome.metrics() for outcome in outcomes]
    documents = [
        reports.document(outcome, metrics, truth.report)
        for outcome, metrics in zip(outcomes, measured, strict=True)
    ]
    several = len(outcomes) > 1
    content = documents[0]
    comparison = compare(outcomes) if several else None
    if comparison is not None:
        content = reports.comparison_document(comparison, documents)
    if as_json:
        echo(json.dumps(content, indent=2))
    elif comparison is not None:
        show_comparison(comparison, outcomes, measured)
    else:
        show_metrics(outcomes[0], measured[0])
    if report is None:
        return
    if several:
        reports.write_json(report / reports.COMPARISON, content)
    made = None
    for outcome, metrics, found in zip(outcomes, measured, documents, strict=True):
        folder = reports.write_report(report, outcome, metrics, found, own_folder=several)
        subject = subject_of(outcome, outcome.name if several else "Evaluation")
        made = write_page(subject, folder / PAGE, like=made, observer=observer)
        observer.page_written(made)
