"""The encoder on open_clip and torch; weights are loaded completely or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipcls.errors import DeviceError, ModelDownloadError, ModelError, WeightsMismatchError
from clipcls.models.catalog import architecture_of, import_open_clip, quiet_open_clip
from clipcls.models.devices import (
    DeviceChoice,
    free_cached_memory,
    is_device_trouble,
    is_out_of_memory,
)
from clipcls.models.files import no_progress_bars
from clipcls.models.fusion import fused
from clipcls.models.pixels import PixelTransform
from clipcls.models.specs import ModelConfig, ModelSpec
from clipcls.models.tokenizer import PromptTokenizer, load_tokenizer, require_transformers
from clipcls.models.weights import UNREADABLE, first_line, fit_weights, openai_archive, read_weights
from clipcls.options import DecodeOptions, Precision

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL import Image

TEXT_BATCH = 256
"""Prompts per forward pass."""


def load_encoder(
    spec: ModelSpec,
    device: DeviceChoice,
    decode: DecodeOptions | None = None,
    ready: Callable[[PixelTransform], None] = lambda transform: None,
) -> OpenClipEncoder:
    """Load a model completely, or say in one line why not.

    Args:
        spec: The model.
        device: Where it runs, in which precision.
        decode: How images are decoded and fitted to the model.
        ready: Given the model's transform as soon as it is there, long before the weights are.

    Raises:
        ModelDownloadError: The weights are neither on this machine nor reachable.
        WeightsMismatchError: The weights do not belong to the architecture.
        ModelError: Anything else that is wrong with the model's files.
        MissingExtraError: The model needs transformers, which is not installed.
        DeviceError: The device has no room for the model, or fails.
    """
    # First, because it is what fails most often and needs no torch to do so.
    checkpoint = spec.checkpoint()
    config = spec.config()
    tokenizer = load_tokenizer(spec)
    with _explained_trouble(spec, device.device), quiet_open_clip(), no_progress_bars():
        # What is refused costs no model. OpenAI's archives are read by us, exact or not.
        exact = openai_archive(checkpoint) is not None or config.exact
        state = read_weights(checkpoint) if exact else {}
        decode = decode or DecodeOptions()
        transform = load_transform(config, decode)
        ready(transform)
        model = _build(spec, config, device)
        if exact:
            fit_weights(model, state, checkpoint)
        else:
            _load_published(spec, model, checkpoint)
        fingerprint = spec.fingerprint(device.precision, decode)
        identity = (spec.name, fingerprint, int(config.model["embed_dim"]))
        return OpenClipEncoder(model, tokenizer, transform, device, identity)


def load_transform(config: ModelConfig, decode: DecodeOptions) -> PixelTransform:
    """Return how a model's images are prepared, which takes no weights."""
    # As in open_clip, the model knows its size, whatever the preprocessing says.
    size = architecture_of(config.model, {}).image_size
    return PixelTransform({**config.preprocess, "size": size}, decode.fit)


def _build(spec: ModelSpec, config: ModelConfig, device: DeviceChoice) -> Any:
    """Create the model without weights, on the device and in the precision."""
    open_clip = import_open_clip()
    tower = config.model["text_cfg"].get("hf_model_name")
    if tower:
        require_transformers(spec, "text tower")
        from transformers import dynamic_module_utils

        # It would ask on the terminal whether to run code that the configuration names.
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        model = open_clip.create_model(
            config.source,
            load_weights=False,
            precision=str(device.precision),
            device=device.device,
            force_quick_gelu=bool(config.model.get("quick_gelu")),
            pretrained_text=False,
        )
    except (AssertionError, *UNREADABLE) as error:
        if is_device_trouble(error):
            raise
        if tower and isinstance(error, OSError):
            raise ModelDownloadError(
                f"{spec.name}: the configuration of its text tower {tower} is not on this"
                " machine and cannot be downloaded"
            ) from error
        reason = first_line(error)
        raise ModelError(f"{spec.name} cannot be built by open_clip ({reason})") from error
    # A low-precision scale would move every logit: bfloat16 turns 100 into 98.9.
    for name in ("logit_scale", "logit_bias"):
        if getattr(model, name, None) is not None:
            getattr(model, name).data = getattr(model, name).data.float()
    return model.eval().requires_grad_(False)


def _load_published(spec: ModelSpec, model: Any, checkpoint: Path) -> None:
    """Let open_clip fill in the weights that it lists, old layouts and all."""
    # safetensors comes with torch's models and is slow to import; only loading needs it.
    from safetensors import SafetensorError

    open_clip = import_open_clip()
    try:
        open_clip.load_checkpoint(model, str(checkpoint), strict=True, weights_only=True)
    except (AssertionError, pickle.UnpicklingError, SafetensorError, *UNREADABLE) as error:
        if is_device_trouble(error):
            raise
        reason = first_line(error)
        if isinstance(error, pickle.UnpicklingError):
            reason = "it is damaged, or holds Python objects, which could run any code"
        raise WeightsMismatchError(
            f"{spec.name}: {checkpoint} cannot be loaded ({reason}); if the download was damaged,"
            " remove the file and pull it again"
        ) from error


