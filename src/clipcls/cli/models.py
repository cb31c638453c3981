"""`clipcls models`: which models there are, what a name means, and fetching weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from clipcls.cli._flags import complete_model

if TYPE_CHECKING:
    from clipcls.models.catalog import Architecture
    from clipcls.models.names import ModelSpec

_COLUMNS = ("preset", "model", "million_parameters", "pixels", "imagenet_top1", "downloaded")
_RIGHT = {"million_parameters", "pixels", "imagenet_top1", "downloaded"}


class _ListByDefault(TyperGroup):
    """Takes `clipcls models` and `clipcls models FILTER` for `clipcls models list ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` before arguments that begin with no command and no call for help."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ListByDefault,
    help="List models (the default), show what a name means, or download weights.",
    epilog="Examples: clipcls models | clipcls models siglip2 | clipcls models show ViT-B/32",
)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A preset, mini, ARCH:TAG, ARCH, an OpenAI name, hf-hub:OWNER/NAME, a folder, a file.",
        autocompletion=complete_model,
    ),
]


@app.command("list", epilog="Example: clipcls models list vit-b-32")
def list_models(
    text: Annotated[
        str, typer.Argument(metavar="FILTER", help="Only names that contain this text.")
    ] = "",
) -> None:
    """List the bundled model, the presets and open_clip's published models.

    Columns: preset, name, million parameters, picture size, published zero-shot accuracy on
    ImageNet in percent where known, and the size of the weights if they are on this machine.
    mini was trained on ImageNet's classes, so it has no zero-shot figure there; clipcls models
    show mini has another one. Tab-separated when the output is not a terminal.
    """
    from clipcls.errors import UnknownModelError

    rows = [row for row in _rows() if text.lower() in f"{row[0]} {row[1]}".lower()]
    if not rows:
        raise UnknownModelError(f"no model's name contains {text!r}: clipcls models lists all")
    if sys.stdout.isatty():
        _print_table(rows)
        return
    for row in [_COLUMNS, *rows]:
        typer.echo("\t".join(row))


def _rows() -> list[tuple[str, ...]]:
    """Return `mini`, the presets, then everything that open_clip has, as text."""
    from clipcls.models.catalog import architectures
    from clipcls.models.names import MINI, PRESETS, bundled, published

    known = architectures()
    names = [(word, preset.name) for word, preset in PRESETS.items()]
    names += [("", f"{arch}:{tag}") for arch, found in known.items() for tag in found.tags]
    rows = [_row(word, published(name), known[name.partition(":")[0]]) for word, name in names]
    return [_row(MINI, bundled(), _bundled_architecture()), *rows]


def _bundled_architecture() -> Architecture:
    from clipcls.models.catalog import architecture_of
    from clipcls.models.files import checkpoint_in, read_config
    from clipcls.models.names import CONFIG_NAME, MINI_FOLDER
    from clipcls.models.weights import parameters_in

    found = architecture_of(read_config(MINI_FOLDER / CONFIG_NAME)["model_cfg"], {})
    return replace(found, parameters=parameters_in(checkpoint_in(MINI_FOLDER)))


def _row(word: str, spec: ModelSpec, found: Architecture) -> tuple[str, ...]:
    from clipcls.models.files import weights_location
    from clipcls.models.names import accuracy, is_bundled

    height, width = found.image_size
    top1 = accuracy(spec)
    weights = weights_location(spec)
    here = f"{weights.stat().st_size / 1e6:.0f} MB" if weights else "no"
    return (
        word,
        spec.name,
        f"{found.parameters / 1e6:.1f}" if found.parameters else "",
        str(height) if height == width else f"{width}x{height}",
        f"{top1:.1f}" if top1 else "",
        f"{here} (bundled)" if is_bundled(spec) else here,
    )


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in _COLUMNS:
        right = column in _RIGHT
        table.add_column(column.replace("_", " "), justify="right" if right else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    # Names are there to be copied: a narrow terminal may break lines, but nothing is cut.
    widest = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, widest)
    console.print(table)


@app.command(epilog="Example: clipcls models pull balanced")
def pull(name: NameArgument) -> None:
    """Download a model's weights (and its tokenizer), and print where they are.

    For a machine without network, pull on one that has it and copy the hub's cache (HF_HOME).
    """
    from clipcls.models import files as hub
    from clipcls.models.auto import meaning
    from clipcls.models.names import is_bundled, resolve_model

    spec = meaning(resolve_model(name))
    _tell(spec)
    if is_bundled(spec):
        typer.echo("Note: mini comes with clipcls, there is nothing to download", err=True)
    path = hub.pull(spec, tell=partial(typer.echo, err=True))
    if _needs_transformers(spec):
        from clipcls.models.openclip import load_tokenizer

        load_tokenizer(spec)
    typer.echo(str(path))


def _needs_transformers(spec: ModelSpec) -> bool:
    """Whether the tokenizer is a download of its own."""
    from clipcls.models.catalog import architectures

    if spec.kind == "hub":
        return True
    return spec.kind == "pretrained" and bool(architectures()[spec.architecture or ""].tokenizer)


@app.command(epilog="Example: clipcls models show 'ViT-L/14@336px'")
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
        typer.echo(f"{key}\t{value}")


def _facts(spec: ModelSpec) -> list[tuple[str, str]]:
    from clipcls.models.files import describe, weights_location
    from clipcls.models.names import accuracy, is_bundled

    weights = weights_location(spec)
    top1 = accuracy(spec)
    known = ("imagenet_top1", f"{top1:.1f}" if top1 else "not known")
    return [
        ("model", spec.name),
        *describe(spec),
        *(_mini_facts() if is_bundled(spec) else [known]),
        ("weights", str(weights) if weights else f"not here: clipcls models pull {spec.name}"),
    ]


def _mini_facts() -> list[tuple[str, str]]:
    from clipcls.models.names import MINI_ACCURACY

    return [
        ("imagenet_top1", "none that is zero-shot: it was trained on ImageNet's classes"),
        ("cifar10_top1", f"{MINI_ACCURACY:.1f}"),
    ]


def _tell(spec: ModelSpec) -> None:
    for note in spec.notes:
        typer.echo(f"Note: {note}", err=True)
