"""The flags of commands that score images, in the order in which `--help` shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from clipcls.errors import OptionError
from clipcls.options import Fit, OutputFormat, Precision, Truncated

_OUTPUT = "Output"
_SCORING = "Scoring"
_IMAGES = "Images"
_SPEED = "Device and speed"


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


OutputFlag = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The file for the rows; - is standard output, the default.",
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
    bool,
    typer.Option(
        "--overwrite", help="Replace the output file if it exists.", rich_help_panel=_OUTPUT
    ),
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
    bool,
    typer.Option("--logits", help="Add a column of raw logits per label.", rich_help_panel=_OUTPUT),
]
SimilaritiesFlag = Annotated[
    bool,
    typer.Option(
        "--similarities",
        help="Add a column of cosine similarities per label.",
        rich_help_panel=_OUTPUT,
    ),
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
        help="Search the folders inside folders too.",
        rich_help_panel=_IMAGES,
    ),
]
NullFlag = Annotated[
    bool,
    typer.Option(
        "--null",
        "-0",
        help="Paths in lists end with a NUL byte (find -print0).",
        rich_help_panel=_IMAGES,
    ),
]
ExcludeFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="GLOB",
        help="Leave files and folders of this name out of folders; may be repeated.",
        rich_help_panel=_IMAGES,
    ),
]
FitFlag = Annotated[
    Fit,
    typer.Option(
        "--fit",
        help="What the model sees of a wide or tall image: model is as it was trained (for most"
        " models the centre square), pad all of it between bars, squash all of it squeezed.",
        rich_help_panel=_IMAGES,
    ),
]
MaxMegapixelsFlag = Annotated[
    float,
    typer.Option(
        "--max-megapixels",
        metavar="N",
        help="Refuse images of more megapixels.",
        rich_help_panel=_IMAGES,
    ),
]
TruncatedFlag = Annotated[
    Truncated,
    typer.Option(
        "--truncated",
        help="Whether an image whose file ends too early fails or is scored from what is there.",
        rich_help_panel=_IMAGES,
    ),
]

DeviceFlag = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N, mps or xpu.",
        rich_help_panel=_SPEED,
    ),
]
PrecisionFlag = Annotated[
    Precision,
    typer.Option("--precision", help="Number format of the model.", rich_help_panel=_SPEED),
]
BatchSizeFlag = Annotated[
    str,
    typer.Option(
        "--batch-size",
        metavar="auto|N",
        help="Images per pass through the model.",
        rich_help_panel=_SPEED,
    ),
]
WorkersFlag = Annotated[
    str,
    typer.Option(
        "--workers", metavar="auto|N", help="Threads that read images.", rich_help_panel=_SPEED
    ),
]

QuietFlag = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")
]
VerboseFlag = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Also the prompts, each failure and what was skipped."),
]
