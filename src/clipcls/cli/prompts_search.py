"""`clipcls prompts search`: which templates and wordings are best on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcls.cli import _flags as flags
from clipcls.cli import _run_flags as run_flags
from clipcls.cli import _truth_flags as truth_flags
from clipcls.cli._base import own_process
from clipcls.options import (
    DecodeOptions,
    Decoding,
    DiscoveryOptions,
    Fit,
    Precision,
    RemoteOptions,
    Truncated,
)

EPILOG = """\b
Examples:
  clipcls prompts search ./images labels.csv --labels glasses,no-glasses -o found
  clipcls prompts search ./images labels.csv --wordings wordings.txt -o found
  clipcls classify ./more --labels-file found/labels.json --templates found/templates.txt
"""


def search(
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
            "--output",
            "-o",
            metavar="DIR",
            help="The folder for labels.json and templates.txt, which classify takes.",
        ),
    ],
    wordings: Annotated[
        Path | None,
        typer.Option(
            "--wordings",
            metavar="FILE",
            help="Wordings to choose from, a line label=wording each, many of a label.",
        ),
    ] = None,
    labels: flags.LabelsFlag = None,
    label: flags.LabelFlag = None,
    labels_file: flags.LabelsFileFlag = None,
    template: flags.TemplateFlag = None,
    templates: flags.TemplatesFlag = None,
    model: flags.ModelFlag = None,
    arch: flags.ArchFlag = None,
    from_folders: truth_flags.FromFoldersFlag = False,
    image_column: truth_flags.ImageColumnFlag = None,
    label_column: truth_flags.LabelColumnFlag = None,
    image_pattern: truth_flags.ImagePatternFlag = None,
    mapping: truth_flags.MapFlag = None,
    class_names: truth_flags.ClassNamesFlag = None,
    ignore_unknown: truth_flags.IgnoreUnknownFlag = False,
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
    precision: run_flags.PrecisionFlag = Precision.AUTO,
    batch_size: run_flags.BatchSizeFlag = "auto",
    workers: run_flags.WorkersFlag = "auto",
    cache: run_flags.CacheFlag = True,
    cache_dir: run_flags.CacheDirFlag = None,
    verify_cache: run_flags.VerifyCacheFlag = False,
    quiet: run_flags.QuietFlag = False,
    verbose: run_flags.VerboseFlag = False,
) -> None:
    """Find the templates and wordings that are best on labelled images, and say how sure that is.

    The default is what --templates and --labels say; the others are all template sets, each of
    their templates alone, and for each label its bare name and the lines of --wordings.
    """
    said = run_flags.verbosity(quiet, verbose)
    decode = DecodeOptions(max_megapixels, truncated, fit, decoding)
    remote = run_flags.remote_options(downloads, download_timeout, max_download, allow_private_urls)
    discovery = DiscoveryOptions(recursive, exclude=tuple(exclude or ()), remote=remote)
    runtime = run_flags.runtime_options(
        *(device, precision, batch_size, workers), *(cache, cache_dir, verify_cache)
    )
    images, table = truth_flags.split_inputs(inputs, from_folders=from_folders)
    truth_options = truth_flags.truth_options(
        *(image_column, label_column, image_pattern, mapping, class_names),
        *(ignore_unknown, limit, sample, seed),
    )
    asked, filled = flags.labels_and_templates(
        labels, label, labels_file, template, templates, inputs=inputs, quiet=quiet, needed=False
    )
    from clipcls.console import TerminalObserver
    from clipcls.evaluation import search as searching
    from clipcls.evaluation.trial import Trial
    from clipcls.outputs.base import check_folder, check_target
    from clipcls.question import Inputs
    from clipcls.tables import show_search

    check_folder(output)
    reads = (*inputs, *map(str, filter(None, (labels_file, class_names, templates, wordings))))
    for name in (searching.LABELS, searching.TEMPLATES) if output.is_dir() else ():
        check_target(output / name, overwrite=overwrite, reads=reads)
    trial = Trial(
        inputs=Inputs(images, discovery, decode),
        table=table,
        model=flags.model_choice(model, arch, runtime),
        templates=filled,
        labels=asked,
        truth=truth_options,
    )
    own_process(max_megapixels)
    with TerminalObserver(said, summary=False) as observer:
        found = searching.search(trial, wordings, observer)
    found.save(output)
    show_search(found, output)
    raise typer.Exit(3 if found.failures else 0)
