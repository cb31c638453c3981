"""Where the heat of a label lies, and what it depends on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcls import Classifier
from clipcls.explaining.occlusion import CELLS, COARSE, FINE, MOST_FINE, heat_of, windows
from clipcls.options import ScoringOptions
from clipcls.scoring import Float64
from clipcls.testing import COLOURS, FakeEncoder

LABELS = ("red", "green", "blue", "yellow")
SIDE = 56


def quarters(*colours: str) -> NDArray[np.uint8]:
    """Return (3, SIDE, SIDE) pixels with a colour in each quarter, row by row."""
    pixels = np.zeros((3, SIDE, SIDE), dtype=np.uint8)
    half = SIDE // 2
    for place, colour in enumerate(colours):
        y, x = (half * part for part in divmod(place, 2))
        pixels[:, y : y + half, x : x + half] = np.array(COLOURS[colour])[:, None, None]
    return pixels


def heat(
    pixels: NDArray[np.uint8],
    *labels: str,
    batch_size: int = 32,
    encoder: FakeEncoder | None = None,
) -> Float64:
    encoder = encoder or FakeEncoder(image_size=(SIDE, SIDE))
    scorer = Classifier(list(labels), model=encoder).scorer
    return heat_of(pixels, encoder, scorer, range(len(labels)), batch_size)


@pytest.mark.parametrize("order", [LABELS, LABELS[::-1], ("blue", "red", "yellow", "green")])
def test_the_peak_of_each_label_lies_on_its_colour(order: tuple[str, ...]) -> None:
    found = heat(quarters(*order), *order)
    assert found.shape == (4, CELLS, CELLS)
    for place, label in enumerate(found):
        row, column = divmod(int(label.argmax()), CELLS)
        assert (row >= CELLS // 2, column >= CELLS // 2) == (place >= 2, bool(place % 2))


def test_what_speaks_for_another_label_speaks_against_this_one() -> None:
    red, blue = heat(quarters("red", "blue", "red", "blue"), "red", "blue")
    left, right = slice(0, CELLS // 2 - 1), slice(CELLS // 2 + 1, None)
    assert red[:, left].min() > 0 > red[:, right].max()
    # Of two labels, the lead of one is what the other lacks.
    np.testing.assert_allclose(red, -blue, atol=1e-5)


def test_an_image_of_one_colour_has_no_heat() -> None:
    assert np.abs(heat(quarters(*["red"] * 4), "red", "blue")).max() < 1e-5


def test_a_single_label_is_explained_by_its_logit() -> None:
    encoder = FakeEncoder(logit_bias=-1.0, image_size=(SIDE, SIDE))
    alone = Classifier(["red"], model=encoder, scoring=ScoringOptions(multi_label=True)).scorer
    [only] = heat_of(quarters("red", "black", "black", "black"), encoder, alone, [0], 32)
    row, column = divmod(int(only.argmax()), CELLS)
    assert max(row, column) < CELLS // 2


def test_the_batch_size_changes_nothing_but_the_number_of_passes() -> None:
    pixels = quarters("red", "green", "blue", "black")
    found = {}
    for size in (1, 7, 200):
        encoder = FakeEncoder(image_size=(SIDE, SIDE))
        found[size] = heat(pixels, *LABELS, batch_size=size, encoder=encoder)
        assert max(encoder.batch_sizes) <= size
        assert sum(encoder.batch_sizes) == 1 + len(windows(COARSE)) + MOST_FINE
    np.testing.assert_allclose(found[1], found[200], atol=1e-5)
    np.testing.assert_allclose(found[7], found[200], atol=1e-5)
    np.testing.assert_array_equal(found[7], heat(pixels, *LABELS, batch_size=7))


@pytest.mark.parametrize("side", [COARSE, FINE])
@pytest.mark.parametrize("size", [(224, 224), (8, 8), (336, 224), (31, 57)])
def test_windows_leave_no_pixel_out_and_none_is_empty(side: int, size: tuple[int, int]) -> None:
    held = np.zeros(size, dtype=int)
    for window in windows(side):
        assert held[window.of(*size)].size
        held[window.of(*size)] += 1
    assert held.min() >= 1


def test_a_model_without_finite_numbers_has_no_finite_heat() -> None:
    class Broken(FakeEncoder):
        def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.full((len(batch), 4), np.nan, dtype=np.float32)

    assert not np.isfinite(heat(quarters(*LABELS), "red", "blue", encoder=Broken())).any()
