"""The flags that say which labels, templates and model; several commands share them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcls.cli._base import echo
from clipcls.errors import OptionError

if TYPE_CHECKING:
    from clipcls.heads import Head
    from clipcls.labels import Label
    from clipcls.options import RuntimeOptions
    from clipcls.question import ModelChoice

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


def labels_and_templates(
    labels: list[str] | None,
    label: list[str] | None,
    labels_file: Path | None,
    template: list[str] | None,
    templates: str | None,
    *,
    inputs: Sequence[str] = (),
    quiet: bool = False,
    needed: bool = True,
) -> tuple[tuple[Label, ...], tuple[str, ...]]:
    """Return what the flags below ask; what was found in files is told on stderr.

    Without `needed`, no labels at all is an answer too.

    Raises:
        UsageError: They cannot be meant so, or not together with the inputs.
    """
    from clipcls.labels import check_not_split, collect_labels
    from clipcls.prompts import collect_templates
    from clipcls.text import visible

    if [*inputs, str(labels_file), templates].count("-") > 1:
        raise OptionError(
            "standard input (-) can be read only once: put the images, the labels or the templates"
            " into a file"
        )
    check_not_split(inputs, labels or ())
    notes: list[str] = []
    some = needed or labels or label or labels_file
    chosen = (
        collect_labels(inline=labels or (), single=label or (), file=labels_file, notes=notes)
        if some
        else (),
        collect_templates(single=template or (), named=templates, notes=notes),
    )
    for note in () if quiet else notes:
        echo(f"Note: {visible(note)}", err=True)
    return chosen


def labels_or_head(
    labels: list[str] | None,
    label: list[str] | None,
    labels_file: Path | None,
    template: list[str] | None,
    templates: str | None,
    head: Path | None,
    inputs: Sequence[str] = (),
    *,
    quiet: bool = False,
    needed: bool = True,
) -> tuple[tuple[Label, ...], tuple[str, ...], Head | None]:
    """Return what `labels_and_templates` does, and the head that takes their place.

    Raises:
        UsageError: As from there; there are both, or the file is no head.
    """
    given = (labels, label, labels_file, template, templates)
    learned = None
    if head is not None:
        from clipcls.heads import read_head

        names = ("--labels", "--label", "--labels-file", "--template", "--templates")
        for flag, value in zip(names, given, strict=True):
            if value:
                raise OptionError(
                    f"{flag} and --head contradict each other: a head has its own labels, and does"
                    " without prompts"
                )
        learned = read_head(head)
    needed = needed and learned is None
    return *labels_and_templates(*given, inputs=inputs, quiet=quiet, needed=needed), learned


def model_choice(
    model: str | None, arch: str | None, runtime: RuntimeOptions, head: Head | None = None
) -> ModelChoice:
    """Return which model answers; without a name, that of the head, else the default one."""
    from clipcls.models.names import default_model
    from clipcls.question import ModelChoice

    if head is not None and model is None:
        model, arch = head.model, arch or head.architecture
    return ModelChoice(default_model() if model is None else model, arch, runtime)


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
HeadFlag = Annotated[
    Path | None,
    _labels(
        "--head",
        metavar="FILE",
        help="A head that clipcls learn made, in place of labels and templates; it names its"
        " model.",
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
