"""The flags of commands that score images, in the order in which `--help` shows them."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcls.errors import OptionError
from clipcls.options import (
    CacheOptions,
    Decoding,
    EngineName,
    Fit,
    OutputFormat,
    Precision,
    RayOptions,
    RemoteOptions,
    RuntimeOptions,
    ScoringOptions,
    Truncated,
    Unknown,
    UnknownOptions,
)

if TYPE_CHECKING:
    from clipcls.console import Verbosity

_output: Any = partial(typer.Option, rich_help_panel="Output")
_scoring: Any = partial(typer.Option, rich_help_panel="Scoring")
_images: Any = partial(typer.Option, rich_help_panel="Images")
_downloads: Any = partial(typer.Option, rich_help_panel="Downloads")
_speed: Any = partial(typer.Option, rich_help_panel="Device and speed")
_engine: Any = partial(typer.Option, rich_help_panel="Engine")


def count_or_auto(text: str, flag: str) -> int | None:
    """Return the number that a flag gives, None for `auto`.

    Raises:
        OptionError: It is neither `auto` nor a whole number from 1.
    """
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise OptionError(f"{flag} is '{text}': give auto, or a whole number of 1 or more")
    return int(text)


def remote_options(
    downloads: int, download_timeout: float, max_download: float, allow_private_urls: bool
) -> RemoteOptions:
    """Return how inputs that are not on this machine are fetched.

    Raises:
        OptionError: A limit is not positive.
    """
    return RemoteOptions(
        downloads, download_timeout, max_megabytes=max_download, allow_private=allow_private_urls
    )


def runtime_options(
    device: str,
    precision: Precision,
    batch_size: str,
    workers: str,
    cache: bool,
    cache_dir: Path | None,
    verify_cache: bool,
) -> RuntimeOptions:
    """Return where and how fast.

    Raises:
        OptionError: A value is not allowed, or a place for the cache without a cache.
    """
    if not cache and (cache_dir is not None or verify_cache):
        raise OptionError("--no-cache contradicts --cache-dir and --verify-cache: leave one away")
    return RuntimeOptions(
        device=device,
        precision=precision,
        batch_size=count_or_auto(batch_size, "--batch-size"),
        workers=count_or_auto(workers, "--workers"),
        cache=CacheOptions(cache_dir, verify_cache) if cache else None,
    )


def verbosity(quiet: bool, verbose: bool) -> Verbosity:
    """Return how much is said.

    Raises:
        OptionError: Both are asked for.
    """
    from clipcls.console import Verbosity

    if quiet and verbose:
        raise OptionError("--quiet and --verbose contradict each other: give one of them")
    return Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.NORMAL


def ray_options(
    engine: EngineName,
    ray_address: str | None,
    num_gpus: float | None,
    partitions: int | None,
    runtime: RuntimeOptions,
) -> RayOptions | None:
    """Return which Ray is to be used; None is this process.

    Raises:
        OptionError: A value is not allowed, a flag is for Ray and it is not asked for, or it is
            asked for and a flag means nothing to it.
    """
    if engine is EngineName.RAY:
        cache = runtime.cache or CacheOptions()
        for flag, given in (
            ("--workers", runtime.workers is not None),
            ("--cache-dir", cache.folder is not None),
            ("--verify-cache", cache.verify),
        ):
            if given:
                raise OptionError(
                    f"{flag} means nothing to Ray, which decodes in tasks of its own and keeps no"
                    f" embeddings: leave {flag} or --engine ray away"
                )
        return RayOptions(ray_address, num_gpus, partitions)
    for flag, value in (
        ("--ray-address", ray_address),
        ("--num-gpus", num_gpus),
        ("--partitions", partitions),
    ):
        if value is not None:
            raise OptionError(f"{flag} is for Ray: add --engine ray")
    return None


def scoring_options(
    multi_label: bool,
    threshold: float | None,
    margin: float | None,
    calibration: Path | None,
    unknown: UnknownOptions | None = None,
) -> ScoringOptions:
    """Return how logits become predictions.

    Raises:
        UsageError: A value is not allowed, or the calibration cannot be read.
    """
    if calibration is None:
        return ScoringOptions(multi_label, threshold, margin, unknown=unknown)
    from clipcls.evaluation.calibration import read_calibration

    return ScoringOptions(multi_label, threshold, margin, read_calibration(calibration), unknown)


def unknown_options(
    unknown: Unknown | None, words: Path | None, threshold: float | None = None
) -> UnknownOptions | None:
    """Return which words compete with the labels, None for none.

    Raises:
        OptionError: Something is said about them and they are not asked for, or the file of own
            words cannot be used.
    """
    for flag, value in (("--unknown-words", words), ("--unknown-threshold", threshold)):
        if unknown is None and value is not None:
            raise OptionError(f"{flag} needs --unknown auto: add it")
    if unknown is None:
        return None
    if words is None:
        return UnknownOptions(threshold=threshold)
    from clipcls.lexicon import read_words

    return UnknownOptions(read_words(words), threshold)


def column_names(text: str | None) -> tuple[str, ...]:
    """Return the names that a list such as `id,label` holds; one with a comma stands in quotes."""
    return tuple(name.strip() for name in next(csv.reader([text or ""]), ()))


OutputFlag = Annotated[
    str | None,
    _output(
        "--output",
        "-o",
        metavar="FILE",
        help="The file for the rows; - is standard output, the default.",
    ),
]
FormatFlag = Annotated[
    OutputFormat | None, _output("--format", help="Default: by the file's extension, else csv.")
]
OverwriteFlag = Annotated[
    bool, _output("--overwrite", help="Replace the output file if it exists.")
]
ResumeFlag = Annotated[bool, _output("--resume", help="Continue an interrupted run.")]
TopKFlag = Annotated[
    int | None,
    _output("--top-k", metavar="K", help="Write the K best labels in place of a column per label."),
]
LogitsFlag = Annotated[bool, _output("--logits", help="Add a column of raw logits per label.")]
SimilaritiesFlag = Annotated[
    bool, _output("--similarities", help="Add a column of cosine similarities per label.")
]

MultiLabelFlag = Annotated[
    bool,
    _scoring(
        "--multi-label",
        help="Score each label on its own (sigmoid), not against the others (softmax).",
    ),
]
ThresholdFlag = Annotated[
    float | None,
    _scoring("--threshold", metavar="P", help="Predict 'unknown' below this probability (0 to 1)."),
]
MarginFlag = Annotated[
    float | None,
    _scoring(
        "--margin",
        metavar="M",
        help="Predict 'unknown' when the two best are closer than this (0 to 1).",
    ),
]

CalibrationFlag = Annotated[
    Path | None,
    _scoring(
        "--calibration",
        metavar="FILE",
        help="Use what clipcls calibrate found for these labels, prompts and model.",
    ),
]

UnknownFlag = Annotated[
    Unknown | None,
    _scoring(
        "--unknown",
        help="auto: predict 'unknown' where common nouns fit an image better than all labels, and"
        " add the column p_unknown.",
    ),
]
UnknownWordsFlag = Annotated[
    Path | None,
    _scoring(
        "--unknown-words", metavar="FILE", help="Words of your own in place of those, one a line."
    ),
]
UnknownThresholdFlag = Annotated[
    float | None,
    _scoring(
        "--unknown-threshold",
        metavar="P",
        help="Predict 'unknown' when p_unknown is above this (0 to 1).  [default: 0.5, or what"
        " --calibration says]",
    ),
]

RecursiveFlag = Annotated[
    bool, _images("--recursive/--no-recursive", help="Search the folders inside folders too.")
]
NullFlag = Annotated[
    bool, _images("--null", "-0", help="Paths in lists end with a NUL byte (find -print0).")
]
ExcludeFlag = Annotated[
    list[str] | None,
    _images(
        "--exclude",
        metavar="GLOB",
        help="Leave files and folders of this name out of folders; may be repeated.",
    ),
]
FitFlag = Annotated[
    Fit,
    _images(
        "--fit",
        help="What the model sees of a wide or tall image: model is as it was trained (for most"
        " models the centre square), pad all of it between bars, squash all of it squeezed.",
    ),
]
DecodeFlag = Annotated[
    Decoding,
    _images(
        "--decode",
        help="fast decodes large JPEGs at a smaller size that is still twice the model's, exact"
        " gives the model the very pixels that open_clip would.",
    ),
]
MaxMegapixelsFlag = Annotated[
    float, _images("--max-megapixels", metavar="N", help="Refuse images of more megapixels.")
]
TruncatedFlag = Annotated[
    Truncated,
    _images(
        "--truncated",
        help="Whether an image whose file ends too early fails or is scored from what is there.",
    ),
]

DownloadsFlag = Annotated[
    int, _downloads("--downloads", metavar="N", help="Images that are downloaded at once.")
]
DownloadTimeoutFlag = Annotated[
    float,
    _downloads(
        "--download-timeout",
        metavar="SECONDS",
        help="When an attempt to download an image ends; there are up to four.",
    ),
]
MaxDownloadFlag = Annotated[
    float, _downloads("--max-download", metavar="MB", help="Refuse files of more megabytes.")
]
AllowPrivateUrlsFlag = Annotated[
    bool,
    _downloads(
        "--allow-private-urls",
        help="Also download from private networks and this machine itself.",
    ),
]

DeviceFlag = Annotated[
    str, _speed("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N, mps or xpu.")
]
PrecisionFlag = Annotated[Precision, _speed("--precision", help="Number format of the model.")]
BatchSizeFlag = Annotated[
    str, _speed("--batch-size", metavar="auto|N", help="Images per pass through the model.")
]
WorkersFlag = Annotated[
    str, _speed("--workers", metavar="auto|N", help="Threads that read images.")
]

CacheFlag = Annotated[
    bool, _speed("--cache/--no-cache", help="Keep embeddings and find them again in the next run.")
]
CacheDirFlag = Annotated[
    Path | None,
    _speed("--cache-dir", metavar="DIR", help="Where they are kept (see clipcls cache)."),
]
VerifyCacheFlag = Annotated[
    bool, _speed("--verify-cache", help="Read every file, also those that seem unchanged.")
]

EngineFlag = Annotated[
    EngineName,
    _engine("--engine", help="What does the work: this process, or Ray on this machine or many."),
]
RayAddressFlag = Annotated[
    str | None,
    _engine(
        "--ray-address",
        metavar="ADDRESS",
        help="A running cluster: auto, HOST:PORT or ray://HOST:PORT. Default: start Ray here.",
    ),
]
PartitionsFlag = Annotated[
    int | None,
    _engine(
        "--partitions",
        metavar="N",
        min=1,
        max=99999,
        help="Write N files into the folder -o DIR, for clipcls merge. Default: one file.",
    ),
]
NumGpusFlag = Annotated[
    float | None,
    _engine(
        "--num-gpus",
        metavar="N",
        help="GPUs per copy of the model, also a part of one (0.5). Default: 1 if Ray has any.",
    ),
]

QuietFlag = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")
]
VerboseFlag = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Also the prompts, each failure and what was skipped."),
]
