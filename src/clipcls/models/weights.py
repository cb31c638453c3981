"""Weight files: read safely, and put into a model completely or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipcls.errors import ModelError, WeightsMismatchError
from clipcls.models.catalog import architectures
from clipcls.models.devices import is_out_of_memory
from clipcls.models.names import is_torchscript

UNREADABLE = (
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What torch raises over a damaged file; there is no common base."""


def read_weights(path: Path) -> dict[str, Any]:
    """Read a weight file into name -> tensor; nothing but tensors is ever unpickled."""
    try:
        state = _raw_weights(path)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is refused: it is damaged, or holds Python objects beside tensors, and loading"
            " those could run any code; give the weights as .safetensors"
        ) from error
    except UNREADABLE as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{path} is no readable weight file ({first_line(error)})") from error
    return _only_tensors(state, path)


def parameters_in(path: Path) -> int:
    """Return how many numbers a .safetensors file holds, from its header alone.

    Raises:
        ModelError: It is no such file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return sum(math.prod(tensor["shape"]) for tensor in header.values())
    except (AttributeError, MemoryError, OverflowError, *UNREADABLE) as error:
        raise ModelError(f"{path} is no readable weight file ({first_line(error)})") from error


def _raw_weights(path: Path) -> Any:
    import torch

    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if is_torchscript(path):
            archive = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return archive.state_dict()
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise ValueError(first_line(error)) from error


def _only_tensors(state: Any, path: Path) -> dict[str, Any]:
    """Unwrap a training checkpoint and refuse what is no plain floating-point model."""
    import torch

    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise ModelError(f"{path} holds no state dict, that is no tensors by name")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.is_quantized or _is_packed(value, torch):
            raise ModelError(
                f"{path} is refused: {name} is quantised or no tensor; give weights in fp32, fp16"
                " or bf16"
            )
    names = [name.removeprefix("module.") for name in state]
    return dict(zip(names, state.values(), strict=True))


def _is_packed(tensor: Any, torch: Any) -> bool:
    plain = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int32)
    return tensor.dtype not in (*plain, torch.bool)


def fit(model: Any, state: dict[str, Any], path: Path) -> None:
    """Put the tensors into the model if they are exactly its own.

    open_clip would stretch position embeddings of another size and set a missing bias to zero.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    try:
        state = convert_state_dict(model, state)
    except UNREADABLE as error:
        raise WeightsMismatchError(f"{path}: {first_line(error)}") from error
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    computed = {name for name, _ in model.named_buffers()} - expected.keys()
    state = _settle(state, expected, computed)
    trouble = _differences(state, expected)
    if trouble:
        raise WeightsMismatchError(f"{path} does not fit: {trouble}{_likely(state)}")
    model.load_state_dict(state, strict=True)


def _settle(
    state: Mapping[str, Any], expected: Mapping[str, Any], computed: set[str]
) -> dict[str, Any]:
    """Drop what is no weight of the model; allow scalars as 0-d and 1-d alike.

    Args:
        state: The file's tensors.
        expected: The model's own.
        computed: Buffers that the model makes itself, such as masks; old archives hold them.
    """
    dropped = {"input_resolution", "context_length", "vocab_size", *computed}
    dropped.add("text.transformer.embeddings.position_ids")
    settled = {k: v for k, v in state.items() if k in expected or k not in dropped}
    for name in ("logit_scale", "logit_bias"):
        if name in settled and name in expected and settled[name].numel() == 1:
            settled[name] = settled[name].reshape(expected[name].shape)
    return settled


def _differences(state: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Say which tensors are missing, left over or of another shape; empty if none is."""
    # Weights from before torch 0.4.1 lack this counter, which no prediction uses.
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in expected]
    shapes = [
        f"{k} is {_shape(state[k])} instead of {_shape(expected[k])}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    kinds = (("missing", missing), ("left over", unexpected), ("other shapes", shapes))
    return "; ".join(f"{len(found)} {kind} ({_few(found)})" for kind, found in kinds if found)


def _shape(tensor: Any) -> str:
    return "x".join(str(n) for n in tensor.shape) or "a scalar"


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _likely(state: Mapping[str, Any]) -> str:
    """Name the architectures that hold exactly as many numbers as the file."""
    total = sum(tensor.numel() for tensor in state.values())
    near = [name for name, found in architectures().items() if found.elements == total]
    return f"; by its size it is {' or '.join(near[:3])}" if near else ""


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a weight file."""
    real = path.resolve()
    # The hub's cache names large files by this very digest.
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name):
        return real.name
    digest = hashlib.sha256()
    with real.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
