"""What a model's name can stand for; nothing is loaded here, and torch is never imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from clipcls.errors import ModelDownloadError, ModelError
from clipcls.models.catalog import Tag, architectures, model_config
from clipcls.models.files import (
    CONFIG_NAME,
    HUB_NAMES,
    Tell,
    cached,
    checkpoint_in,
    fetch,
    read_config,
    tokenizer_files,
)
from clipcls.models.weights import digest_of
from clipcls.options import DecodeOptions, Precision

HUB_PREFIX = "hf-hub:"
FOLDER_PREFIX = "local-dir:"


@dataclass(frozen=True)
class ModelConfig:
    """A model as open_clip describes it.

    Attributes:
        source: The name under which open_clip finds the configuration.
        model: open_clip's model configuration, the activation settled.
        preprocess: open_clip's preprocessing configuration, without the size.
        tokenizer: Of a transformers tokenizer its folder or hub repository; None for CLIP's own.
        exact: Whether weights must be the model's own, tensor by tensor. Published ones are
            open_clip's business, old layouts and all.
    """

    source: str
    model: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    tokenizer: str | Path | None
    exact: bool = True


@runtime_checkable
class ModelSpec(Protocol):
    """A model that the user's word stands for.

    Attributes:
        name: The name to print: `ViT-B-32:openai`, `mini`, the folder or file as given.
        notes: What the user should be told, a sentence each.
    """

    name: str
    notes: tuple[str, ...]

    def config(self, *, download: bool = True) -> ModelConfig:
        """Return how open_clip describes the model; of a hub model downloaded if need be."""
        ...

    def here(self) -> Path | None:
        """Return the weight file if it is on this machine; never touches the network."""
        ...

    def checkpoint(self, tell: Tell | None = None) -> Path:
        """Return the weight file, downloaded if need be; `tell` hears of it and shows progress."""
        ...

    def fingerprint(self, precision: Precision, decode: DecodeOptions) -> str:
        """Return the hex digest of whatever changes an embedding.

        Raises:
            ModelError: The weights, configuration or tokenizer are unusable or cannot be had.
        """
        weights, config = digest_of(self.checkpoint()), self.config()
        tokenizer = config.tokenizer and {
            path.name: digest_of(path) for path in tokenizer_files(self.name, config.tokenizer)
        }
        identity = {
            "weights": weights,
            "model": dict(config.model),
            "preprocess": dict(config.preprocess),
            "tokenizer": tokenizer,
            "precision": precision.value,
            "fit": decode.fit.value,
            "decoding": decode.decoding.value,
            "open_clip": version("open_clip_torch"),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def noted(self, *notes: str) -> ModelSpec:
        """Return the same model with other notes."""
        ...


@dataclass(frozen=True)
class _Named(ModelSpec):
    name: str
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def noted(self, *notes: str) -> ModelSpec:
        """Return the same model with other notes."""
        return replace(self, notes=notes)


@dataclass(frozen=True)
class Auto(_Named):
    """The choice of a user who makes none; `clipcls.models.auto.settle` turns it into a model."""

    def config(self, *, download: bool = True) -> NoReturn:
        """Refuse: it is not decided yet."""
        raise ModelError("auto is no model yet: clipcls.models.auto.settle decides which one it is")

    def here(self) -> NoReturn:
        """Refuse: it is not decided yet."""
        self.config()

    def checkpoint(self, tell: Tell | None = None) -> NoReturn:
        """Refuse: it is not decided yet."""
        self.config()


@dataclass(frozen=True)
class Published(_Named):
    """Weights of open_clip's list, `ARCH:TAG`."""

    @property
    def _tag(self) -> Tag:
        architecture, _, tag = self.name.partition(":")
        return architectures()[architecture].tags[tag]

    def _files(self) -> tuple[str, tuple[str, ...]]:
        """Return the hub repository and the weight files to look for, the preferred first."""
        repository, _, filename = self._tag.hub.rpartition("/")
        stem, _, suffix = filename.rpartition(".")
        if suffix in ("bin", "pth"):
            return repository, (f"{stem}.safetensors", filename)
        return repository, (filename,) if filename else HUB_NAMES

    def config(self, *, download: bool = True) -> ModelConfig:
        """Return how open_clip describes the model."""
        architecture = self.name.partition(":")[0]
        return _of_architecture(architecture, self._tag, self._tag.quick_gelu, exact=False)

    def here(self) -> Path | None:
        """Return the weight file if it is in the hub's cache."""
        repository, names = self._files()
        return cached(repository, *names)

    def checkpoint(self, tell: Tell | None = None) -> Path:
        """Return the weight file, downloaded if it is not in the hub's cache."""
        repository, names = self._files()
        return fetch(self.name, repository, names, tell)


