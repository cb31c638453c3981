"""`clipcls calibrate`: probabilities that hold, and a threshold that does what is wished."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from clipcls.cli import _flags as flags
from clipcls.cli import _run_flags as run_flags
from clipcls.cli import _truth_flags as truth_flags
from clipcls.cli._base import own_process
from clipcls.errors import OptionError
from clipcls.options import (
    DecodeOptions,
    Decoding,
    DiscoveryOptions,
    Fit,
    Precision,
    RemoteOptions,
    ScoringOptions,
    Truncated,
)

EPILOG = """\b
Examples:
  clipcls calibrate ./images labels.csv --labels glasses,no-glasses -o calib.json
  clipcls calibrate ./images labels.csv --labels glasses,no-glasses --precision 0.95 -o calib.json
  clipcls classify ./more --labels glasses,no-glasses --calibration calib.json -o out.csv
"""

_fitted: Any = partial(typer.Option, rich_help_panel="What is fitted")


def calibrate(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES... LABELS",
            help="Files, folders or patterns, then the table of their true labels (.csv, .tsv,"
            " .jsonl, .parquet).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where the calibration goes (calib.json)."
        ),
    ],
    labels: flags.LabelsFlag = None,
    label: flags.LabelFlag = None,
    labels_file: flags.LabelsFileFlag = None,
    template: flags.TemplateFlag = None,
    templates: flags.TemplatesFlag = None,
    head: flags.HeadFlag = None,
    model: flags.ModelFlag = None,
    arch: flags.ArchFlag = None,
    precision: Annotated[
        float | None,
        _fitted(
            "--precision",
            metavar="P",
            help="Find the threshold above which this share of the predictions is right (0 to 1).",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        _fitted(
            "--coverage",
            metavar="C",
            help="Find the threshold that keeps this share of the images (0 to 1).",
        ),
    ] = None,
    bias: Annotated[
        bool, _fitted("--bias", help="Fit a bias per label too; predictions may change.")
    ] = False,
    held_out: Annotated[
        float,
        _fitted("--held-out", metavar="S", help="The share of the images that judges the result."),
    ] = 0.5,
    unknown: run_flags.UnknownFlag = None,
    unknown_words: run_flags.UnknownWordsFlag = None,
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
    overwrite: run_flags.OverwriteFlag = False,
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
    batch_size: run_flags.BatchSizeFlag = "auto",
    workers: run_flags.WorkersFlag = "auto",
    cache: run_flags.CacheFlag = True,
    cache_dir: run_flags.CacheDirFlag = None,
    verify_cache: run_flags.VerifyCacheFlag = False,
    quiet: run_flags.QuietFlag = False,
    verbose: run_flags.VerboseFlag = False,
) -> None:
    """Fit temperature and threshold on a part of labelled images, and judge them on the rest."""
    decode = DecodeOptions(max_megapixels, truncated, fit, decoding)
    remote = run_flags.remote_options(downloads, download_timeout, max_download, allow_private_urls)
    discovery = DiscoveryOptions(recursive, exclude=tuple(exclude or ()), remote=remote)
    runtime = run_flags.runtime_options(
        *(device, Precision.AUTO, batch_size, workers), *(cache, cache_dir, verify_cache)
    )
    competing = run_flags.unknown_options(unknown, unknown_words)
    if other_as is not None and competing is None:
        raise OptionError("--other-as unknown needs --unknown auto: nothing else is fitted on them")
    images, table = truth_flags.split_inputs(
        inputs, from_folders=from_folders, image_column=image_column
    )
    truth_options = truth_flags.truth_options(
        *(image_column, label_column, image_pattern, mapping, class_names),
        *(ignore_unknown, limit, sample, seed),
        unknown=competing is not None,
        other_as=other_as,
    )
    asked, filled, learned = flags.labels_or_head(
        *(labels, label, labels_file, template, templates, head), inputs, quiet=quiet, needed=False
    )
    from clipcls.console import TerminalObserver
    from clipcls.evaluation.calibration import CalibrationOptions, write_calibration
    from clipcls.evaluation.calibration import calibrate as fitted
    from clipcls.evaluation.trial import Trial, evaluate
    from clipcls.outputs.base import check_target
    from clipcls.question import Inputs
    from clipcls.tables import show_calibration

    files = (labels_file, class_names, templates, head, unknown_words)
    reads = (*inputs, *map(str, filter(None, files)))
    check_target(output, overwrite=overwrite, reads=reads)
    options = CalibrationOptions(bias, precision, coverage, held_out, seed)
    trial = Trial(
        inputs=Inputs(images, discovery, decode),
        table=table,
        model=flags.model_choice(model, arch, runtime, learned),
        templates=filled,
        labels=asked,
        truth=truth_options,
        head=learned,
        scoring=ScoringOptions(unknown=competing),
    )
    own_process(max_megapixels)
    with TerminalObserver(run_flags.verbosity(quiet, verbose), summary=False) as observer:
        _, [outcome] = evaluate(trial, observer)
    found = fitted(outcome, options)
    write_calibration(output, found)
    show_calibration(found, output, precision, unknown=competing is not None)
    raise typer.Exit(3 if outcome.failures else 0)
