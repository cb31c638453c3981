"""The encoder: pictures and prompts in, L2-normalised embeddings out.

The pixels are those of open_clip's own transform. Only its last two steps, the division by 255 and
the normalisation, move from the decode workers to the device: a quarter of the bytes to carry, and
no float work in Python threads. Weights are loaded completely or not at all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clipcls.errors import (
    DecodeError,
    DeviceError,
    MissingExtraError,
    ModelDownloadError,
    ModelError,
    WeightsMismatchError,
)
from clipcls.models.catalog import architectures, import_open_clip, quiet_open_clip
from clipcls.models.devices import (
    DeviceChoice,
    free_cached_memory,
    is_device_trouble,
    is_out_of_memory,
)
from clipcls.models.files import no_progress_bars, pull, pull_config, read_config, require_hub
from clipcls.models.names import CONFIG_NAME, FOLDER_PREFIX, ModelSpec
from clipcls.models.weights import UNREADABLE, digest_of, first_line, fit, read_weights
from clipcls.options import Precision

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL import Image

TEXT_BATCH = 256
"""Prompts per forward pass."""

MAX_RESIZED_PIXELS = 50_000_000
"""Above this the resized picture, before its centre is cropped, takes more than 150 MB."""

MAX_SIDE = 2_000_000
"""Pixels. Pillow's weights for scaling a side down take 32 bytes per pixel of it."""


class Encoder(Protocol):
    """What the pipeline needs of a model.

    Attributes:
        name: The model's name, for the user and the manifest.
        fingerprint: Hex digest of whatever changes an embedding.
        dim: Length D of an embedding.
        logit_scale: What a cosine similarity is multiplied by, already exponentiated.
        logit_bias: What is added then; 0.0 where the model has none.
        image_size: (height, width) in pixels that the model takes.
        context_length: Tokens that the text tower takes, begin and end included.
    """

    name: str
    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float
    image_size: tuple[int, int]
    context_length: int

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an upright RGB picture to (3, H, W) uint8; safe in any thread."""
        ...

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (B, 3, H, W) uint8 as (B, D) float32, L2-normalised."""
        ...

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N prompts as (N, D) float32, L2-normalised."""
        ...

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens each prompt has, begin and end included and nothing cut."""
        ...


