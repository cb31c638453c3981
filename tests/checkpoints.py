"""Seeded random checkpoints in open_clip's `local-dir` layout, made once per test session."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from examples.make_checkpoint import TINY, known_config, write_checkpoint

SIGLIP_STYLE: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 192,
        "init_logit_bias": -10.0,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 64,
            "vocab_size": 49408,
            "width": 192,
            "heads": 3,
            "layers": 2,
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}
"""As open_clip's SigLIP: bias, squashed pictures, pooling by attention; CLIP's tokenizer."""


def named_config(name: str) -> dict[str, Any]:
    """Return the configuration of `tiny`, `siglip-style` or one of open_clip's architectures."""
    own = {"tiny": TINY, "siglip-style": SIGLIP_STYLE}
    return copy.deepcopy(own[name]) if name in own else known_config(name)


class CheckpointFolders:
    """Makes each checkpoint at most once per session."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, name: str) -> Path:
        """Return the folder of a random checkpoint, see `named_config`."""
        folder = self._root / name
        if not folder.exists():
            write_checkpoint(folder, named_config(name))
        return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFolders:
    return CheckpointFolders(tmp_path_factory.mktemp("checkpoints"))
