"""`clipcls classify`: images and labels in, probabilities out."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from clipcls.cli import _flags as flags
from clipcls.cli import _run_flags as run_flags
from clipcls.cli._base import on_terminal, own_process
from clipcls.cli.sort import sorted_into
from clipcls.errors import OptionError
from clipcls.options import (
    DecodeOptions,
    Decoding,
    DiscoveryOptions,
    EngineName,
    Fit,
    OutputOptions,
    Precision,
    RayOptions,
    RemoteOptions,
    SortBy,
    SortOptions,
    Truncated,
)
from clipcls.shards import parse_shard

if TYPE_CHECKING:
    from clipcls.console import TerminalObserver, Verbosity
    from clipcls.records import RunReport
    from clipcls.run import Job

EPILOG = """\b
Examples:
  clipcls classify ./images --labels glasses,no-glasses -o out.csv
  clipcls classify @urls.txt --labels cat,dog -o out.csv
  clipcls classify photos.parquet --image-column image --keep id --labels cat,dog -o out.csv
  clipcls classify a.jpg --labels "a diagram,a dog,a cat" --template "<>"
  find . -name "*.jpg" -print0 | clipcls classify - -0 --labels-file labels.txt
  clipcls classify ./images --labels-file labels.csv -o out.parquet --resume
  clipcls classify ./images --labels cat,dog -o out.csv --sort-into sorted