# --- what is to be built -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """A model as open_clip describes it.

    Attributes:
        spec: What the user asked for.
        source: The name under which open_clip finds the configuration.
        model: open_clip's model configuration, the activation settled.
        preprocess: open_clip's preprocessing configuration, without the size.
    """

    spec: ModelSpec
    source: str
    model: dict[str, Any]
    preprocess: dict[str, Any]

    @property
    def text(self) -> dict[str, Any]:
        """The configuration of the text tower."""
        text: dict[str, Any] = self.model["text_cfg"]
        return text


def _make_plan(spec: ModelSpec) -> _Plan:
    if spec.kind == "folder" and spec.path is not None:
        return _plan_from_config(spec, spec.path / CONFIG_NAME)
    if spec.kind == "hub":
        return _plan_from_config(spec, pull_config(spec))
    return _plan_from_list(spec)


def _plan_from_config(spec: ModelSpec, path: Path) -> _Plan:
    config = read_config(path)
    # As in open_clip, the model knows its size, whatever the preprocessing says.
    preprocess = {key: value for key, value in config["preprocess_cfg"].items() if key != "size"}
    return _Plan(spec, f"{FOLDER_PREFIX}{path.parent}", config["model_cfg"], preprocess)


def _plan_from_list(spec: ModelSpec) -> _Plan:
    open_clip = import_open_clip()
    architecture = spec.architecture or ""
    # A file without tag was accepted because all tags of its architecture are prepared alike.
    tag = spec.tag or next(iter(architectures()[architecture].tags))
    published = open_clip.get_pretrained_cfg(architecture, tag)
    model = open_clip.get_model_config(architecture)
    if spec.tag and published.get("quick_gelu"):
        model["quick_gelu"] = True
    keys = ("mean", "std", "interpolation", "resize_mode")
    return _Plan(spec, architecture, model, {key: published[key] for key in keys})


# --- the tokenizer -------------------------------------------------------------------------------


class PromptTokenizer:
    """Texts to token ids, exactly as the model was trained.

    Attributes:
        context_length: Tokens that the text tower takes; longer prompts are cut there.
        identity: Hex digest of the vocabulary; empty for CLIP's own, which never changes.
    """

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self._tokenizer = tokenizer
        self.context_length = context_length
        self.identity = _vocabulary_digest(tokenizer)

    def __call__(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return (N, context_length) int64 token ids."""
        ids: torch.Tensor = self._tokenizer(list(prompts))
        return ids

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens each prompt has, begin and end included and nothing cut."""
        if not hasattr(self._tokenizer, "tokenizer"):
            return [len(self._tokenizer.encode(prompt)) + 2 for prompt in prompts]
        if not prompts:
            return []
        # In this mode open_clip itself adds begin, end and a class token.
        own = getattr(self._tokenizer, "tokenizer_mode", "") == "clips"
        ids = self._tokenizer.tokenizer(
            [self._tokenizer.clean_fn(prompt) for prompt in prompts],
            add_special_tokens=not own,
            truncation=False,
            verbose=False,
        ).input_ids
        return [len(tokens) + (3 if own else 0) for tokens in ids]


def _vocabulary_digest(tokenizer: Any) -> str:
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:
        return ""
    vocabulary = sorted(inner.get_vocab().items())
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()


def load_tokenizer(spec: ModelSpec) -> PromptTokenizer:
    """Load a model's tokenizer without its weights.

    Raises:
        MissingExtraError: It needs transformers, which is not installed.
        ModelDownloadError: It is neither on this machine nor reachable.
        ModelError: Its files are missing or damaged.
    """
    return _tokenizer_of(_make_plan(spec))


def _tokenizer_of(plan: _Plan) -> PromptTokenizer:
    open_clip = import_open_clip()
    with quiet_open_clip(), no_progress_bars():
        if plan.text.get("hf_tokenizer_name"):
            tokenizer = _transformers_tokenizer(open_clip, plan)
        else:
            tokenizer = open_clip.get_tokenizer(plan.source)
        return PromptTokenizer(tokenizer, int(tokenizer.context_length))


def _transformers_tokenizer(open_clip: Any, plan: _Plan) -> Any:
    _require_transformers(plan.spec)
    name = plan.text["hf_tokenizer_name"]
    if plan.spec.kind == "folder" and plan.spec.path is not None:
        # As open_clip does: a folder carries its tokenizer along.
        return _folder_tokenizer(open_clip, plan, plan.spec.path)
    found = _build_tokenizer(open_clip, plan, name, local=True)
    if found is None:
        require_hub(plan.spec)
        found = _build_tokenizer(open_clip, plan, name, local=False)
    if found is None:
        raise ModelDownloadError(f"{plan.spec.name}: its tokenizer {name} cannot be downloaded")
    return found


def _folder_tokenizer(open_clip: Any, plan: _Plan, folder: Path) -> Any:
    found = None
    if any(folder.glob("tokenizer*")):
        found = _build_tokenizer(open_clip, plan, str(folder), local=True)
    if found is None:
        raise ModelError(
            f"the folder {folder} lacks the files of its tokenizer (tokenizer.json,"
            f" tokenizer_config.json): copy those of {plan.text['hf_tokenizer_name']} into it"
        )
    return found


def _require_transformers(spec: ModelSpec) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError(f"the tokenizer of {spec.name}", "siglip")


def _build_tokenizer(open_clip: Any, plan: _Plan, source: str, *, local: bool) -> Any | None:
    """Return the tokenizer, or None if its files are not there."""
    try:
        return open_clip.tokenizer.HFTokenizer(
            source,
            context_length=plan.text.get("context_length", 77),
            tokenizer_mode=plan.text.get("tokenizer_mode"),
            local_files_only=local,
            **plan.text.get("tokenizer_kwargs", {}),
        )
    except ImportError as error:
        raise MissingExtraError(f"the tokenizer of {plan.spec.name}", "siglip") from error
    except OSError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        reason = first_line(error)
        raise ModelError(f"{plan.spec.name}: its tokenizer is unusable ({reason})") from error


# --- the encoder ---------------------------------------------------------------------------------


def load_encoder(spec: ModelSpec, device: DeviceChoice) -> OpenClipEncoder:
    """Load a model completely, or say in one line why not.

    Raises:
        ModelDownloadError: The weights are neither on this machine nor reachable.
        WeightsMismatchError: The weights do not belong to the architecture.
        ModelError: Anything else that is wrong with the model's files.
        MissingExtraError: The model needs transformers, which is not installed.
        DeviceError: The device has no room for the model, or fails.
    """
    # First, because it is what fails most often and needs no torch to do so.
    checkpoint = pull(spec)
    plan = _make_plan(spec)
    tokenizer = _tokenizer_of(plan)
    with _explained_trouble(spec, device.device), quiet_open_clip(), no_progress_bars():
        model = _build(plan, device)
        _load(plan, model, checkpoint)
    identity = {
        "model": plan.model,
        "preprocess": model.visual.preprocess_cfg,
        "weights": digest_of(checkpoint),
        "precision": str(device.precision),
        "tokenizer": tokenizer.identity,
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    dim = int(plan.model["embed_dim"])
    return OpenClipEncoder(model, tokenizer, device, (spec.name, fingerprint), dim)


def _build(plan: _Plan, device: DeviceChoice) -> Any:
    """Create the model without weights, on the device and in the precision."""
    open_clip = import_open_clip()
    if "hf_model_name" in plan.text:
        _require_transformers(plan.spec)
    try:
        model = open_clip.create_model(
            plan.source,
            load_weights=False,
            precision=str(device.precision),
            device=device.device,
            force_quick_gelu=bool(plan.model.get("quick_gelu")),
            force_preprocess_cfg=plan.preprocess,
            pretrained_text=False,
        )
    except (AssertionError, *UNREADABLE) as error:
        if is_device_trouble(error):
            raise
        reason = first_line(error)
        if "hf_model_name" in plan.text and isinstance(error, OSError):
            tower = plan.text["hf_model_name"]
            raise ModelDownloadError(
                f"{plan.spec.name}: the configuration of its text tower {tower} is not on this"
                " machine and cannot be downloaded"
            ) from error
        raise ModelError(f"{plan.spec.name} cannot be built by open_clip ({reason})") from error
    # A low-precision scale would move every logit: bfloat16 turns 100 into 98.9.
    for name in ("logit_scale", "logit_bias"):
        if getattr(model, name, None) is not None:
            getattr(model, name).data = getattr(model, name).data.float()
    return model.eval().requires_grad_(False)


def _load(plan: _Plan, model: Any, checkpoint: Path) -> None:
    open_clip = import_open_clip()
    if plan.spec.kind != "pretrained":
        fit(model, read_weights(checkpoint), checkpoint)
        return
    # safetensors comes with torch's models and is slow to import; only loading needs it.
    from safetensors import SafetensorError

    # Published weights are open_clip's own business, old layouts and all.
    try:
        open_clip.load_checkpoint(model, str(checkpoint), strict=True, weights_only=True)
    except (AssertionError, pickle.UnpicklingError, SafetensorError, *UNREADABLE) as error:
        if is_device_trouble(error):
            raise
        raise WeightsMismatchError(
            f"{plan.spec.name}: {checkpoint} cannot be loaded ({first_line(error)}); if the"
            " download was damaged, remove the file and pull it again"
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


class _PixelTransform:
    """open_clip's own transform up to the pixels, which is all of it but the float arithmetic.

    Attributes:
        size: (height, width) in pixels.
        mean: Per channel, subtracted after the division by 255.
        std: Per channel, divided by then.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        open_clip = import_open_clip()
        try:
            settings = open_clip.transform.PreprocessCfg(**config)
            steps = open_clip.transform.image_transform_v2(settings, is_train=False).transforms
        except (AssertionError, TypeError, ValueError) as error:
            raise ModelError(f"unusable preprocessing {dict(config)} ({error})") from error
        *self._steps, to_tensor, normalize = steps
        if not isinstance(to_tensor, open_clip.transform.MaybeToTensor) or not isinstance(
            normalize, open_clip.transform.Normalize
        ):
            raise ModelError("this open_clip prepares pictures in another way: install 3.3")
        self.mean, self.std = tuple(normalize.mean), tuple(normalize.std)
        self._mode = settings.resize_mode
        height, width = settings.input_size[1:]
        self.size = (int(height), int(width))

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        try:
            return self._pixels(image)
        except DecodeError:
            raise
        except MemoryError as error:
            raise DecodeError("not enough memory to resize it") from error
        # One picture that Pillow stumbles over must not end a run.
        except Exception as error:
            raise DecodeError("cannot be resized") from error

    def _pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        if self._is_too_thin(image.width, image.height):
            raise DecodeError("too long and thin to be resized")
        for step in self._steps:
            image = step(image)
        pixels = np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)
        return np.ascontiguousarray(pixels)

    def _is_too_thin(self, width: int, height: int) -> bool:
        """Whether resizing would fill the memory, or leave nothing of the shorter side."""
        down, across = height / self.size[0], width / self.size[1]
        if self._mode == "shortest":
            # The only mode that resizes beyond the model's size, before it crops.
            resized = width * height / min(down, across) ** 2
            return resized > MAX_RESIZED_PIXELS or max(width, height) > MAX_SIDE
        if self._mode == "longest" and not round(min(width, height) / max(down, across)):
            return True
        return max(width, height) > MAX_SIDE


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
            done = self._attempt(step, part)
            if done is not None:
                rows.append(done)
                start += len(part)
        return torch.cat(rows)

    def _attempt(
        self, step: Callable[[torch.Tensor], torch.Tensor], part: torch.Tensor
    ) -> torch.Tensor | None:
        try:
            return step(part)
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
        return None


