"""The flags that say which labels, templates and model; several commands share them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_LABELS = "Labels and prompts"
_MODEL = "Model"


def complete_set(incomplete: str) -> list[str]:
    """Return the template sets that `incomplete` can become; the shell calls this at every Tab."""
    from clipcls.prompts import set_names

    return [name for name in set_names() if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Return the models that `incomplete` can become."""
    from clipcls.models.names import complete_model

    return complete_model(incomplete)


LabelsFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="A,B,C",
        help="Labels, joined by commas; a=wording|wording gives one its own text.",
        rich_help_panel=_LABELS,
    ),
]
LabelFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="LABEL",
        help="One label, commas and all; may be repeated.",
        rich_help_panel=_LABELS,
    ),
]
LabelsFileFlag = Annotated[
    Path | None,
    typer.Option(
        "--labels-file",
        metavar="FILE",
        help="Labels from a .txt (one per line), .csv (label,prompt) or .json file, or - for"
        " standard input.",
        rich_help_panel=_LABELS,
    ),
]
TemplateFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        "-t",
        metavar="TEXT",
        help="A prompt template with the slot <>; may be repeated, then prompts are averaged.",
        rich_help_panel=_LABELS,
    ),
]
TemplatesFlag = Annotated[
    str | None,
    typer.Option(
        "--templates",
        metavar="SET|FILE",
        help="A named set (see clipcls prompts) or a file of templates. Default: photo.",
        autocompletion=complete_set,
        rich_help_panel=_LABELS,
    ),
]
ModelFlag = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A preset, mini, ARCH:TAG, hf-hub:ORG/NAME, a folder or a file (see clipcls models)."
        " Default: the variable CLIPCLS_MODEL, else auto: fast, or mini (the small model that"
        " comes with clipcls) where fast cannot be had.",
        autocompletion=complete_model,
        rich_help_panel=_MODEL,
    ),
]
ArchFlag = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="ARCH[:TAG]",
        help="The architecture of a weight file given with --model.",
        rich_help_panel=_MODEL,
    ),
]
