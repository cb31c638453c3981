"""Explanations as a picture: a row per image, with the heat of each label beside the image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rich.text import Text

from clipcls.evaluation.heat_map import text_style
from clipcls.evaluation.plots import BLUE, VERMILLION, figure_bytes
from clipcls.explaining.explain import Explanation
from clipcls.explaining.occlusion import Pixels
from clipcls.scoring import Float64
from clipcls.text import printable_path, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 20
"""Images in one picture."""

_TILE, _GAP, _TITLE, _SCALE = 1.9, 0.08, 0.24, 0.62
"""Inches: the height of an image, between images, of a title, and of the scale at the right."""
_DPI = 150
_COLUMNS = 26
"""Columns of text over an image as high as wide."""


def draw(explanations: Sequence[Explanation]) -> Figure:
    """Draw explanations, a row each: the image as the model sees it, then the heat of each label.

    Vermillion parts carry the label, blue ones speak against it; the stronger the colour, the more.
    All labels of an image have one scale, which stands at the right in logits.

    Args:
        explanations: One or more.

    Returns:
        The figure; it grows with the number of images and of labels.
    """
    from matplotlib.figure import Figure

    first = explanations[0].pixels
    wide = _TILE * first.shape[2] / first.shape[1]
    columns = 1 + max(len(explanation.shown) for explanation in explanations)
    width = columns * wide + (columns - 1) * _GAP + _SCALE
    row_height = _TITLE + _TILE
    height = len(explanations) * (row_height + _GAP) - _GAP
    figure = Figure(figsize=(width, height), dpi=_DPI)
    for row, explanation in enumerate(explanations):
        bottom = height - row * (row_height + _GAP) - row_height

        def tile(column: int, bottom: float = bottom) -> Axes:
            left = column * (wide + _GAP) / width
            axes = figure.add_axes((left, bottom / height, wide / width, _TILE / height))
            axes.set_axis_off()
            return axes

        _draw_row(explanation, [tile(column) for column in range(1 + len(explanation.shown))])
        left = (len(explanation.shown) + 1) * (wide + _GAP)
        _draw_scale(
            figure, explanation, (left / width, bottom / height, 0.1 / width, _TILE / height)
        )
    return figure


def picture_bytes(explanations: Sequence[Explanation], extension: str = ".png") -> bytes:
    """Return explanations as a file of that extension, the same bytes for the same explanations."""
    metadata = {"Software": None} if extension == ".png" else None
    options: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.1, "metadata": metadata}
    return figure_bytes(draw(explanations), extension, **options)


def _draw_row(explanation: Explanation, tiles: Sequence[Axes]) -> None:
    prediction = explanation.prediction
    image = explanation.pixels.transpose(1, 2, 0)
    columns = _COLUMNS * image.shape[1] // image.shape[0]
    name = visible(printable_path(os.path.basename(prediction.path)))
    tiles[0].imshow(image)
    tiles[0].set_title(_cut(name, columns), pad=4, loc="left", **text_style(8))
    most = _most(explanation)
    for place, heat, axes in zip(explanation.shown, explanation.heat, tiles[1:], strict=True):
        label = prediction.labels[place]
        probability = f" {prediction.probabilities[place]:.2f}"
        axes.imshow(_laid_over(image, heat / most))
        style = text_style(8)
        if label == prediction.prediction:
            style["weight"] = "bold"
        title = _cut(visible(label), columns - len(probability)) + probability
        axes.set_title(title, pad=4, loc="left", **style)


def _draw_scale(
    figure: Figure, explanation: Explanation, place: tuple[float, float, float, float]
) -> None:
    """Draw what the colours of a row mean, from most to least."""
    axes = figure.add_axes(place)
    most = _most(explanation)
    grey = np.full((256, 1, 3), 160, dtype=np.uint8)
    strip = np.linspace(1, -1, 256)[:, None]
    axes.imshow(_coloured(grey, strip), aspect="auto", extent=(0, 1, -most, most))
    axes.yaxis.tick_right()
    axes.set_xticks([])
    axes.set_yticks([-most, 0, most], [f"\N{MINUS SIGN}{most:.1f}", "0", f"+{most:.1f}"])
    axes.set_title("logit", pad=4, loc="left", fontsize=7)
    axes.tick_params(labelsize=7, length=2)


def _most(explanation: Explanation) -> float:
    """Return the strongest heat of an explanation; not 0, which nothing can be divided by."""
    return max(float(np.abs(explanation.heat).max()), 1e-6)


def _laid_over(image: Pixels, heat: Float64) -> Pixels:
    """Return an (H, W, 3) uint8 image in grey with a grid of heat from -1 to 1 over it."""
    height, width = image.shape[:2]
    smooth = Image.fromarray(heat.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grey = np.asarray(Image.fromarray(image).convert("L").convert("RGB"))
    return _coloured(grey, np.asarray(smooth, dtype=np.float64))


def _coloured(grey: Pixels, heat: Float64) -> Pixels:
    """Return (H, W, 3) uint8 pixels, the more coloured the further (H, W) heat is from 0."""
    from matplotlib.colors import to_rgb

    colours = 255 * np.array([to_rgb(BLUE), to_rgb(VERMILLION)])
    # The image shows through the strongest colour, and the colour on the darkest image.
    strength = 0.8 * np.clip(np.abs(heat), 0, 1)[..., None]
    mixed = (80 + grey * (175 / 255)) * (1 - strength) + colours[(heat > 0).astype(int)] * strength
    pixels: Pixels = mixed.round().astype(np.uint8)
    return pixels


def _cut(text: str, columns: int) -> str:
    # In columns rather than characters: a Chinese character is as wide as two Latin ones.
    cut = Text(text)
    cut.truncate(columns, overflow="ellipsis")
    return cut.plain
