"""Weight files: read safely, put into a model completely or not at all."""

from __future__ import annotations

import copy
import hashlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from clipcls.errors import ModelError, WeightsMismatchError
from clipcls.models.weights import digest_of, fit_weights, parameters_in, read_weights
from examples.make_checkpoint import random_model
from tests.checkpoints import CheckpointFolders, checkpoints
from tests.hub_cache import HubCache, hub_cache

__all__ = ["checkpoints", "hub_cache"]


@pytest.fixture
def model(checkpoints: CheckpointFolders) -> Any:
    """The tiny model with weights of its own."""
    return random_model(checkpoints.folder("tiny"))


def state_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def as_torchscript(model: Any, path: Path, size: int = 64) -> None:
    """Save the model as OpenAI saved its own: an archive with half-precision tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = torch.zeros(1, 3, size, size)
        inputs = {"encode_image": (pixels,)}
        traced = torch.jit.trace_module(copy.deepcopy(model), inputs, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced.half(), path)


def as_if_published(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let the file pass for one of OpenAI's own archives."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr("clipcls.models.weights.openai_archives", lambda: {digest: "tiny"})


SAVERS: dict[str, Callable[[Any, Path], None]] = {
    "model.safetensors": lambda model, path: save_file(state_of(model), path),
    "model.pt": lambda model, path: torch.save(state_of(model), path),
    "training.pt": lambda model, path: torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state_of(model).items()}}, path
    ),
    "legacy.bin": lambda model, path: torch.save(
        state_of(model), path, _use_new_zipfile_serialization=False
    ),
    "openai.pt": as_torchscript,
}


@pytest.mark.parametrize("name", SAVERS)
def test_every_kind_of_file_fills_the_model(
    model: Any,
    checkpoints: CheckpointFolders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    SAVERS[name](model, tmp_path / name)
    as_if_published(monkeypatch, tmp_path / name)
    other = random_model(checkpoints.folder("tiny"))
    assert any((a != b).any() for a, b in zip(other.parameters(), model.parameters(), strict=True))

    fit_weights(other, read_weights(tmp_path / name), tmp_path / name)
    for name_, tensor in other.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name_], rtol=1e-3, atol=1e-3)


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "harm", tmp_path / "evil.pt"
    torch.save({"weight": Evil(target)}, path)
    with pytest.raises(ModelError, match=r"refused.*could run any code.*\.safetensors"):
        read_weights(path)
    assert not target.exists()


def damaged(tmp_path: Path, kind: str) -> Path:
    """Write a weight file that is broken in one of several ways."""
    state = {"weight": torch.arange(1000.0)}
    path = tmp_path / f"broken{'.safetensors' if 'safe' in kind else '.pt'}"
    save_file(state, path) if "safe" in kind else torch.save(state, path)
    whole = path.read_bytes()
    content = {
        "half": whole[: len(whole) // 2],
        "half safetensors": whole[: len(whole) // 2],
        "empty": b"",
        "empty safetensors": b"",
        "text": b"hello, this is no weight file",
        "web page": b"<!DOCTYPE html><html></html>",
        "numbers": pickle.dumps([1, 2, 3]),
        "huge header safetensors": b"\xff" * 64,
    }
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "half",
        "half safetensors",
        "empty",
        "empty safetensors",
        "text",
        "web page",
        "numbers",
        "huge header safetensors",
    ],
)
def test_damaged_file_is_one_line(tmp_path: Path, kind: str) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(ModelError, match="broken") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, dtype=torch.int8),
        torch.zeros(4, dtype=torch.uint8),
        torch.zeros(4, dtype=torch.float8_e4m3fn),
    ],
)
def test_quantised_weights_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"visual.proj": tensor}, tmp_path / "small.pt")
    with pytest.raises(ModelError, match=r"visual\.proj is quantised"):
        read_weights(tmp_path / "small.pt")


def test_numbers_are_counted_without_reading_them(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.zeros(3, 4), "b": torch.zeros(()), "c": torch.zeros(5, 0)}
    save_file(tensors, path, {"format": "pt"})
    assert parameters_in(path) == 13
    for content in (b"", b"\xff" * 64, b"\x02" + bytes(7) + b"[]", b"\x03" + bytes(7) + b"nul"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="no readable weight file"):
            parameters_in(path)


@pytest.mark.parametrize("content", [{}, [torch.zeros(2)], {"lr": 0.1}])
def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"other\.pt"):
        read_weights(tmp_path / "other.pt")


def test_missing_left_over_and_misshapen_tensors_are_named(model: Any) -> None:
    state = state_of(model)
    del state["visual.proj"]
    state["visual.head"] = torch.zeros(2)
    state["ln_final.weight"] = torch.zeros(3)
    with pytest.raises(WeightsMismatchError) as caught:
        fit_weights(model, state, Path("w.pt"))
    message = str(caught.value)
    assert "1 missing (visual.proj)" in message
    assert "1 left over (visual.head)" in message
    assert "1 other shapes (ln_final.weight is 3 instead of 64)" in message


@pytest.mark.parametrize("name", ["visual.positional_embedding", "positional_embedding"])
def test_position_embeddings_are_never_stretched(model: Any, name: str) -> None:
    before, state = state_of(model), state_of(model)
    state[name] = torch.zeros(10, state[name].shape[1])
    with pytest.raises(WeightsMismatchError, match=name):
        fit_weights(model, state, Path("w.pt"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_missing_logit_bias_is_an_error(checkpoints: CheckpointFolders) -> None:
    model = random_model(checkpoints.folder("siglip-style"))
    state = state_of(model)
    del state["logit_bias"]
    with pytest.raises(WeightsMismatchError, match="logit_bias"):
        fit_weights(model, state, Path("w.pt"))


def test_scale_and_bias_may_be_scalars_or_vectors_of_one(checkpoints: CheckpointFolders) -> None:
    model = random_model(checkpoints.folder("siglip-style"))
    state = state_of(model)
    state["logit_scale"], state["logit_bias"] = torch.tensor([3.0]), torch.tensor([-7.0])
    fit_weights(model, state, Path("w.pt"))
    assert model.logit_scale.item() == 3.0
    assert model.logit_bias.item() == -7.0


@pytest.mark.slow
def test_weights_of_another_architecture_name_it(
    model: Any, checkpoints: CheckpointFolders
) -> None:
    state = read_weights(checkpoints.folder("ViT-B-32") / "open_clip_model.safetensors")
    with pytest.raises(WeightsMismatchError, match="by its size it is .*ViT-B-32"):
        fit_weights(model, state, Path("w.pt"))


def test_digest_is_the_file_s_sha256(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights" * 1000)
    assert digest_of(tmp_path / "w.pt") == hashlib.sha256(b"weights" * 1000).hexdigest()


def test_digest_of_a_cached_file_is_its_name_in_the_cache(hub_cache: HubCache) -> None:
    path = hub_cache.add("owner/name", "w.pt", b"weights")
    path.resolve().write_bytes(b"never read")
    assert digest_of(path) == hashlib.sha256(b"weights").hexdigest()
