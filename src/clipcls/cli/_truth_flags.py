"""The flags that say what a person calls each image; evaluate and calibrate share them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcls.errors import OptionError
from clipcls.options import OtherAs

if TYPE_CHECKING:
    from clipcls.evaluation.truth import TruthOptions

_truth: Any = partial(typer.Option, rich_help_panel="Truth")


def split_inputs(
    given: Sequence[str],
    *,
    from_folders: bool,
    images: bool = True,
    image_column: str | None = None,
) -> tuple[tuple[str, ...], Path | None]:
    """Return the images and the table of `IMAGES... LABELS`.

    Args:
        given: What the user wrote.
        from_folders: Whether there is no table.
        images: Whether there are images beside the table.
        image_column: The column of the table that names the images.

    Raises:
        OptionError: One of them is missing, or an image is a table of images.
    """
    if from_folders or not images:
        if images and not given:
            raise OptionError("no images given: name the folder that holds a folder per label")
        return (tuple(given), None) if from_folders else ((), Path(given[0]))
    if len(given) < 2:
        raise OptionError(
            "the images and the table of their labels are needed (IMAGES LABELS.csv),"
            f" {len(given)} of them is given; --from-folders takes the folders' names for labels"
        )
    check_no_tables(given[:-1], image_column)
    return tuple(given[:-1]), Path(given[-1])


def check_no_tables(images: Sequence[str], image_column: str | None) -> None:
    """Refuse a table of images, which only classify takes, before it is taken for an image.

    Raises:
        OptionError: The column of images was named, and one of the images is a table.
    """
    from clipcls.inputs.urls import is_table
    from clipcls.text import visible

    table = next(filter(is_table, images), None)
    if image_column is not None and table is not None:
        raise OptionError(
            f"{visible(table)} is no image, and only clipcls classify takes tables of images; here"
            " --image-column is a column of the table beside the images"
        )


def truth_options(
    image_column: str | None,
    label_column: str | None,
    image_pattern: str | None,
    mapping: list[str] | None,
    class_names: Path | None,
    ignore_unknown: bool,
    limit: int | None,
    sample: int | None,
    seed: int,
    multi_label: bool = False,
    group_column: str | None = None,
    unknown: bool = False,
    other_as: OtherAs | None = None,
) -> TruthOptions:
    """Return what the flags below ask.

    Raises:
        UsageError: They contradict each other, or the file of class names cannot be used.
    """
    from clipcls.evaluation.join import Naming
    from clipcls.evaluation.truth import TruthOptions, parse_mapping
    from clipcls.labels import read_labels

    return TruthOptions(
        naming=Naming(image_column, image_pattern),
        label_column=label_column,
        mapping=parse_mapping(mapping or ()),
        class_names=() if class_names is None else read_labels(class_names),
        ignore_unknown=ignore_unknown,
        unknown=unknown,
        other_as_unknown=other_as is not None,
        multi_label=multi_label,
        group_column=group_column,
        limit=limit,
        sample=sample,
        seed=seed,
    )


FromFoldersFlag = Annotated[
    bool,
    _truth("--from-folders", help="No table: FOLDER/cat/1.jpg is a cat."),
]
ImageColumnFlag = Annotated[
    str | None,
    _truth("--image-column", metavar="NAME", help="The column that names the images."),
]
LabelColumnFlag = Annotated[
    str | None, _truth("--label-column", metavar="NAME", help="The column of the true label.")
]
ImagePatternFlag = Annotated[
    str | None,
    _truth(
        "--image-pattern",
        metavar="TEXT",
        help="The image's name made of columns: face-{id}.png; {id:05} has five digits.",
    ),
]
MapFlag = Annotated[
    list[str] | None,
    _truth("--map", metavar="VALUE=LABEL,...", help="Which label a value in the table means."),
]
ClassNamesFlag = Annotated[
    Path | None,
    _truth("--class-names", metavar="FILE", help="The labels that the values 0, 1, 2, ... mean."),
]
IgnoreUnknownFlag = Annotated[
    bool, _truth("--ignore-unknown", help="Leave out images whose true label is none of ours.")
]
OtherAsFlag = Annotated[
    OtherAs | None,
    _truth("--other-as", help="Take images whose true label is none of ours for unknown ones."),
]
LimitFlag = Annotated[
    int | None, _truth("--limit", metavar="N", help="Only the first N images of the table.")
]
SampleFlag = Annotated[int | None, _truth("--sample", metavar="N", help="N images, by chance.")]
SeedFlag = Annotated[int, _truth("--seed", metavar="N", help="Of what is left to chance.")]