@contextmanager
def _explained_trouble(spec: ModelSpec, device: str) -> Iterator[None]:
    """Turn what a device raises while a model is put on it into one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise DeviceError(_failed(device, error)) from error
        advice = "take a smaller model" + ("" if device == "cpu" else " or --device cpu")
        raise DeviceError(f"{device} has no room for {spec.name}: {advice}") from error


def _failed(device: str, error: BaseException) -> str:
    advice = "--precision fp32 or " + ("another model" if device == "cpu" else "--device cpu")
    return f"the model cannot be run on {device} ({first_line(error)}): try {advice}"


class _Batches:
    """Runs a step over a batch in parts, smaller ones from the moment that memory runs out.

    Args:
        device: Where the step computes, for messages.
        limit: Rows per part at first; None is the whole batch.
    """

    def __init__(self, device: str, limit: int | None = None) -> None:
        self._device = device
        self._limit = limit

    def run(
        self, step: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor
    ) -> torch.Tensor:
        """Return the step's rows for the whole batch, (N, D).

        Raises:
            DeviceError: Not even one row fits, or the device fails in another way.
        """
        import torch

        rows: list[torch.Tensor] = []
        start = 0
        while start < len(batch):
            part = batch[start : start + (self._limit or len(batch))]
            try:
                rows.append(step(part))
                start += len(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise DeviceError(_failed(self._device, error)) from error
                if len(part) == 1:
                    raise DeviceError(
                        "the device's memory does not hold a single input: take a smaller model,"
                        " --precision fp16 or --device cpu"
                    ) from error
                self._limit = len(part) // 2
            # Outside of the handler, where the failed attempt's tensors are no longer held.
            free_cached_memory()
        return torch.cat(rows)


class OpenClipEncoder:
    """An open_clip model on a device; implements `Encoder`.

    Args:
        model: The loaded model, in evaluation mode, on the device and in the precision.
        tokenizer: The model's tokenizer.
        transform: From an image to the pixels that the model takes.
        choice: The device and precision that the model is in.
        identity: The model's name, its fingerprint, and the length D of an embedding.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PromptTokenizer,
        transform: PixelTransform,
        choice: DeviceChoice,
        identity: tuple[str, str, int],
    ) -> None:
        import torch

        self.name, self.fingerprint, self.dim = identity
        self.device = choice.device
        self._on_cuda = choice.device.startswith("cuda")
        self._dtype = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}.get(
            choice.precision, torch.float32
        )
        # timm's towers of convolutions are faster with the channels last; a single convolution cuts
        # a ViT's patches. OpenAI's ResNets are left alone: theirs would move by more than 1e-5.
        trunk = fused(getattr(model.visual, "trunk", torch.nn.Identity()), transform.image_size)
        convolutions = sum(isinstance(part, torch.nn.Conv2d) for part in trunk.modules())
        self._layout = torch.contiguous_format
        if choice.device == "cpu" and convolutions > 1:
            self._layout = torch.channels_last
            trunk.to(memory_format=self._layout)
        if hasattr(model.visual, "trunk"):
            model.visual.trunk = trunk
        self._model = model
        self._tokenizer = tokenizer
        self.context_length = tokenizer.context_length
        self._transform = transform
        self.image_size = transform.image_size
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=choice.device).view(-1, 1, 1)
            for values in (transform.mean, transform.std)
        )
        self.logit_scale = float(model.logit_scale.detach().float().exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = 0.0 if bias is None else float(bias.detach().float())
        if self._on_cuda:
            torch.cuda.synchronize(choice.device)  # other streams do not wait for what is done here
        self._image_batches = _Batches(choice.device)
        self._text_batches = _Batches(choice.device, TEXT_BATCH)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Bring an upright RGB image to (3, H, W) uint8; safe in any thread.

        Raises:
            DecodeError: The image is too long and thin, or cannot be resized.
        """
        return self._transform.prepare(image)

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (B, 3, H, W) uint8 as (B, D) float32, L2-normalised.

        Raises:
            DeviceError: The device's memory does not hold a single image, or the device fails.
        """
        import torch

        if not len(batch):
            return np.zeros((0, self.dim), np.float32)
        # torch warns about arrays that it could not write to.
        pixels = torch.from_numpy(batch if batch.flags.writeable else batch.copy())

        def embed(part: torch.Tensor) -> torch.Tensor:
            # The order of operations is torchvision's, so that float32 gives the same bits.
            if self._on_cuda:
                part = part.pin_memory()  # only such memory is copied while the device computes
            moved = part.to(self.device, non_blocking=True).float()
            moved.div_(255).sub_(self._mean).div_(self._std)
            moved = moved.to(self._dtype).contiguous(memory_format=self._layout)
            features: torch.Tensor = self._model.encode_image(moved)
            return features.float().cpu()

        return self._rows(self._image_batches, embed, pixels)

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N prompts as (N, D) float32, L2-normalised; equal prompts are computed once.

        Raises:
            TypeError: A single string in place of a sequence, which would mean its letters.
            DeviceError: As for images.
        """
        if isinstance(prompts, str):
            raise TypeError("prompts is a string, give a list of strings")
        if not prompts:
            return np.zeros((0, self.dim), np.float32)
        place = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}

        def embed(part: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self._model.encode_text(part.to(self.device))
            return features.float().cpu()

        rows = self._rows(self._text_batches, embed, self._tokenizer(list(place)))
        return rows[[place[prompt] for prompt in prompts]]

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens each prompt has, begin and end included and nothing cut."""
        return self._tokenizer.count_tokens(prompts)

    def _rows(
        self,
        batches: _Batches,
        step: Callable[[torch.Tensor], torch.Tensor],
        inputs: torch.Tensor,
    ) -> NDArray[np.float32]:
        import torch

        # Of its own for each batch: the copies of one overlap with the products of another.
        stream = torch.cuda.Stream(self.device) if self._on_cuda else None  # type: ignore[no-untyped-call]
        with torch.inference_mode(), torch.cuda.stream(stream) if stream else nullcontext():
            features = batches.run(step, inputs)
            rows: NDArray[np.float32] = torch.nn.functional.normalize(features, dim=-1).numpy()
        return rows
