"""Frozen options: what the user decided, checked in one place.

The command line builds these and the library takes them; no other room knows a flag. Each describes
the fields that can change a result: `described()` goes into the manifest, which `--resume` compares
field by field, and `fingerprint()` is its digest. Fields that change no result are marked so.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path

from clipcls.errors import OptionError


class _Choice(str, Enum):
    """An enum whose members print as their value, on every supported Python."""

    def __str__(self) -> str:
        return str(self.value)


class OutputFormat(_Choice):
    """The output formats; the flag, the file extension and the writers all use these names."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_FORMAT_OF_EXTENSION = {
    "": OutputFormat.CSV,
    ".csv": OutputFormat.CSV,
    ".txt": OutputFormat.CSV,
    ".jsonl": OutputFormat.JSONL,
    ".ndjson": OutputFormat.JSONL,
    ".parquet": OutputFormat.PARQUET,
    ".pq": OutputFormat.PARQUET,
}


class Precision(_Choice):
    """Number format of weights and activations."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class Fit(_Choice):
    """How an image that is not of the model's shape is brought into it."""

    MODEL = "model"
    PAD = "pad"
    SQUASH = "squash"


class Decoding(_Choice):
    """Whether a large JPEG may be decoded at a part of its size, for a model that takes less."""

    FAST = "fast"
    EXACT = "exact"


class Unknown(_Choice):
    """Whether an image may be of none of the labels."""

    AUTO = "auto"


class OtherAs(_Choice):
    """What images are whose truth is none of the labels."""

    UNKNOWN = "unknown"


class Truncated(_Choice):
    """What happens to an image whose file ends too early."""

    ERROR = "error"
    ACCEPT = "accept"


class EngineName(_Choice):
    """What runs the stages of a run."""

    LOCAL = "local"
    RAY = "ray"


class HeadMethod(_Choice):
    """How a head is learned."""

    AUTO = "auto"
    GDA = "gda"
    PROBE = "probe"


class SortBy(_Choice):
    """How an image comes into the folder of its label."""

    COPY = "copy"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    MOVE = "move"


def _speed(default: object) -> object:
    """A field that changes speed only and is therefore not described."""
    return field(default=default, metadata={"no_result": True})


