"""What the model sees of an image: as it was trained, the whole with a border, or squeezed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from clipcls.models.pixels import PixelTransform
from clipcls.options import Fit

MEAN = (0.25, 0.5, 0.75)


def config(**changes: Any) -> dict[str, Any]:
    return {
        "size": 60,
        "mean": MEAN,
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        **changes,
    }


def panorama(subject: bool) -> Image.Image:
    """A 1500x300 image, with its subject at the left or without one."""
    image = Image.new("RGB", (1500, 300), (40, 90, 200))
    if subject:
        image.paste((250, 30, 30), (50, 50, 250, 250))
    return image


def shown(fit: Fit, image: Image.Image, **changes: Any) -> NDArray[np.uint8]:
    return PixelTransform(config(**changes), fit).prepare(image)


@pytest.mark.parametrize("turned", [False, True])
def test_what_the_crop_removes_is_seen_when_the_whole_image_is_fitted(turned: bool) -> None:
    images = [panorama(subject) for subject in (True, False)]
    if turned:
        images = [image.transpose(Image.Transpose.ROTATE_90) for image in images]
    for fit in Fit:
        with_subject, without = (shown(fit, image) for image in images)
        assert with_subject.shape == (3, 60, 60)
        assert np.array_equal(with_subject, without) is (fit is Fit.MODEL)
    assert not np.array_equal(shown(Fit.PAD, images[0]), shown(Fit.SQUASH, images[0]))


def test_a_border_has_the_mean_colour_and_the_image_its_shape() -> None:
    pixels = shown(Fit.PAD, Image.new("RGB", (1500, 300), (40, 90, 200)))
    rows = (pixels == np.reshape((40, 90, 200), (3, 1, 1))).all(axis=(0, 2))
    assert rows.tolist() == [False] * 24 + [True] * 12 + [False] * 24
    border = [round(255 * value) for value in MEAN]
    assert (pixels[:, ~rows] == np.reshape(border, (3, 1, 1))).all()


@pytest.mark.parametrize("fit", list(Fit))
def test_an_image_of_the_model_s_shape_is_the_same_in_every_fit(fit: Fit) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (120, 120, 3), dtype=np.uint8))
    np.testing.assert_array_equal(shown(fit, image), shown(Fit.MODEL, image))


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [60, (48, 80)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("fit", [Fit.MODEL, Fit.SQUASH])
def test_pixels_are_those_of_open_clip_s_own_transform(
    mode: str, size: int | tuple[int, int], interpolation: str, fit: Fit
) -> None:
    settings = config(size=size, resize_mode=mode, interpolation=interpolation)
    own = {**settings, "resize_mode": "squash" if fit is Fit.SQUASH else mode}
    cfg = open_clip.transform.PreprocessCfg(**own)
    theirs = open_clip.transform.image_transform_v2(cfg, is_train=False)
    assert asdict(cfg)["mean"] == MEAN
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (77, 151, 3), dtype=np.uint8))
    transform = PixelTransform(settings, fit)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (transform.mean, transform.std))
    ours = (torch.from_numpy(transform.prepare(image)).float() / 255 - mean) / std
    torch.testing.assert_close(ours, theirs(image), rtol=0, atol=1e-5)
