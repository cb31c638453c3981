"""A hub cache of the tests' own, laid out as `huggingface_hub` lays it out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

COMMIT = "0" * 40


class HubCache:
    """Puts files where the hub's library looks for what it downloaded."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, repository: str, name: str, content: bytes | Path) -> Path:
        """Add a file of the hub's `repository` and return the path that the library gives it."""
        folder = self._root / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / COMMIT
        for needed in (snapshot, folder / "blobs", folder / "refs"):
            needed.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(COMMIT)
        data = content if isinstance(content, bytes) else content.read_bytes()
        blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).symlink_to(blob)
        return snapshot / name


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    """An empty cache, and no network."""
    from huggingface_hub import constants

    root = tmp_path / "hub"
    root.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return HubCache(root)