class _Fingerprinted:
    """Gives a frozen dataclass a stable digest of the fields that can change a result."""

    def described(self) -> dict[str, object]:
        """Return the fields that can change a result, JSON-ready, in their order of definition."""
        return {
            f.name: _plain(getattr(self, f.name))
            for f in fields(self)  # type: ignore[arg-type]
            if not f.metadata.get("no_result")
        }

    def fingerprint(self) -> str:
        """Return a hex digest that is equal exactly when the results must be."""
        text = json.dumps([type(self).__name__, self.described()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, _Fingerprinted):
        return value.described()
    return value.value if isinstance(value, Enum) else value


def _check_fraction(flag: str, value: float | None) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise OptionError(f"{flag} is {value}: give a number from 0 to 1")


@dataclass(frozen=True)
class Calibration(_Fingerprinted):
    """What makes probabilities hold, fitted for certain prompts and a certain model.

    Attributes:
        model: The model's name.
        model_fingerprint: The model's at `fp32`: a calibration does not depend on the precision.
        prompts: (label, its prompts) for each of the C labels.
        temperature: What logits are divided by.
        biases: C numbers that are added then; empty for none.
        threshold: Highest probability below this means `unknown`; None for no threshold.
        head: The digest of the head whose logits they are; None where the prompts give them.
        unknown_threshold: `p_unknown` above this means `unknown`; None for none of its own.
    """

    model: str
    model_fingerprint: str
    prompts: tuple[tuple[str, tuple[str, ...]], ...]
    temperature: float
    biases: tuple[float, ...] = ()
    threshold: float | None = None
    head: str | None = None
    unknown_threshold: float | None = None


@dataclass(frozen=True)
class UnknownOptions(_Fingerprinted):
    """Words that compete with the labels, so that an image of none of them can be told.

    Attributes:
        words: The words; None takes common nouns, without those related to a label.
        threshold: `p_unknown` above this means `unknown` (0 to 1); None leaves it to the
            calibration.
    """

    words: tuple[str, ...] | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        _check_fraction("--unknown-threshold", self.threshold)

    def described(self) -> dict[str, object]:
        """Return the threshold, and a digest of own words, of which there may be many."""
        text = None if self.words is None else json.dumps(self.words)
        own = text and hashlib.sha256(text.encode()).hexdigest()
        return {"words": own, "threshold": self.threshold}


@dataclass(frozen=True)
class ScoringOptions(_Fingerprinted):
    """How logits become predictions.

    Attributes:
        multi_label: Independent sigmoid per label in place of a softmax over the labels.
        threshold: Highest probability below this means `unknown` (0 to 1); None leaves it to the
            calibration.
        margin: Distance of the two highest probabilities below this means `unknown` (0 to 1).
        calibration: What `clipcls calibrate` found.
        unknown: The words that compete with the labels; None for none.
    """

    multi_label: bool = False
    threshold: float | None = None
    margin: float | None = None
    calibration: Calibration | None = None
    unknown: UnknownOptions | None = None

    def __post_init__(self) -> None:
        _check_fraction("--threshold", self.threshold)
        _check_fraction("--margin", self.margin)
        if self.calibration is not None and self.multi_label:
            raise OptionError(
                "--calibration and --multi-label contradict each other: a calibration is for"
                " probabilities over all labels"
            )
        if self.unknown is not None and self.multi_label:
            raise OptionError(
                "--unknown and --multi-label contradict each other: where each label stands for"
                " itself, an image of none of them has low probabilities (--threshold)"
            )

    @property
    def least_probability(self) -> float | None:
        """The threshold in force: the explicit one, else the calibration's."""
        if self.threshold is None and self.calibration is not None:
            return self.calibration.threshold
        return self.threshold

    @property
    def most_unknown(self) -> float:
        """The highest `p_unknown` that is no reason for `unknown`: given, fitted, else 0.5."""
        fitted = None if self.calibration is None else self.calibration.unknown_threshold
        given = None if self.unknown is None else self.unknown.threshold
        return next((value for value in (given, fitted) if value is not None), 0.5)

    @property
    def can_reject(self) -> bool:
        """Whether a prediction can become `unknown`."""
        thresholds = (self.least_probability, self.margin, self.unknown)
        return any(threshold is not None for threshold in thresholds)


@dataclass(frozen=True)
class DecodeOptions(_Fingerprinted):
    """What is taken for an image, and how it is fitted to the model.

    Attributes:
        max_megapixels: Pictures with more are refused, so that a small file cannot fill the memory
            (a "decompression bomb"). 179 is the size at which Pillow refuses by itself.
        truncated: Whether an image whose file ends too early is scored from what is there.
        fit: As the model was trained (most models see the centre square only), the whole image
            with a border, or the whole image squeezed to the model's shape.
        decoding: `fast` decodes a JPEG at 1/2, 1/4 or 1/8 of its size where that leaves twice the
            model's; `exact` gives open_clip's very pixels.
    """

    max_megapixels: float = 179.0
    truncated: Truncated = Truncated.ERROR
    fit: Fit = Fit.MODEL
    decoding: Decoding = Decoding.FAST

    def __post_init__(self) -> None:
        if not self.max_megapixels > 0:
            raise OptionError(f"--max-megapixels is {self.max_megapixels:g}: give a number above 0")


@dataclass(frozen=True)
class RemoteOptions:
    """How images that are not on this machine are fetched.

    Attributes:
        downloads: Images that are downloaded at once.
        timeout: Seconds after which an attempt ends.
        retries: Further attempts after one that failed for a passing reason.
        max_megabytes: Files of more megabytes are refused.
        allow_private: Whether web addresses may lead into private networks and to this machine.
    """

    downloads: int = 16
    timeout: float = 60.0
    retries: int = 3
    max_megabytes: float = 100.0
    allow_private: bool = False

    def __post_init__(self) -> None:
        for flag, value in (
            ("--downloads", self.downloads),
            ("--download-timeout", self.timeout),
            ("--max-download", self.max_megabytes),
        ):
            if not 0 < value < math.inf:
                raise OptionError(f"{flag} is {value:g}: give a number above 0")

    @property
    def too_large(self) -> str:
        """Why a larger file is refused."""
        return f"more than {self.max_megabytes:g} MB (--max-download)"


@dataclass(frozen=True)
class DiscoveryOptions(_Fingerprinted):
    """How inputs are turned into a list of images.

    Attributes:
        recursive: Whether folders are searched below their first level.
        null_separated: Whether lists (`@file`, `-`) are separated by NUL instead of newlines.
        exclude: Glob patterns of files and folders that a walk leaves out.
        remote: How images that are not on this machine are fetched.
        image_column: The column of tables among the inputs that names the images, or holds their
            bytes; None takes such a file for any other.
        keep: Other columns of these tables that come with each image.
    """

    recursive: bool = True
    null_separated: bool = False
    exclude: tuple[str, ...] = ()
    remote: RemoteOptions = field(default=RemoteOptions(), metadata={"no_result": True})
    image_column: str | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.keep and self.image_column is None:
            raise OptionError("--keep copies columns of tables of images: give --image-column too")
        twice = next((name for name in self.keep if self.keep.count(name) > 1), None)
        if twice is not None:
            raise OptionError(f"--keep names the column '{twice}' twice: name it once")


@dataclass(frozen=True)
class CacheOptions:
    """Where embeddings are kept for the next run.

    Attributes:
        folder: The folder; None is the user's cache folder.
        verify: Whether every file is read and compared, also where path, size and times are known.
    """

    folder: Path | None = None
    verify: bool = False

    @property
    def resolved_folder(self) -> Path:
        """The folder in force."""
        # Names and prompts must do without it.
        from platformdirs import user_cache_path

        return self.folder or user_cache_path("clipcls")


@dataclass(frozen=True)
class RuntimeOptions(_Fingerprinted):
    """Where and how fast. Only the precision can change a result beyond rounding.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps` or `xpu`.
        precision: Number format of weights and activations.
        batch_size: Pictures per forward pass; None lets the device decide.
        workers: Decode threads; None lets the machine decide.
        cache: Where embeddings are kept and found again; None computes all of them.
    """

    device: str = _speed("auto")  # type: ignore[assignment]
    precision: Precision = Precision.AUTO
    batch_size: int | None = _speed(None)  # type: ignore[assignment]
    workers: int | None = _speed(None)  # type: ignore[assignment]
    cache: CacheOptions | None = _speed(None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name, flag in (("batch_size", "--batch-size"), ("workers", "--workers")):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{flag} is {value}: give auto, or a whole number of 1 or more")


@dataclass(frozen=True)
class RayOptions:
    """Which cluster of Ray, what each copy of the model gets of it, and into how many files.

    Attributes:
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT`; None starts Ray on this machine.
        num_gpus: GPUs per copy of the model, also a part of one; None is 1 where the cluster has
            GPUs, else 0.
        partitions: Files that the rows are written to, in a folder; None is one file.
    """

    address: str | None = None
    num_gpus: float | None = None
    partitions: int | None = None

    def __post_init__(self) -> None:
        gpus = self.num_gpus
        if gpus is not None and not (0 <= gpus < 1 or (gpus > 0 and float(gpus).is_integer())):
            raise OptionError(
                f"--num-gpus is {gpus:g}: give a part of a GPU (0.5), or a whole number of them"
            )


@dataclass(frozen=True)
class OutputOptions(_Fingerprinted):
    """What is written where.

    Attributes:
        path: The output file; None is standard output.
        format: The format; None takes it from the file's extension, CSV when that says nothing.
        top_k: Write the K best labels with their probabilities in place of a column per label.
        logits: Also write a raw `logit:<label>` column per label.
        similarities: Also write a raw `similarity:<label>` column per label.
        overwrite: Whether an existing output may be replaced.
        resume: Whether an interrupted run is continued.
    """

    path: Path | None = field(default=None, metadata={"no_result": True})
    format: OutputFormat | None = None
    top_k: int | None = None
    logits: bool = False
    similarities: bool = False
    overwrite: bool = field(default=False, metadata={"no_result": True})
    resume: bool = field(default=False, metadata={"no_result": True})

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise OptionError(f"--top-k is {self.top_k}: give a whole number of 1 or more")
        if self.overwrite and self.resume:
            raise OptionError("--overwrite and --resume contradict each other: give one of them")
        if self.resume and self.path is None:
            raise OptionError("--resume needs the file to continue: give it with -o FILE")
        self._check_extension()
        if self.path is None and self.format is OutputFormat.PARQUET:
            raise OptionError("Parquet cannot be streamed to standard output: give -o FILE.parquet")

    def _check_extension(self) -> None:
        """Refuse `out.xlsx`: a CSV by that name would fail wherever it is opened."""
        if self.path is None or self.format is not None or not self.path.suffix:
            return
        if self.path.suffix.lower() not in _FORMAT_OF_EXTENSION:
            raise OptionError(
                f"the extension of {self.path} says no format: name it .csv, .jsonl or .parquet,"
                f" or add --format ({', '.join(OutputFormat)})"
            )

    @property
    def resolved_format(self) -> OutputFormat:
        """The format in force: the explicit one, else the extension's, else CSV."""
        if self.format is not None:
            return self.format
        suffix = self.path.suffix.lower() if self.path is not None else ""
        return _FORMAT_OF_EXTENSION.get(suffix, OutputFormat.CSV)


@dataclass(frozen=True)
class SortOptions:
    """Which images come into which folder, and how.

    Attributes:
        by: How an image comes there.
        min_probability: Images of a lower probability are `unknown` (0 to 1).
        top: Only so many images of each folder, the most probable ones.
        format: The format of the output; None takes it from its extension.
    """

    by: SortBy = SortBy.COPY
    min_probability: float | None = None
    top: int | None = None
    format: OutputFormat | None = None

    def __post_init__(self) -> None:
        _check_fraction("--min-probability", self.min_probability)
        if self.top is not None and self.top < 1:
            raise OptionError(f"--top is {self.top}: give a whole number of 1 or more")
