"""The heat map: what is written into it, and that nothing in a text can spoil it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipcls.errors import OutputError
from clipcls.evaluation.heat_map import heat_map, heat_map_bytes
from clipcls.evaluation.similarity import Similarity
from clipcls.records import Failure
from clipcls.testing import save_colours


def similarity(
    paths: list[str], texts: list[str], *, failed: tuple[int, ...] = (), paired: bool = False
) -> Similarity:
    values = np.random.default_rng(0).normal(0.2, 0.1, (len(paths), len(texts)))
    matrix = values.astype(np.float32)
    matrix[list(failed)] = np.nan
    failures = tuple(Failure(i, paths[i], "empty file") for i in failed)
    return Similarity(tuple(paths), tuple(texts), matrix, failures, paired)


def numbered(images: int, texts: int) -> Similarity:
    return similarity([f"{i}.jpg" for i in range(images)], [f"text {i}" for i in range(texts)])


def labels(figure: Any, axis: str) -> list[str]:
    return [label.get_text() for label in getattr(figure.axes[0], f"get_{axis}ticklabels")()]


def overlaps(figure: Any) -> bool:
    """Whether two labels of the rows share a line."""
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    return any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))


def test_cells_say_their_value_where_it_can_be_read() -> None:
    found = numbered(20, 20)
    cells = heat_map(found).axes[0].texts
    assert len(cells) == 400
    assert cells[1].get_text() == f"{found.matrix[1, 0]:.2f}".replace("-", "\N{MINUS SIGN}")
    assert {cell.get_color() for cell in cells} == {"black", "white"}
    assert not list(heat_map(numbered(40, 40)).axes[0].texts)
    assert not list(heat_map(numbered(2, 21)).axes[0].texts)


def test_what_rounds_to_nothing_has_no_sign() -> None:
    found = Similarity(("a.jpg",), ("a",), np.array([[-0.001]], np.float32), ())
    assert heat_map(found).axes[0].texts[0].get_text() == "0.00"
    found.matrix[0, 0] = -0.3
    assert heat_map(found).axes[0].texts[0].get_text() == "\N{MINUS SIGN}0.30"


def test_texts_are_rows_and_images_are_columns() -> None:
    figure = heat_map(similarity(["x/a.jpg", "x/b.jpg", "x/c.jpg"], ["one", "two"], failed=(1,)))
    assert labels(figure, "y") == ["one", "two"]
    assert labels(figure, "x") == ["a.jpg", "c.jpg"]
    assert len(figure.axes[0].texts) == 4


def test_a_failure_takes_its_own_text_with_it() -> None:
    paths = ["a.jpg", "b.jpg", "c.jpg"]
    figure = heat_map(similarity(paths, ["one", "two", "three"], failed=(1,), paired=True))
    assert labels(figure, "y") == ["one", "three"]
    frames: list[Any] = list(figure.axes[0].patches)
    assert [tuple(round(x) for x in frame.get_center()) for frame in frames] == [(0, 0), (1, 1)]


def test_nothing_is_drawn_of_nothing() -> None:
    with pytest.raises(OutputError, match="every image failed"):
        heat_map(similarity(["a.jpg"], ["one"], failed=(0,)))


def test_thumbnails_stand_above_their_columns(tmp_path: Path) -> None:
    paths = [str(path) for path in save_colours(tmp_path, ["red", "green"])]
    figure = heat_map(similarity([*paths, "gone.jpg"], ["one", "two"]))
    cells, top = figure.axes[0], figure.axes[2]
    assert top.get_xlim() == cells.get_xlim() == (-0.5, 2.5)
    images: list[Any] = list(top.images)
    assert [tuple(image.get_extent())[:2] for image in images] == [(-0.46, 0.46), (0.54, 1.46)]
    assert [tuple(image.get_array()[5, 5]) for image in images] == [(220, 30, 30), (30, 180, 40)]


@pytest.mark.parametrize("count", [1, 2, 12, 20, 21, 40, 100, 300])
def test_labels_of_rows_never_overlap(count: int) -> None:
    texts = [f"{i} of many words, " * 20 for i in range(count)]
    figure = heat_map(similarity(["a.jpg", "b.jpg"], texts))
    assert not overlaps(figure)
    assert all(len(line) <= 36 for label in labels(figure, "y") for line in label.split("\n"))
    assert labels(figure, "y")[0].endswith("…")


@pytest.mark.parametrize("extension", [".png", ".svg", ".pdf"])
def test_no_text_or_name_can_spoil_a_figure(extension: str) -> None:
    texts = ["$5 and $6", r"$\frac{$", "一只猫坐在垫子上" * 20, "كلب", "\U0001f408 cat", "x" * 500]
    names = ["a\n$b$.jpg", "\udcff.jpg", "y" * 200 + ".jpg"]
    data = heat_map_bytes(heat_map(similarity(names, texts)), extension)
    assert data[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_a_png_holds_all_that_lies_around_the_cells() -> None:
    figure = heat_map(similarity(["a.jpg"], ["a text that is wider than its cell"]))
    with Image.open(io.BytesIO(heat_map_bytes(figure, ".png"))) as image:
        grey = np.asarray(image.convert("L"))
    assert image.width > 1.5 * figure.get_figwidth() * figure.dpi
    edges = (grey[:5], grey[-5:], grey[:, :5], grey[:, -5:])
    assert all((edge == 255).all() for edge in edges)


def test_pyplot_is_never_needed() -> None:
    import sys

    heat_map(numbered(2, 2))
    assert "matplotlib.pyplot" not in sys.modules