"""


def classify(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, tar archives, glob patterns, addresses (https://, s3:// ...),"
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
    output: run_flags.OutputFlag = None,
    output_format: run_flags.FormatFlag = None,
    overwrite: run_flags.OverwriteFlag = False,
    resume: run_flags.ResumeFlag = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="DIR",
            help="Also make the page of clipcls report in this folder; needs -o FILE.",
            rich_help_panel="Output",
        ),
    ] = None,
    top_k: run_flags.TopKFlag = None,
    logits: run_flags.LogitsFlag = False,
    similarities: run_flags.SimilaritiesFlag = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="i/n",
            help="Only shard i of n (1/8 to 8/8), for clipcls merge; slurm takes both from the"
            " variables of an array. Needs -o FILE.",
            rich_help_panel="Output",
        ),
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            "--sort-into",
            metavar="DEST",
            help="Then put the images into DEST/LABEL/, as clipcls sort does; needs -o FILE.",
            rich_help_panel="Output",
        ),
    ] = None,
    sort_by: Annotated[
        SortBy | None,
        typer.Option(
            "--sort-by",
            help="How an image comes there.  [default: copy]",
            rich_help_panel="Output",
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column",
            metavar="NAME",
            help="Take the tables among the inputs (.csv, .tsv, .jsonl, .parquet) for tables of"
            " images: this column has their paths, addresses or, in Parquet, their bytes.",
            rich_help_panel="Images",
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="NAME,...",
            help="Copy these columns of the tables into the output, after the path.",
            rich_help_panel="Images",
        ),
    ] = None,
    multi_label: run_flags.MultiLabelFlag = False,
    threshold: run_flags.ThresholdFlag = None,
    margin: run_flags.MarginFlag = None,
    calibration: run_flags.CalibrationFlag = None,
    unknown: run_flags.UnknownFlag = None,
    unknown_words: run_flags.UnknownWordsFlag = None,
    unknown_threshold: run_flags.UnknownThresholdFlag = None,
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
    workers: run_flags.WorkersFlag = "auto",
    cache: run_flags.CacheFlag = True,
    cache_dir: run_flags.CacheDirFlag = None,
    verify_cache: run_flags.VerifyCacheFlag = False,
    engine: run_flags.EngineFlag = EngineName.LOCAL,
    ray_address: run_flags.RayAddressFlag = None,
    num_gpus: run_flags.NumGpusFlag = None,
    partitions: run_flags.PartitionsFlag = None,
    quiet: run_flags.QuietFlag = False,
    verbose: run_flags.VerboseFlag = False,
) -> None:
    """Score images against labels and write per-class probabilities."""
    said = run_flags.verbosity(quiet, verbose)
    part = None if shard is None else parse_shard(shard)
    path = None if output in (None, "-") else Path(output)
    output_options = OutputOptions(
        path, output_format, top_k, logits, similarities, overwrite=overwrite, resume=resume
    )
    then = _Then(output_options, report, sort_into, sort_by)
    then.check()
    if part is not None and path is None:
        raise OptionError("--shard needs its rows in a file, with a manifest for merge: -o FILE")
    competing = run_flags.unknown_options(unknown, unknown_words, unknown_threshold)
    scoring = run_flags.scoring_options(multi_label, threshold, margin, calibration, competing)
    decode = DecodeOptions(max_megapixels, truncated, fit, decoding)
    remote = run_flags.remote_options(downloads, download_timeout, max_download, allow_private_urls)
    kept, left_out = run_flags.column_names(keep), tuple(exclude or ())
    discovery = DiscoveryOptions(recursive, null, left_out, remote, image_column, kept)
    runtime = run_flags.runtime_options(
        *(device, precision, batch_size, workers), *(cache, cache_dir, verify_cache)
    )
    ray = run_flags.ray_options(engine, ray_address, num_gpus, partitions, runtime)
    if partitions is not None and (report is not None or sort_into is not None):
        raise OptionError("--partitions gives several files: merge them, then report and sort")
    asked, filled, learned = flags.labels_or_head(
        *(labels, label, labels_file, template, templates, head), inputs, quiet=quiet
    )

    # From here on numpy and Pillow are needed; a slip in a flag was found without them.
    from clipcls.question import Inputs, Question
    from clipcls.run import Job

    job = Job(
        inputs=Inputs(tuple(inputs), discovery=discovery, decode=decode, shard=part),
        question=Question(asked, filled, scoring, learned),
        model=flags.model_choice(model, arch, runtime, learned),
        output=output_options,
        reads=tuple(
            path
            for path in (labels_file, Path(templates or ""), calibration, head, unknown_words)
            if path and path.is_file()
        ),
    )
    raw = output is not None or output_format or logits or similarities or image_column
    # One file and a terminal to look at: a person wants to see it.
    one = on_terminal() and not raw and len(inputs) == 1 and os.path.isfile(inputs[0])
    raise typer.Exit(_scored(job, ray, then, said, one=one))


@dataclass(frozen=True)
class _Then:
    """What is made of the output once it is complete."""

    output: OutputOptions
    report: Path | None
    sort_into: Path | None
    sort_by: SortBy | None

    def check(self) -> None:
        """Refuse what could not follow, before anything is scored.

        Raises:
            OptionError: Naming the flag.
            OutputExistsError: The report's folder has something in it.
        """
        path = self.output.path
        if self.sort_by is not None and self.sort_into is None:
            raise OptionError("--sort-by needs the folder to sort into: give --sort-into DEST")
        for flag, wanted in (("--report", self.report), ("--sort-into", self.sort_into)):
            if wanted is not None and (path is None or (path.exists() and not path.is_file())):
                raise OptionError(f"{flag} needs the rows in a file: give -o FILE")
        if self.report is not None:
            from clipcls.page.build import check_folder

            # With what replaces or continues the output, its report is replaced too.
            check_folder(self.report, overwrite=self.output.overwrite or self.output.resume)
        if self.sort_into is not None:
            from clipcls.sorting.sort import check_destination

            check_destination(self.sort_into)

    def act(self, observer: TerminalObserver) -> int:
        """Write the page, then sort, which may move what the page shows; return the exit code."""
        path = self.output.path
        if path is not None and self.report is not None:
            from clipcls.page.build import PAGE, write_page
            from clipcls.page.subject import read_subject

            subject = read_subject(path, self.output.format)
            observer.page_written(write_page(subject, self.report / PAGE, observer=observer))
        if path is None or self.sort_into is None:
            return 0
        options = SortOptions(self.sort_by or SortBy.COPY, format=self.output.format)
        return sorted_into(path, self.sort_into, options, observer)


def _scored(job: Job, ray: RayOptions | None, then: _Then, said: Verbosity, *, one: bool) -> int:
    """Run the job, show the scores of one image, do what follows; return the exit code."""
    from clipcls.console import TerminalObserver, show_image
    from clipcls.records import Failure, Prediction

    # A bar and rows would write over each other on one terminal.
    bar = job.output.path is not None or one or not on_terminal()
    with TerminalObserver(said, bar=bar, summary=not one) as observer:
        if job.inputs.shard is not None:
            observer.noted(f"Shard {job.inputs.shard}")
        exit_code = _execute(job, observer, ray, stdout=BytesIO() if one else None)
        if one and isinstance(observer.last, Prediction):
            show_image(observer.last, job.output.top_k)
        elif one and isinstance(observer.last, Failure):
            observer.say(f"{observer.last.path}: {observer.last.reason}")
        if exit_code in (0, 3):
            exit_code = max(exit_code, then.act(observer))
    return exit_code


def _run(
    job: Job,
    observer: TerminalObserver,
    ray: RayOptions | None,
    stdout: BinaryIO | None,
    should_stop: Callable[[], bool],
) -> RunReport:
    from clipcls.run import run

    if ray is None:
        return run(job, observer=observer, stdout=stdout, should_stop=should_stop)
    from clipcls.engines.ray import RayEngine

    with RayEngine(ray) as engine:
        if ray.partitions is None:
            return run(
                job, observer=observer, engine=engine, stdout=stdout, should_stop=should_stop
            )
        from clipcls.engines.partitions import run_partitions

        return run_partitions(
            job, ray.partitions, engine, observer=observer, should_stop=should_stop
        )


def _execute(
    job: Job, observer: TerminalObserver, ray: RayOptions | None, stdout: BinaryIO | None = None
) -> int:
    """Run the job; an interrupt ends the current batch first, a second one ends at once."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if received or not observer.scoring:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        received.append(number)

    own_process(job.inputs.decode.max_megapixels)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    report = _run(job, observer, ray, stdout, lambda: bool(received))
    if report.interrupted and job.output.path is not None and report.counts.total() + report.failed:
        observer.say("The rows so far are kept: add --resume to continue")
    return 128 + received[0] if report.interrupted else report.exit_code