@dataclass(frozen=True)
class HubRepo(_Named):
    """A repository of the hub in open_clip's layout, `hf-hub:OWNER/NAME`."""

    @property
    def _repository(self) -> str:
        return self.name.removeprefix(HUB_PREFIX)

    def config(self, *, download: bool = True) -> ModelConfig:
        """Return the configuration that the repository holds."""
        path = cached(self._repository, CONFIG_NAME)
        if path is None and not download:
            raise ModelDownloadError(f"the configuration of {self.name} is not on this machine")
        return _of_file(path or fetch(self.name, self._repository, (CONFIG_NAME,)))

    def here(self) -> Path | None:
        """Return the weight file if it is in the hub's cache."""
        return cached(self._repository, *HUB_NAMES)

    def checkpoint(self, tell: Tell | None = None) -> Path:
        """Return the weight file; the configuration comes along, for later without a network."""
        fetch(self.name, self._repository, (CONFIG_NAME,), tell)
        return fetch(self.name, self._repository, HUB_NAMES, tell)


@dataclass(frozen=True)
class Folder(_Named):
    """A folder in open_clip's layout."""

    path: Path

    def config(self, *, download: bool = True) -> ModelConfig:
        """Return the configuration that the folder holds; its tokenizer lies there too."""
        config = _of_file(self.path / CONFIG_NAME)
        return replace(config, tokenizer=self.path) if config.tokenizer else config

    def here(self) -> Path | None:
        """Return the folder's weight file."""
        return self.checkpoint()

    def checkpoint(self, tell: Tell | None = None) -> Path:
        """Return the folder's weight file."""
        return checkpoint_in(self.path)


@dataclass(frozen=True)
class WeightFile(_Named):
    """Weights alone.

    Attributes:
        path: The file.
        architecture: open_clip's architecture.
        tag: The published weights whose preprocessing and activation it has. None where all
            weights of the architecture are prepared for alike.
    """

    path: Path
    architecture: str
    tag: str | None = None

    def config(self, *, download: bool = True) -> ModelConfig:
        """Return how open_clip describes the architecture, prepared for as its weights are."""
        tags = architectures()[self.architecture].tags
        tag = tags[self.tag or next(iter(tags))]
        return _of_architecture(self.architecture, tag, bool(self.tag) and tag.quick_gelu)

    def here(self) -> Path | None:
        """Return the file."""
        return self.path

    def checkpoint(self, tell: Tell | None = None) -> Path:
        """Return the file."""
        return self.path


def _of_architecture(
    architecture: str, tag: Tag, quick_gelu: bool, *, exact: bool = True
) -> ModelConfig:
    model = model_config(architecture)
    if quick_gelu:
        model["quick_gelu"] = True
    tokenizer = model["text_cfg"].get("hf_tokenizer_name") or None
    return ModelConfig(architecture, model, tag.preprocess, tokenizer, exact)


def _of_file(path: Path) -> ModelConfig:
    config = read_config(path)
    # The model's own size counts, see `load_encoder`.
    preprocess = {key: value for key, value in config["preprocess_cfg"].items() if key != "size"}
    tokenizer = config["model_cfg"]["text_cfg"].get("hf_tokenizer_name") or None
    return ModelConfig(f"{FOLDER_PREFIX}{path.parent}", config["model_cfg"], preprocess, tokenizer)
