"""The flags of commands that score pictures, in the order in which `--help` shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcls.errors import OptionError
from clipcls.options import OutputFormat, Precision, Truncated

_OUTPUT = "Output"
_SCORING = "Scoring"
_PICTURES = "Pictures"
_SPEED = "Device and speed"


def count_or_auto(text: str, flag: str) -> int | None:
    """Return the number that a flag gives, None for `auto`.

    Raises:
        OptionError: It is neither `auto` nor a whole number from 1.
    """
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise OptionError(f"{flag} is '{text}', allowed are auto and whole numbers from 1")
    return int(text)


def output_path(text: str | None) -> Path | None:
    """Return the output file, None for standard output."""
    return None if text in (None, "-") else Path(text)


OutputFlag = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the rows go; - or nothing is standard output.",
        rich_help_panel=_OUTPUT,
    ),
]
FormatFlag = Annotated[
    OutputFormat | None,
    typer.Option(
        "--format", help="Default: by the file's extension, else csv.", rich_help_panel=_OUTPUT
    ),
]
OverwriteFlag = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output.", rich_help_panel=_OUTPUT)
]
ResumeFlag = Annotated[
    bool,
    typer.Option("--resume", help="Continue an interrupted run.", rich_help_panel=_OUTPUT),
]
TopKFlag = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="K",
        help="Write the K best labels in place of a column per label.",
        rich_help_panel=_OUTPUT,
    ),
]
LogitsFlag = Annotated[
    bool, typer.Option("--logits", help="Add raw logits.", rich_help_panel=_OUTPUT)
]
SimilaritiesFlag = Annotated[
    bool,
    typer.Option("--similarities", help="Add raw cosine similarities.", rich_help_panel=_OUTPUT),
]

MultiLabelFlag = Annotated[
    bool,
    typer.Option(
        "--multi-label",
        help="Score each label on its own (sigmoid), not against the others (softmax).",
        rich_help_panel=_SCORING,
    ),
]
ThresholdFlag = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="P",
        help="Predict 'unknown' below this probability (0 to 1).",
        rich_help_panel=_SCORING,
    ),
]
MarginFlag = Annotated[
    float | None,
    typer.Option(
        "--margin",
        metavar="M",
        help="Predict 'unknown' when the two best are closer than this (0 to 1).",
        rich_help_panel=_SCORING,
    ),
]

RecursiveFlag = Annotated[
    bool,
    typer.Option(
        "--recursive/--no-recursive",
        help="Search folders below their first level.",
        rich_help_panel=_PICTURES,
    ),
]
NullFlag = Annotated[
    bool,
    typer.Option(
        "--null", "-0", help="Lists are separated by NUL (find -print0).", rich_help_panel=_PICTURES
    ),
]
MaxMegapixelsFlag = Annotated[
    float,
    typer.Option(
        "--max-megapixels",
        metavar="N",
        help="Refuse larger pictures.",
        rich_help_panel=_PICTURES,
    ),
]
TruncatedFlag = Annotated[
    Truncated,
    typer.Option(
        "--truncated",
        help="What to do with a picture whose file ends too early.",
        rich_help_panel=_PICTURES,
    ),
]

DeviceFlag = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda, cuda:N, mps or xpu.", rich_help_panel=_SPEED),
]
PrecisionFlag = Annotated[
    Precision, typer.Option("--precision", help="Number format.", rich_help_panel=_SPEED)
]
BatchSizeFlag = Annotated[
    str,
    typer.Option(
        "--batch-size", metavar="auto|N", help="Pictures per pass.", rich_help_panel=_SPEED
    ),
]
WorkersFlag = Annotated[
    str,
    typer.Option("--workers", metavar="auto|N", help="Decode threads.", rich_help_panel=_SPEED),
]

QuietFlag = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")
]
VerboseFlag = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also the prompts and each failure on stderr.")
]
