"""`clipcls similarity`: images and texts in, the cosine similarity of each with each out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipcls.cli import _flags as flags
from clipcls.cli import _run_flags as run_flags
from clipcls.cli._base import echo
from clipcls.errors import OptionError
from clipcls.options import DecodeOptions, DiscoveryOptions, Fit, RuntimeOptions
from clipcls.text import visible

EPILOG = """\b
Examples:
  clipcls similarity ./images --text "a cat" --text "a cup of coffee" -o heat.png
  clipcls similarity ./images --texts texts.txt --prefix "This is " -o sim.csv -o heat.png
  clipcls similarity ./images --pairs captions.csv -o heat.pdf
"""

_TEXTS = "Texts"


def similarity(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, glob patterns, @list.txt, or - for paths on standard input.",
            show_default=False,
        ),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text", metavar="TEXT", rich_help_panel=_TEXTS, help="One text; may be repeated."
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            rich_help_panel=_TEXTS,
            help="Texts from a .txt file, one per line; - is standard input.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            metavar="FILE.csv",
            rich_help_panel=_TEXTS,
            help="A text for each image: a table with a column path (or file, filename, image) and"
            " a column text (or caption, description).",
        ),
    ] = None,
    labels: flags.LabelsFlag = None,
    label: flags.LabelFlag = None,
    labels_file: flags.LabelsFileFlag = None,
    prefix: Annotated[
        str,
        typer.Option(
            "--prefix", metavar="TEXT", rich_help_panel=_TEXTS, help="Put before each text."
        ),
    ] = "",
    model: flags.ModelFlag = None,
    arch: flags.ArchFlag = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel="Output",
            help="A .csv file for the numbers (- is standard output, the default), or a .png, .svg"
            " or .pdf file for a heat map; may be repeated.",
        ),
    ] = None,
    overwrite: run_flags.OverwriteFlag = False,
    recursive: run_flags.RecursiveFlag = True,
    exclude: run_flags.ExcludeFlag = None,
    fit: run_flags.FitFlag = Fit.MODEL,
    device: run_flags.DeviceFlag = "auto",
    quiet: run_flags.QuietFlag = False,
) -> None:
    """Compare images with texts and write the cosine similarity of each with each."""
    given = (text or texts, labels or label or labels_file, pairs)
    if sum(map(bool, given)) != 1:
        raise OptionError(
            "texts come from one place: give --text or --texts, or --labels, --label or"
            " --labels-file, or --pairs"
        )
    if [*inputs, *map(str, (texts, labels_file, pairs))].count("-") > 1:
        raise OptionError(
            "standard input (-) can be read only once: put the images or the texts into a file"
        )
    # From here on numpy and Pillow are needed; a slip in a flag was found without them.
    from clipcls.console import TerminalObserver, Verbosity
    from clipcls.evaluation import similarity as library
    from clipcls.inputs.decode import is_candidate
    from clipcls.inputs.walk import Discovery
    from clipcls.labels import check_not_split, collect_labels
    from clipcls.models.names import default_model, resolve_model

    check_not_split(inputs, labels or ())
    wordings = [*(text or ()), *(library.read_texts(texts) if texts else ())]
    if given[1]:
        chosen = collect_labels(inline=labels or (), single=label or (), file=labels_file)
        wordings = [wording for one in chosen for wording in one.wordings]
    discovery = DiscoveryOptions(recursive=recursive, exclude=tuple(exclude or ()))
    paths = [ref.path for ref in Discovery(inputs, discovery, is_image=is_candidate)]
    if pairs:
        wordings = library.read_pairs(pairs, paths)
    finished = library.finish_texts(wordings, prefix)
    # The numbers first: they are safe when the heat map fails.
    files = sorted(
        {Path(name) for name in output or () if name != "-"},
        key=lambda file: file.suffix.lower() != ".csv",
    )
    reads = [*paths, *(str(path) for path in (texts, labels_file, pairs) if path)]
    for file in files:
        library.check_output(file, overwrite, reads)
    decode = DecodeOptions(fit=fit)
    classifier = library.text_classifier(
        finished,
        model=resolve_model(model or default_model(), arch),
        decode=decode,
        runtime=RuntimeOptions(device=device),
    )
    verbosity = Verbosity.QUIET if quiet else Verbosity.NORMAL
    with TerminalObserver(verbosity, summary=False) as observer:
        classifier.warn = observer.warned
        placed = classifier.device
        classifier.settle(tell=observer.downloading)
        observer.loading(classifier.name, placed)
        observer.started(classifier.prompts, len(paths), resumed=0)
        found = library.compare(classifier, paths, paired=pairs is not None, seen=observer.scored)
    if output is None or "-" in output:
        sys.stdout.buffer.write(found.csv())
    for file in files:
        library.save(found, file, decode)
    failed = len(found.failures)
    if failed and not quiet:
        first = found.failures[0]
        echo(
            f"{failed} of {len(paths)} images failed and are in no heat map, the first:"
            f" {visible(first.path)}: {visible(first.reason)}",
            err=True,
        )
    if pairs and not quiet:
        scored = len(found.scored)
        echo(f"own text is the most similar for {found.own_is_best()} of {scored} images", err=True)
    raise typer.Exit(3 if failed else 0)