class OpenClipEncoder:
    """An open_clip model on a device; implements `Encoder`.

    Args:
        model: The loaded model, in evaluation mode, on the device and in the precision.
        tokenizer: The model's tokenizer.
        choice: The device and precision that the model is in.
        identity: The model's name and the fingerprint.
        dim: Length D of an embedding.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PromptTokenizer,
        choice: DeviceChoice,
        identity: tuple[str, str],
        dim: int,
    ) -> None:
        import torch

        self.name, self.fingerprint = identity
        self.dim = dim
        self.device = choice.device
        self._dtype = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}.get(
            choice.precision, torch.float32
        )
        self._model = model
        self._tokenizer = tokenizer
        self.context_length = tokenizer.context_length
        self._transform = _PixelTransform(model.visual.preprocess_cfg)
        self.image_size = self._transform.size
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=choice.device).view(-1, 1, 1)
            for values in (self._transform.mean, self._transform.std)
        )
        self.logit_scale = float(model.logit_scale.detach().float().exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = 0.0 if bias is None else float(bias.detach().float())
        self._image_batches = _Batches(choice.device)
        self._text_batches = _Batches(choice.device, TEXT_BATCH)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an upright RGB picture to (3, H, W) uint8; safe in any thread.

        Raises:
            DecodeError: The picture is too long and thin, or cannot be resized.
        """
        return self._transform(image)

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (B, 3, H, W) uint8 as (B, D) float32, L2-normalised.

        Raises:
            DeviceError: The device's memory does not hold a single picture, or the device fails.
        """
        import torch

        if not len(batch):
            return np.zeros((0, self.dim), np.float32)
        # torch warns about arrays that it could not write to.
        pixels = torch.from_numpy(batch if batch.flags.writeable else batch.copy())
        return self._rows(self._image_batches, self._embed_pixels, pixels)

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N prompts as (N, D) float32, L2-normalised; equal prompts are computed once.

        Raises:
            TypeError: A single string in place of a sequence, which would mean its letters.
            DeviceError: As for pictures.
        """
        if isinstance(prompts, str):
            raise TypeError("prompts is a string, give a list of strings")
        if not prompts:
            return np.zeros((0, self.dim), np.float32)
        place = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        tokens = self._tokenizer(list(place))
        rows = self._rows(self._text_batches, self._embed_tokens, tokens)
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

        with torch.inference_mode():
            features = batches.run(step, inputs)
            rows: NDArray[np.float32] = torch.nn.functional.normalize(features, dim=-1).numpy()
        return rows

    def _embed_pixels(self, part: torch.Tensor) -> torch.Tensor:
        # The order of operations is torchvision's, so that float32 gives the same bits.
        pixels = part.to(self.device, non_blocking=True).float()
        pixels.div_(255).sub_(self._mean).div_(self._std)
        features: torch.Tensor = self._model.encode_image(pixels.to(self._dtype))
        return features.float().cpu()

    def _embed_tokens(self, part: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self._model.encode_text(part.to(self.device))
        return features.float().cpu()
