"""From an image to the pixels that a model takes: open_clip's own transform, or a gentler fit.

Only the last two steps of the transform, the division by 255 and the normalisation, are left to the
device: a quarter of the bytes to carry, and no float work in Python threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from clipcls.errors import DecodeError, ModelError
from clipcls.models.catalog import import_open_clip
from clipcls.options import Fit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

MAX_RESIZED_PIXELS = 50_000_000
"""Above this the resized image, before its centre is cropped, takes more than 150 MB."""

MAX_SIDE = 2_000_000
"""Pixels. Pillow's weights for scaling a side down take 32 bytes per pixel of it."""

_RESIZE_MODE = {Fit.PAD: "longest", Fit.SQUASH: "squash"}
"""open_clip's names of the two ways that show the model the whole image."""


class PixelTransform:
    """Turns an upright RGB image into uint8 pixels; safe in any thread.

    Args:
        config: open_clip's preprocessing configuration, with the size; what it leaves open is as in
            open_clip, and what open_clip does not know is ignored.
        fit: How an image of another shape than the model's is brought into it.

    Attributes:
        image_size: (height, width) in pixels.
        mean: Per channel, subtracted after the division by 255.
        std: Per channel, divided by then.
    """

    def __init__(self, config: Mapping[str, Any], fit: Fit = Fit.MODEL) -> None:
        open_clip = import_open_clip()
        defaults = open_clip.transform.PreprocessCfg()
        config = open_clip.transform.merge_preprocess_dict(defaults, dict(config))
        try:
            if fit in _RESIZE_MODE:
                # Once normalised, a border of the mean colour is zero: it says nothing.
                border = tuple(round(255 * value) for value in config["mean"])
                config = {**config, "resize_mode": _RESIZE_MODE[fit], "fill_color": border}
            settings = open_clip.transform.PreprocessCfg(**config)
            steps = open_clip.transform.image_transform_v2(settings, is_train=False).transforms
        except (AssertionError, TypeError, ValueError) as error:
            raise ModelError(f"unusable preprocessing {dict(config)} ({error})") from error
        *self._steps, to_tensor, normalize = steps
        if not isinstance(to_tensor, open_clip.transform.MaybeToTensor) or not isinstance(
            normalize, open_clip.transform.Normalize
        ):
            raise ModelError("this open_clip prepares images in another way: install 3.3")
        self.mean, self.std = tuple(normalize.mean), tuple(normalize.std)
        self._mode = settings.resize_mode
        height, width = settings.input_size[1:]
        self.image_size = (int(height), int(width))

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (3, H, W) uint8.

        Raises:
            DecodeError: The image is too long and thin, or cannot be resized.
        """
        try:
            if self._is_too_thin(image.width, image.height):
                raise DecodeError("too long and thin to be resized")
            for step in self._steps:
                image = step(image)
            return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
        except DecodeError:
            raise
        except MemoryError as error:
            raise DecodeError("not enough memory to resize it") from error
        # One image that Pillow stumbles over must not end a run.
        except Exception as error:
            raise DecodeError("cannot be resized") from error

    def _is_too_thin(self, width: int, height: int) -> bool:
        """Whether resizing would fill the memory, or leave nothing of the shorter side."""
        down, across = height / self.image_size[0], width / self.image_size[1]
        if self._mode == "shortest":
            # The only mode that resizes beyond the model's size, before it crops.
            resized = width * height / min(down, across) ** 2
            return resized > MAX_RESIZED_PIXELS or max(width, height) > MAX_SIDE
        if self._mode == "longest" and not round(min(width, height) / max(down, across)):
            return True
        return max(width, height) > MAX_SIDE
