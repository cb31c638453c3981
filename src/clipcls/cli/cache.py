"""`clipcls cache`: what the embedding cache holds, and how to be rid of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipcls.cli._base import Command, ListByDefault, echo
from clipcls.errors import OptionError, OutputError

if TYPE_CHECKING:
    from clipcls.cache import EmbeddingCache

app = typer.Typer(
    cls=ListByDefault,
    subcommand_metavar="[COMMAND ...]",
    help="Show what the embedding cache holds; clear it or make it smaller.",
    epilog="""\b
Examples:
  clipcls cache
  clipcls cache prune --max-size 2GB
  clipcls cache clear
""",
)

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

DirFlag = Annotated[
    Path | None,
    typer.Option("--cache-dir", metavar="DIR", help="The cache in this folder, not the user's."),
]


@app.command("list", cls=Command, epilog="Example: clipcls cache list")
def show(cache_dir: DirFlag = None) -> None:
    """Show where the cache is, its size, and how many embeddings of which model it holds."""
    from clipcls.cache import FILE
    from clipcls.options import CacheOptions

    path = CacheOptions(cache_dir).resolved_folder / FILE
    if not path.exists():
        echo(f"{path}\t0.0 MB")
        return
    usage = _cache(cache_dir).usage()
    echo(f"{usage.path}\t{usage.bytes / 1e6:.1f} MB")
    for name, count in sorted(usage.images.items()):
        echo(f"{name}\t{count} images")
    echo(f"prompts\t{usage.texts}")


@app.command(cls=Command, epilog="Example: clipcls cache clear")
def clear(cache_dir: DirFlag = None) -> None:
    """Delete the cache; the next runs compute everything anew."""
    from clipcls.cache import FILE, disk_usage, remove
    from clipcls.options import CacheOptions

    path = CacheOptions(cache_dir).resolved_folder / FILE
    size = disk_usage(path)
    remove(path)
    echo(f"{path}: {size / 1e6:.1f} MB deleted", err=True)


@app.command(cls=Command, epilog="Example: clipcls cache prune --max-size 2GB")
def prune(
    max_size: Annotated[
        str, typer.Option("--max-size", metavar="SIZE", help="The size to keep: 500MB, 2GB.")
    ],
    cache_dir: DirFlag = None,
) -> None:
    """Delete the oldest embeddings until the cache is no larger than a size."""
    size = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?)B?", max_size.strip(), re.IGNORECASE)
    if size is None:
        raise OptionError(f"--max-size is '{max_size}': give a number with KB, MB, GB or TB")
    cache = _cache(cache_dir)
    removed = cache.prune(int(float(size[1]) * _UNITS[size[2].upper()]))
    echo(f"{cache.path}: {removed} image embeddings deleted", err=True)


def _cache(folder: Path | None) -> EmbeddingCache:
    from clipcls.cache import EmbeddingCache
    from clipcls.options import CacheOptions

    def fail(message: str) -> None:
        raise OutputError(message)

    return EmbeddingCache(CacheOptions(folder), fail)
