"""The heat map of the similarities of images and texts.

It is turned as in the figure of the CLIP repository: a row per text, a column per image, thumbnails
along the top. Figures are made by matplotlib's objects, never by pyplot, so no display is needed.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len

from clipcls.errors import DecodeError, OutputError
from clipcls.evaluation.plots import figure_bytes
from clipcls.evaluation.similarity import Similarity
from clipcls.inputs.decode import load_image
from clipcls.inputs.remote import Remote
from clipcls.inputs.urls import is_archive, member_of
from clipcls.options import DecodeOptions, RemoteOptions
from clipcls.scoring import Float32, Float64
from clipcls.text import printable_path, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXTENSIONS = (".png", ".svg", ".pdf")
"""The formats of a figure."""

_MOST_NUMBERS = 20
"""Images, and texts, up to which each cell says its value."""
_MOST_THUMBNAILS = 60
"""Images up to which a thumbnail is still more than a speck."""
_LINE = 0.145
"""Inches from one line of a tick label to the next."""
_DPI = 150


def heat_map(similarity: Similarity, decode: DecodeOptions | None = None) -> Figure:
    """Draw the similarities: a row per text, a column per image, thumbnails along the top.

    Failed images are left out, of paired ones with their texts. Up to 20 x 20, each cell says its
    value; of paired images and texts, the diagonal is framed.

    Args:
        similarity: What is to be drawn.
        decode: How the thumbnails are read.

    Raises:
        OutputError: Every image failed.
    """
    from matplotlib.figure import Figure

    shown = similarity.scored
    if not shown:
        raise OutputError("there is nothing to draw a heat map of: every image failed")
    rows = shown if similarity.paired else list(range(len(similarity.texts)))
    values = similarity.matrix[np.ix_(shown, rows)].T
    cell_width, cell_height = _cell(len(shown)), _cell(len(rows))
    width, height = cell_width * len(shown), cell_height * len(rows)
    strip = cell_width if len(shown) <= _MOST_THUMBNAILS else 0.0
    # The cells and thumbnails are the figure; what lies around them is added when it is saved.
    figure = Figure(figsize=(width, height + strip), dpi=_DPI)
    grid = height / (height + strip)
    axes = figure.add_axes((0, 0, 1, grid))
    image = axes.imshow(values, cmap="viridis", aspect="auto", interpolation="nearest")
    bar = figure.add_axes((1 + 0.15 / width, 0, 0.15 / width, grid))
    figure.colorbar(image, cax=bar, label="cosine similarity")
    style = text_style(8)
    ticks = range(0, len(rows), math.ceil(_LINE / cell_height))
    texts = [_short(similarity.texts[rows[i]], int(cell_height / _LINE)) for i in ticks]
    axes.set_yticks(ticks, texts, **style)
    ticks = range(0, len(shown), math.ceil(_LINE / cell_width))
    paths = [similarity.paths[shown[i]] for i in ticks]
    below = [member_of(path)[0] if is_archive(path) else path for path in paths]
    names = [_short(os.path.basename(path)) for path in below]
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", **style)
    if max(values.shape) <= _MOST_NUMBERS:
        shades = np.asarray(image.cmap(image.norm(values)), dtype=np.float64)
        _write_numbers(axes, values, shades, fontsize=max(7.0, min(11.0, 13 * cell_width)))
    if similarity.paired:
        _frame_diagonal(axes, len(shown), cell_width)
    if strip:
        top = figure.add_axes((0, grid, 1, 1 - grid))
        _hang_thumbnails(top, [similarity.paths[i] for i in shown], cell_width, decode)
    return figure


def heat_map_bytes(figure: Figure, extension: str) -> bytes:
    """Return a heat map, with what lies around its cells, as the file of one of `EXTENSIONS`."""
    return figure_bytes(figure, extension, bbox_inches="tight", pad_inches=0.15)


def text_style(size: float) -> dict[str, Any]:
    """Return how texts and names are drawn: they are data, and may be in another script."""
    from matplotlib.font_manager import fontManager

    asian = [name for name in sorted(fontManager.get_font_names()) if "CJK" in name]
    # `$` is a dollar.
    style: dict[str, Any] = {"fontsize": size, "parse_math": False, "usetex": False}
    return {**style, "family": ["DejaVu Sans", *asian[:1]]}


def _cell(count: int) -> float:
    """Return the inches that each of `count` rows or columns gets."""
    return max(0.5, min(1.2, 9 / count)) if count <= _MOST_NUMBERS else 12 / count


def _short(text: str, lines: int = 1) -> str:
    """Return a text as a tick label of at most so many lines, the rest as an ellipsis."""
    text = visible(printable_path(text))
    # Of characters that take two columns each, half as many.
    width = max(8, 36 * len(text) // max(cell_len(text), 1))
    wrapped = textwrap.wrap(text, width)
    kept = wrapped[: max(1, min(lines, 4))]
    if len(kept) < len(wrapped):
        kept[-1] = kept[-1][: width - 1] + "…"
    return "\n".join(kept)


def _write_numbers(axes: Axes, values: Float32, shades: Float64, fontsize: float) -> None:
    """Write each of (T, N) values into its cell, black or white on its (T, N, 4) RGBA shade."""
    # Relative luminance of sRGB; at 0.18, black and white have the same contrast (WCAG 2.1).
    luminance = (shades[..., :3] ** 2.2) @ np.array([0.2126, 0.7152, 0.0722])
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if luminance[row, column] > 0.18 else "white"
        # Plus zero, or what rounds to nothing could be -0.00; with the minus of the colour bar.
        text = f"{round(float(value), 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=fontsize)


def _frame_diagonal(axes: Axes, count: int, size: float) -> None:
    """Frame the cells (i, i), which are `size` inches wide and high."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    points = min(2.0, 4 * size)
    # White on black is seen on every shade.
    outline = [withStroke(linewidth=2 * points, foreground="black")]
    # The middle of the stroke lies inside the cell, so that frames do not run into neighbours.
    inset = points / 72 / size
    side = 1 - 2 * inset
    for i in range(count):
        corner = (i - 0.5 + inset, i - 0.5 + inset)
        frame = Rectangle(
            corner, side, side, fill=False, ec="white", lw=points, path_effects=outline
        )
        axes.add_patch(frame)


def _hang_thumbnails(
    axes: Axes, paths: Sequence[str], size: float, decode: DecodeOptions | None
) -> None:
    """Draw the centre square of each image above its column, `size` inches wide."""
    from PIL import ImageOps

    pixels = math.ceil(size * _DPI)
    remote = Remote(RemoteOptions())
    for i, path in enumerate(paths):
        # It was read a moment ago; if it is gone by now, its place stays empty.
        with suppress(DecodeError):
            decoded = load_image(remote.local(path), decode or DecodeOptions(), pixels)
            square = ImageOps.fit(decoded.image, (pixels,) * 2)
            axes.imshow(np.asarray(square), extent=(i - 0.46, i + 0.46, 0.04, 0.96), aspect="auto")
    axes.set(xlim=(-0.5, len(paths) - 0.5), ylim=(0, 1))
    axes.set_axis_off()
