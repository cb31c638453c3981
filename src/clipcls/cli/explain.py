"""`clipcls explain`: which parts of an image carry the logit of each label."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipcls.cli import _flags as flags
from clipcls.cli import _run_flags as run_flags
from clipcls.cli._base import own_process
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

EPILOG = """\b
Examples:
  clipcls explain cat.jpg --labels cat,dog -o explain.png
  clipcls explain ./images --labels cat,dog -o explained
  clipcls explain cat.jpg --head pets.head.safetensors -o explain.png
  clipcls report out.csv --explanations explained -o report
"""


def explain(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, glob patterns, addresses (https://, s3://, zip:// ...),"
            " @list.txt, or - for paths on standard input.",
            show_default=False,
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
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            rich_help_panel="Output",
            help="A .png, .svg or .pdf file for a picture with a row per image, a .json file for"
            " the numbers (- is standard output, the default), or a folder for a picture per image"
            " and index.json; may be repeated.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace what is there already.", rich_help_panel="Output"
        ),
    ] = False,
    multi_label: run_flags.MultiLabelFlag = False,
    calibration: run_flags.CalibrationFlag = None,
    recursive: run_flags.RecursiveFlag = True,
    exclude: run_flags.ExcludeFlag = None,
    null: run_flags.NullFlag = False,
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
    quiet: run_flags.QuietFlag = False,
    verbose: run_flags.VerboseFlag = False,
) -> None:
    """Show which parts of each image carry the logit of each label."""
    said = run_flags.verbosity(quiet, verbose)
    decode = DecodeOptions(max_megapixels, truncated, fit, decoding)
    remote = run_flags.remote_options(downloads, download_timeout, max_download, allow_private_urls)
    discovery = DiscoveryOptions(recursive, null, tuple(exclude or ()), remote)
    scoring = run_flags.scoring_options(multi_label, None, None, calibration)
    runtime = run_flags.runtime_options(device, precision, batch_size, "auto", False, None, False)
    asked, filled, learned = flags.labels_or_head(
        labels, label, labels_file, template, templates, head, inputs, quiet=quiet
    )

    # From here on numpy and Pillow are needed; a slip in a flag was found without them.
    from clipcls.console import TerminalObserver
    from clipcls.explaining.files import Targets
    from clipcls.explaining.job import Job, run
    from clipcls.question import Inputs, Question

    names = list(dict.fromkeys(output or ["-"]))
    paths = [Path(name) for name in names if name != "-"]
    folders = [path for path in paths if not path.suffix or path.is_dir()]
    if len(folders) > 1:
        raise OptionError(f"-o names two folders, {folders[0]} and {folders[1]}: give one")
    files = tuple(path for path in paths if path not in folders)
    job = Job(
        inputs=Inputs(tuple(inputs), discovery, decode),
        question=Question(asked, filled, scoring, learned),
        model=flags.model_choice(model, arch, runtime, learned),
        targets=Targets(folders[0] if folders else None, files, stdout="-" in names),
        overwrite=overwrite,
        reads=tuple(filter(None, (labels_file, Path(templates or ""), calibration, head))),
    )
    own_process(max_megapixels)
    with TerminalObserver(said) as observer:
        report = run(job, sys.stdout.buffer, observer)
    raise typer.Exit(report.exit_code)
