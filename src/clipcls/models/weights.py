"""Weight files: read safely, and put into a model completely or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import re
import struct
import time
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from clipcls.errors import ModelError, WeightsMismatchError
from clipcls.models.catalog import architectures, openai_archives
from clipcls.models.devices import is_out_of_memory

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
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() == ".safetensors":
                state: Any = load_file(path, device="cpu")
            elif (content := openai_archive(path)) is not None:
                archive = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
                state = archive.state_dict()
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is refused: it is damaged, or holds Python objects beside tensors, and loading"
            " those could run any code; give the weights as .safetensors"
        ) from error
    except (SafetensorError, *UNREADABLE) as error:
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


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive, the form of OpenAI's own weight files."""
    return any("/code/" in name or name.endswith("/constants.pkl") for name, _ in _members(path))


def _members(path: Path) -> list[tuple[str, int]]:
    """Return name and declared size of what a zip archive holds; nothing if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [(member.filename, member.file_size) for member in archive.infolist()]
    except (zipfile.BadZipFile, *UNREADABLE):
        return []


def openai_archive(path: Path) -> bytes | None:
    """Refuse a file that could run code or fill the memory; nothing of it is loaded here.

    Returns:
        The content of one of OpenAI's own TorchScript archives, so that what is loaded is what the
        digest was taken of; None for a file that is no TorchScript archive.

    Raises:
        ModelError: It is another TorchScript archive, or unpacks to far more than its size.
    """
    with path.open("rb") as file:
        if file.read(2) == b"PK" and not _members(path):
            raise ModelError(f"{path} is no readable weight file (a damaged archive)")
    unpacked = sum(size for _, size in _members(path))
    # torch packs nothing, and weights hardly shrink where somebody did.
    if unpacked > 4 * path.stat().st_size + (1 << 20):
        raise ModelError(
            f"{path} is refused: it would unpack to {unpacked / 1e6:,.0f} MB, far more than its"
            " size; give the weights as .safetensors"
        )
    if not is_torchscript(path):
        return None
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() not in openai_archives():
        raise ModelError(
            f"{path} is refused: it is a TorchScript archive, which can run any code, and none of"
            " those that OpenAI published; give the weights as .safetensors"
        )
    return content


def _only_tensors(state: Any, path: Path) -> dict[str, Any]:
    """Unwrap a training checkpoint and refuse what is no plain floating-point model."""
    import torch

    plain = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int32)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise ModelError(f"{path} holds no state dict, that is no tensors by name")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.dtype not in (*plain, torch.bool):
            raise ModelError(
                f"{path} is refused: {name} is quantised or no tensor; give weights in fp32, fp16"
                " or bf16"
            )
    names = [name.removeprefix("module.") for name in state]
    return dict(zip(names, state.values(), strict=True))


def fit_weights(model: Any, state: dict[str, Any], path: Path) -> None:
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
    # Old archives hold buffers, such as masks, that the model computes itself.
    dropped = {"input_resolution", "context_length", "vocab_size"}
    dropped |= {name for name, _ in model.named_buffers()} - expected.keys()
    dropped.add("text.transformer.embeddings.position_ids")
    state = {k: v for k, v in state.items() if k in expected or k not in dropped}
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in expected and state[name].numel() == 1:
            state[name] = state[name].reshape(expected[name].shape)
    if trouble := _differences(state, expected):
        total = sum(tensor.numel() for tensor in state.values())
        near = [name for name, found in architectures().items() if found.elements == total]
        likely = f"; by its size it is {' or '.join(near[:3])}" if near else ""
        raise WeightsMismatchError(f"{path} does not fit: {trouble}{likely}")
    model.load_state_dict(state, strict=True)


def _differences(state: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Say which tensors are missing, left over or of another shape; empty if none is."""

    def shape(tensor: Any) -> str:
        return "x".join(str(n) for n in tensor.shape) or "a scalar"

    # Weights from before torch 0.4.1 lack this counter, which no prediction uses.
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in expected]
    shapes = [
        f"{k} is {shape(state[k])} instead of {shape(expected[k])}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    kinds = (("missing", missing), ("left over", unexpected), ("other shapes", shapes))
    return "; ".join(
        f"{len(found)} {kind} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for kind, found in kinds
        if found
    )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file of a model, remembered in the user's cache folder.

    What is remembered is told apart by path, size and time of change, and may be thrown away at any
    time. It says which file is which; whether a file may run code is never decided by it.
    """
    # Names and prompts must do without it.
    from platformdirs import user_cache_path

    real = path.resolve()
    # The hub's cache names large files by this very digest.
    if real.parent.name == "blobs" and _is_digest(real.name):
        return real.name
    facts = real.stat()
    key = hashlib.sha256(os.fsencode(f"{real}\0{facts.st_size}\0{facts.st_mtime_ns}")).hexdigest()
    kept = user_cache_path("clipcls") / "digests" / key
    with suppress(OSError, ValueError):
        if _is_digest(text := kept.read_text(encoding="ascii")):
            return text
    hashed = hashlib.sha256()
    with real.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    digest = hashed.hexdigest()
    # A file that was written this very moment may change again within one tick of its clock.
    if abs(time.time() - facts.st_mtime) > 2:
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{os.getpid()}")
            part.write_text(digest, encoding="ascii")
            part.replace(kept)
    return digest


def _is_digest(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
