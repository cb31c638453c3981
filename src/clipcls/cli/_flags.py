"""The flags that say which labels, templates and model; several commands share them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from clipcls.cli._base import echo

_labels: Any = partial(typer.Option, rich_help_panel="Labels and prompts")
_model: Any = partial(typer.Option, rich_help_panel="Model")


def complete_set(incomplete: str) -> list[str]:
    """Return the template sets that `incomplete` can become; the shell calls this at every Tab."""
    from clipcls.prompts import set_names

    return [name for name in set_names() if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Return the models that `incomplete` can become."""
    from clipcls.models.names import complete_model

    return complete_model(incomplete)


def tell(notes: list[str]) -> None:
    """Say on stderr what was found in files that the user may not expect."""
    from clipcls.text import visible

    for note in notes:
        echo(f"Note: {visible(note)}", err=True)


LabelsFlag = Annotated[
    list[str] | None,
    _labels(
        "--labels",
        metavar="A,B,C",
        help="Labels, joined by commas; a=wording|wording gives one its own text.",
    ),
]
LabelFlag = Annotated[
    list[str] | None,
    _labels("--label", metavar="LABEL", help="One label, commas and all; may be repeated."),
]
LabelsFileFlag = Annotated[
    Path | None,
    _labels(
        "--labels-file",
        metavar="FILE",
        help="Labels from a .txt (one per line), .csv or .tsv (label,prompt) or .json file;"
        " - is standard input.",
    ),
]
TemplateFlag = Annotated[
    list[str] | None,
    _labels(
        "--template",
        "-t",
        metavar="TEXT",
        help="A prompt template with the slot <>; may be repeated, then prompts are averaged.",
    ),
]
TemplatesFlag = Annotated[
    str | None,
    _labels(
        "--templates",
        metavar="SET|FILE",
        help="A named set (see clipcls prompts) or a file of templates. Default: photo.",
        autocompletion=complete_set,
    ),
]
ModelFlag = Annotated[
    str | None,
    _model(
        "--model",
        metavar="MODEL",
        help="A preset, mini, ARCH:TAG, hf-hub:ORG/NAME, a folder or a file (see clipcls models)."
        " Default: the variable CLIPCLS_MODEL, else auto: fast, or mini (the small model that"
        " comes with clipcls) where fast cannot be had.",
        autocompletion=complete_model,
    ),
]
ArchFlag = Annotated[
    str | None,
    _model(
        "--arch", metavar="ARCH[:TAG]", help="The architecture of a weight file given with --model."
    ),
]
