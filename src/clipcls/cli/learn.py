"""`clipcls learn`: a head from a few labels, judged beside zero-shot."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

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
    HeadMethod,
    Precision,
    RemoteOptions,
    Truncated,
)

EPILOG = """\b
Examples:
  clipcls learn ./images labels.csv --labels glasses,no-glasses -o glasses.head.safetensors
  clipcls learn ./images labels.csv --group-column person --curve -o glasses.head.safetensors
  clipcls classify ./more --head glasses.head.safetensors -o out.csv
"""

_learned: Any = partial(typer.Option, rich_help_panel="How it is learned")


def learn(
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
            "--output", "-o", metavar="FILE", help="Where the head goes (glasses.head.safetensors)."
        ),
    ],
    labels: flags.LabelsFlag = None,
    label: flags.LabelFlag = None,
    labels_file: flags.LabelsFileFlag = None,
    template: flags.TemplateFlag = None,
    templates: flags.TemplatesFlag = None,
    model: flags.ModelFlag = None,
    arch: flags.ArchFlag = None,
    method: Annotated[
        HeadMethod,
        _learned(
            "--method",
            help="gda for a few examples, probe for many; auto is gda up to 16 of a label.",
        ),
    ] = HeadMethod.AUTO,
    group_column: Annotated[
        str | None,
        _learned(
            "--group-column",
            metavar="NAME",
            help="Images of one group (a person, a camera) are never learned from and judged on.",
        ),
    ] = None,
    curve: Annotated[
        bool,
        _learned(
            "--curve",
            help="Print accuracy against labels of each class, and plot it beside the head.",
        ),
    ] = False,
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
    """Learn a head from labelled images, and judge it beside zero-shot on images held out."""
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
        group_column=group_column,
    )
    asked, filled = flags.labels_and_templates(
        labels, label, labels_file, template, templates, inputs=inputs, quiet=quiet, needed=False
    )
    from clipcls.console import TerminalObserver
    from clipcls.evaluation.plots import draw_learning_curve, save_figure
    from clipcls.evaluation.trial import Trial
    from clipcls.learning.learn import LearnOptions, advice
    from clipcls.learning.learn import learn as learned
    from clipcls.outputs.base import check_target, write_file
    from clipcls.question import Inputs
    from clipcls.tables import show_curve, show_learned

    picture = output.with_name(output.name.partition(".")[0] + ".curve.png")
    reads = (*inputs, *map(str, filter(None, (labels_file, class_names, templates))))
    for target in (output, picture) if curve else (output,):
        check_target(target, overwrite=overwrite, reads=reads)
    trial = Trial(
        inputs=Inputs(images, discovery, decode),
        table=table,
        model=flags.model_choice(model, arch, runtime),
        templates=filled,
        labels=asked,
        truth=truth_options,
    )
    own_process(max_megapixels)
    with TerminalObserver(run_flags.verbosity(quiet, verbose), summary=False) as observer:
        found = learned(trial, LearnOptions(method, curve, seed), observer)
        for sentence in advice(found):
            observer.warned(sentence)
    write_file(output, found.head.to_bytes())
    show_learned(found, output)
    if found.curve:
        points = [(point.examples, point.accuracy) for point in found.curve]
        save_figure(draw_learning_curve(points, found.judged.zero_shot.value), picture)
        show_curve(found, picture)
    raise typer.Exit(3 if found.failures else 0)
