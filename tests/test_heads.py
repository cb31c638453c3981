"""The file of a head: what goes in comes out, and nothing else goes in."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from clipcls.errors import HeadError
from clipcls.heads import Head, read_head, sketches

HEAD = Head(
    labels=("cat", "no-cat"),
    prompts=(("a photo of a cat", "a cat"), ()),
    weights=np.arange(8, dtype=np.float32).reshape(2, 4),
    biases=np.array([0.5, -0.5], dtype=np.float32),
    temperature=1.25,
    method="gda",
    model="mini",
    model_fingerprint="print",
    figures={"examples": {"cat": 3, "no-cat": 2}},
)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    read = read_head(written(tmp_path / "a.safetensors", HEAD.to_bytes()))
    assert (read.weights == HEAD.weights).all()
    assert (read.biases == HEAD.biases).all()
    for name in ("labels", "prompts", "temperature", "method", "model", "figures", "architecture"):
        assert getattr(read, name) == getattr(HEAD, name)
    assert read.digest == HEAD.digest


@pytest.mark.parametrize("dimensions", [4, 512])
def test_an_example_is_known_again_and_nothing_else(tmp_path: Path, dimensions: int) -> None:
    rng = np.random.default_rng(0)
    # All in one half of the space, as the embeddings of many models are.
    images = rng.normal(1.0, 1.0, (400, dimensions)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    head = replace(HEAD, examples=sketches(images[:200]))
    read = read_head(written(tmp_path / "a.safetensors", head.to_bytes()))
    assert (read.examples == head.examples).all()
    # What bfloat16 makes of an embedding is as far away.
    again = images + rng.normal(0, 0.01 / dimensions**0.5, images.shape).astype(np.float32)
    assert all(read.learned_from(image) for image in again[:200])
    cosines = images[200:] @ images[:200].T
    unlike = images[200:][cosines.max(axis=1) < 0.9]
    assert len(unlike) > 0
    assert not any(read.learned_from(image) for image in unlike)
    assert not HEAD.learned_from(images[0])


def test_a_head_without_examples_is_the_file_that_it_was() -> None:
    assert set(load(HEAD.to_bytes())) == {"weights", "biases"}


def test_the_digest_tells_heads_apart() -> None:
    others = [
        replace(HEAD, temperature=1.5),
        replace(HEAD, biases=HEAD.biases + 1),
        replace(HEAD, labels=("cat", "dog")),
        replace(HEAD, figures={}),
    ]
    assert len({head.digest for head in (HEAD, *others)}) == 5


def changed(tensors: dict[str, Any] | None = None, **header: Any) -> bytes:
    data = HEAD.to_bytes()
    size = int.from_bytes(data[:8], "little")
    content = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["clipcls_head"])
    return save(load(data) | (tensors or {}), {"clipcls_head": json.dumps(content | header)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no head, or damaged"),
        (b"{}" * 40, "is no head, or damaged"),
        (b"\xff" * 64, "is no head, or damaged"),
        (save({"weights": HEAD.weights}), "is no head, or damaged"),
        (save({}, {"clipcls_head": "[" * 100_000}), "is no head, or damaged"),
        (save({}, {"clipcls_head": "[]"}), "is no head, or damaged"),
        (changed(version=2), "is no head of version 1"),
        (changed(temperature=0), "its temperature is 0"),
        (changed(temperature=float("nan")), "its temperature is nan"),
        (changed(temperature=10**400), "is damaged"),
        (changed(temperature=None), "is damaged"),
        (changed(prompts={"cat": []}), "1 labels, weights (2, 4)"),
        (changed(prompts=["cat", "dog"]), "is damaged"),
        (changed(prompts={"cat": [], "error": []}), "'error'"),
        (changed(prompts={"cat": [], "a\nb": []}), "is damaged"),
        (changed(prompts={"cat": [1], "dog": []}), "a text or the figures are something else"),
        (changed(model={"name": "mini"}), "'fingerprint' is missing"),
        (changed(model={"name": 1, "fingerprint": "", "architecture": None}), "something else"),
        (changed(figures=[]), "something else"),
        (changed({"weights": HEAD.weights.astype(np.float64)}), "weights are float64"),
        (changed({"weights": np.full_like(HEAD.weights, np.inf)}), "no finite number"),
        (changed({"biases": HEAD.biases[:1]}), "biases (1,)"),
        (changed({"examples": np.zeros((2, 8), np.uint8)}), "its examples are uint8 (2, 8)"),
        (changed({"examples": np.zeros((2, 16), np.float32)}), "its examples are float32"),
        (changed({"weights": HEAD.weights.ravel()}), "weights (8,)"),
    ],
)
def test_anything_else_is_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(HeadError) as caught:
        read_head(written(tmp_path / "a.safetensors", data))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match="cannot be read: No such file"):
        read_head(tmp_path / "none")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, len(HEAD.to_bytes()) - 1))
def test_a_torn_file_is_refused(tmp_path: Path, cut: int) -> None:
    with pytest.raises(HeadError):
        read_head(written(tmp_path / "a.safetensors", HEAD.to_bytes()[:cut]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, len(HEAD.to_bytes()) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_gives_a_sound_head(
    tmp_path: Path, place: int, byte: int
) -> None:
    data = bytearray(HEAD.to_bytes())
    data[place] = byte
    with suppress(HeadError):
        head = read_head(written(tmp_path / "a.safetensors", bytes(data)))
        assert head.weights.shape == (len(head.labels), 4)
        assert np.isfinite(head.weights).all()
        assert head.temperature > 0
