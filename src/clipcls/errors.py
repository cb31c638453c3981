"""Everything that clipcls raises on purpose.

```
ClipclsError                 exit code 1
├── UsageError               2  what the user wrote cannot be carried out
│   ├── OptionError          2  a flag's value, or two flags that contradict each other
│   ├── LabelError           2  labels, label files
│   ├── TemplateError        2  prompt templates, template sets
│   ├── InputError           2  image paths, globs, lists that lead nowhere
│   ├── UnknownModelError    2  a model name that means nothing
│   ├── OutputExistsError    2  the output is there and nobody said --overwrite or --resume
│   ├── ResumeError          2  what is to be resumed belongs to a different run
│   ├── CalibrationError     2  a calibration file, or one that was fitted for something else
│   ├── HeadError            2  a head file, examples that teach none, or one for another model
│   └── MergeError           2  shards that are missing, unfinished or do not belong together
├── ModelError               1  a model that exists but cannot be loaded
│   ├── ModelDownloadError   1  weights that are neither here nor reachable
│   └── WeightsMismatchError 1  weights that do not belong to the architecture
├── DeviceError              1  a device or precision that this machine cannot offer
├── EngineError              1  a cluster that cannot be reached, or has failed
├── MissingExtraError        1  an optional dependency that is not installed
├── DecodeError              1  one image that cannot be decoded (a run turns it into a Failure)
└── OutputError              1  the output cannot be written
    └── OutputLockedError    1  another run is writing this file
```

A message says what happened, where, which values are allowed, and the flag that fixes it, in one
line. Errors of torch, open_clip, Pillow and the operating system are turned into these at the edge.
"""

from __future__ import annotations

from collections.abc import Sequence


class ClipclsError(Exception):
    """Base of all errors that clipcls raises on purpose."""

    exit_code = 1


class UsageError(ClipclsError):
    """What the user wrote cannot be carried out."""

    exit_code = 2


class OptionError(UsageError):
    """An option's value is not allowed, or two options contradict each other."""


class LabelError(UsageError):
    """Labels or a label file cannot be used."""


class TemplateError(UsageError):
    """A prompt template or template set cannot be used."""


class InputError(UsageError):
    """An image path, glob or list leads nowhere."""


class UnknownModelError(UsageError):
    """A model name that is no preset, architecture, folder, file or hub address."""


class OutputExistsError(UsageError):
    """The output file exists and neither overwriting nor resuming was asked for."""


class ResumeError(UsageError):
    """What is to be resumed belongs to a different run, or nobody knows to which."""


class CalibrationError(UsageError):
    """A calibration file cannot be read, or was fitted for other labels, prompts or weights."""


class HeadError(UsageError):
    """A head cannot be read or learned, or was learned for another model."""


class MergeError(UsageError):
    """Shards are missing, unfinished, or do not belong together.

    Args:
        problems: What is wrong, a line each; at least one.

    Attributes:
        problems: As given.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


class ModelError(ClipclsError):
    """A model that exists cannot be loaded."""


class ModelDownloadError(ModelError):
    """Weights are neither on this machine nor reachable.

    Args:
        message: The line that the user reads.
        reason: Why, as a clause without the advice (`the disk is full`).
        advice: What mends it; empty where a network does.

    Attributes:
        reason: That clause, or the message where none was given.
        advice: As given.
    """

    def __init__(self, message: str, reason: str = "", advice: str = "") -> None:
        self.reason = reason or message
        self.advice = advice
        super().__init__(message)


class WeightsMismatchError(ModelError):
    """Weights do not belong to the architecture."""


class DeviceError(ClipclsError):
    """This machine cannot offer the device or precision."""


class EngineError(ClipclsError):
    """A cluster cannot be reached, has not what is asked for, or has failed."""


class MissingExtraError(ClipclsError):
    """An optional dependency is not installed.

    Args:
        what: What needs it, as the beginning of the sentence (`writing Parquet`).
        extra: The extra of the clipcls package that brings it (`parquet`).
    """

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an optional package: pip install 'clipcls[{extra}]'")


class DecodeError(ClipclsError):
    """One image cannot be decoded; the message is the reason that the user reads."""


class OutputError(ClipclsError):
    """The output cannot be written."""


class OutputLockedError(OutputError):
    """Another run is writing this file."""
