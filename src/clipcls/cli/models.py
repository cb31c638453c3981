"""`clipcls models`: which models there are, what a name means, and fetching weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from clipcls.cli._base import Command, ListByDefault, echo, on_terminal
from clipcls.cli._flags import complete_model

if TYPE_CHECKING:
    from clipcls.models.names import ModelSpec

_COLUMNS = ("preset", "model", "million_parameters", "pixels", "imagenet_top1", "downloaded")


app = typer.Typer(
    cls=ListByDefault,
    subcommand_metavar="[FILTER | COMMAND ...]",
    help="List models (with FILTER in the name); show what a name means; download weights.",
    epilog="""\b
Examples:
  clipcls models
  clipcls models siglip2
  clipcls models show ViT-B/32
""",
)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A preset, mini, ARCH:TAG, ARCH, an OpenAI name, hf-hub:OWNER/NAME, a folder, a file.",
        autocompletion=complete_model,
    ),
]


@app.command(
    "list",
    cls=Command,
    short_help="List models: the default.",
    epilog="Example: clipcls models list vit-b-32",
)
def list_models(
    text: Annotated[
        str, typer.Argument(metavar="FILTER", help="Only names that contain this text.")
    ] = "",
) -> None:
    """List the bundled model, the presets and open_clip's published models.

    Columns: preset, name, million parameters, image size, published zero-shot accuracy on
    ImageNet in percent where known, and the size of the weights if they are on this machine.
    mini was trained on ImageNet's classes, so it has no zero-shot figure there; clipcls models
    show mini has another one. Tab-separated when the output is not a terminal.
    """
    from clipcls.errors import UnknownModelError

    rows = [row for row in _rows() if text.lower() in f"{row[0]} {row[1]}".lower()]
    if not rows:
        raise UnknownModelError(f"no model's name contains {text!r}: clipcls models lists all")
    if not on_terminal():
        for row in [_COLUMNS, *rows]:
            echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in _COLUMNS:
        table.add_column(
            column.replace("_", " "), justify="left" if column in _COLUMNS[:2] else "right"
        )
    for row in rows:
        table.add_row(*row)
    console = Console()
    # Names are there to be copied: a narrow terminal may break lines, but nothing is cut.
    widest = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, widest)
    console.print(table)


def _rows() -> list[tuple[str, ...]]:
    """Return the presets, then everything that open_clip has, as text."""
    from clipcls.models.catalog import architectures
    from clipcls.models.names import PRESETS, Published, preset

    rows = [_row(word, preset(word)) for word in PRESETS]
    for architecture, found in architectures().items():
        rows += [_row("", Published(f"{architecture}:{tag}")) for tag in found.tags]
    return rows


def _row(word: str, spec: ModelSpec) -> tuple[str, ...]:
    from clipcls.models.catalog import architecture_of, architectures
    from clipcls.models.names import MINI, accuracy
    from clipcls.models.weights import parameters_in

    weights = spec.here()
    found = architectures().get(spec.name.partition(":")[0])
    if found is None and weights:
        found = architecture_of(spec.config().model, {})
        found = replace(found, parameters=parameters_in(weights))
    height, width = found.image_size if found else (0, 0)
    top1 = accuracy(spec)
    here = f"{weights.stat().st_size / 1e6:.0f} MB" if weights else "no"
    return (
        word,
        spec.name,
        f"{found.parameters / 1e6:.1f}" if found and found.parameters else "",
        str(height) if height == width else f"{width}x{height}",
        f"{top1:.1f}" if top1 else "",
        f"{here} (bundled)" if spec.name == MINI else here,
    )


@app.command(
    cls=Command,
    short_help="Download a model's weights.",
    epilog="Example: clipcls models pull balanced",
)
def pull(name: NameArgument) -> None:
    """Download a model's weights (and its tokenizer), and print where they are.

    For a machine without network, pull on one that has it and copy the hub's cache (HF_HOME).
    """
    from clipcls.models.auto import meaning
    from clipcls.models.names import MINI, resolve_model

    spec = meaning(resolve_model(name))
    _tell(spec)
    if spec.name == MINI:
        echo("Note: mini comes with clipcls, there is nothing to download", err=True)
    path = spec.checkpoint(partial(echo, err=True))
    if isinstance(spec.config().tokenizer, str):  # a download of its own
        from clipcls.models.tokenizer import load_tokenizer

        load_tokenizer(spec)
    echo(str(path))


@app.command(
    cls=Command,
    short_help="Show what a name means.",
    epilog="Example: clipcls models show 'ViT-L/14@336px'",
)
def show(
    name: NameArgument,
    arch: Annotated[
        str | None,
        typer.Option("--arch", metavar="ARCH[:TAG]", help="The architecture of a weight file."),
    ] = None,
) -> None:
    """Show what a name means, without loading or downloading anything."""
    from clipcls.models.auto import meaning
    from clipcls.models.names import resolve_model

    spec = meaning(resolve_model(name, arch))
    _tell(spec)
    for key, value in _facts(spec):
        echo(f"{key}\t{value}")


def _facts(spec: ModelSpec) -> list[tuple[str, str]]:
    from clipcls.models.catalog import PUBLISHED
    from clipcls.models.names import MINI, accuracy, describe

    weights = spec.here()
    top1 = accuracy(spec)
    figures = [("imagenet_top1", f"{top1:.1f}" if top1 else "not known")]
    if spec.name == MINI:
        why = "none that is zero-shot: it was trained on ImageNet's classes"
        figures = [("imagenet_top1", why), ("cifar10_top1", str(PUBLISHED["cifar10_top1"][MINI]))]
    return [
        ("model", spec.name),
        *describe(spec),
        *figures,
        ("weights", str(weights) if weights else f"not here: clipcls models pull {spec.name}"),
    ]


def _tell(spec: ModelSpec) -> None:
    for note in spec.notes:
        echo(f"Note: {note}", err=True)
