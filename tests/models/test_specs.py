"""Fingerprints and configurations before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import open_clip
import pytest
from platformdirs import user_cache_path

from clipcls.errors import ModelDownloadError
from clipcls.models import specs
from clipcls.models.catalog import architectures, model_config
from clipcls.models.devices import DeviceChoice
from clipcls.models.names import CONFIG_NAME, MINI_FOLDER, ModelSpec, resolve_model
from clipcls.models.openclip import load_encoder
from clipcls.models.weights import digest_of
from clipcls.options import DecodeOptions, Decoding, Fit, Precision
from tests.checkpoints import CheckpointFolders, checkpoints
from tests.hub_cache import HubCache, hub_cache

__all__ = ["checkpoints", "hub_cache"]

WEIGHTS = "open_clip_model.safetensors"


def print_of(spec: ModelSpec) -> str:
    return spec.fingerprint(Precision.FP32, DecodeOptions())


def test_every_architecture_is_read_as_open_clip_reads_it() -> None:
    for name in architectures():
        assert model_config(name) == open_clip.get_model_config(name)


def test_published_weights_are_prepared_for_as_open_clip_says() -> None:
    for name, found in architectures().items():
        for tag in found.tags:
            known = open_clip.get_pretrained_cfg(name, tag)
            config = resolve_model(f"{name}:{tag}").config()
            assert {key: known[key] for key in config.preprocess} == {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in config.preprocess.items()
            }
            assert bool(config.model.get("quick_gelu")) is bool(
                known.get("quick_gelu") or model_config(name).get("quick_gelu")
            )


WAYS = [DecodeOptions(fit=fit, decoding=decoding) for fit in Fit for decoding in Decoding]


@pytest.mark.parametrize("decode", WAYS)
def test_the_loaded_encoder_has_the_fingerprint_that_was_foretold(
    checkpoints: CheckpointFolders, decode: DecodeOptions
) -> None:
    spec = resolve_model(str(checkpoints.folder("tiny")))
    device = DeviceChoice("cpu", Precision.BF16, batch_size=4, workers=2, reason="test")
    foretold = spec.fingerprint(Precision.BF16, decode)
    assert load_encoder(spec, device, decode).fingerprint == foretold
    others = [spec.fingerprint(p, way) for p in (Precision.FP32, Precision.BF16) for way in WAYS]
    assert others.count(foretold) == 1


def test_a_fingerprint_needs_neither_torch_nor_open_clip(
    checkpoints: CheckpointFolders, hub_cache: HubCache, tmp_path: Path
) -> None:
    hub_cache.add("timm/vit_base_patch32_clip_224.openai", WEIGHTS, b"any weights")
    code = (
        "import sys; from clipcls.models.names import resolve_model;"
        "from clipcls.options import DecodeOptions, Precision\n"
        "for word in sys.argv[1:]:"
        " assert len(resolve_model(word).fingerprint(Precision.FP32, DecodeOptions())) == 64\n"
        "print(*{'torch', 'open_clip', 'transformers', 'numpy'} & set(sys.modules))"
    )
    words = ["mini", str(checkpoints.folder("tiny")), "ViT-B-32:openai"]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_a_model_that_is_not_here_has_no_fingerprint(hub_cache: HubCache) -> None:
    with pytest.raises(ModelDownloadError, match="not on this machine"):
        print_of(resolve_model("fast"))


def test_the_version_of_open_clip_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = print_of(resolve_model("mini"))
    monkeypatch.setattr(specs, "version", lambda name: "99.0")
    assert print_of(resolve_model("mini")) != before


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "spiece.model", "config.json"])
def test_the_files_of_a_tokenizer_are_part_of_it(
    checkpoints: CheckpointFolders, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(checkpoints.folder("tiny"), tmp_path / "copy"))
    config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text())
    (folder / name).write_text("some")
    plain = print_of(resolve_model(str(folder)))
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "owner/elsewhere"
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    one = print_of(resolve_model(str(folder)))
    (folder / name).write_text("other")
    assert len({plain, one, print_of(resolve_model(str(folder)))}) == 3


def test_a_hub_tokenizer_is_known_by_its_cached_files(hub_cache: HubCache) -> None:
    hub_cache.add("timm/ViT-B-16-SigLIP", WEIGHTS, b"weights")
    spec = resolve_model("ViT-B-16-SigLIP:webli")
    source = str(spec.config().tokenizer)
    with pytest.raises(ModelDownloadError, match="ViT-B-16-SigLIP:webli is not on this machine"):
        print_of(spec)
    hub_cache.add(source, "tokenizer.json", b"words")
    one = print_of(spec)
    hub_cache.add(source, "special_tokens_map.json", b"more")
    assert print_of(spec) != one


# --- digests are remembered ----------------------------------------------------------------------


def old_file(path: Path, content: bytes) -> Path:
    """A file that was not written this very moment."""
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    return path


def kept() -> list[Path]:
    """The notes in the user's cache folder."""
    return [path for path in user_cache_path("clipcls").rglob("*") if path.is_file()]


def test_a_digest_is_computed_once(tmp_path: Path) -> None:
    path = old_file(tmp_path / "w.pt", b"weights")
    true = hashlib.sha256(b"weights").hexdigest()
    assert digest_of(path) == true
    [note] = kept()
    note.write_text("0" * 64)
    assert digest_of(path) == "0" * 64  # so it was read from there
    os.utime(path, (2e9, 1e9))
    assert digest_of(path) == "0" * 64
    os.utime(path, (1e9, 1e9 + 1))
    assert digest_of(path) == true


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0" * 63, b"x" * 64, None])
def test_a_damaged_note_is_ignored_and_mended(tmp_path: Path, damage: bytes | None) -> None:
    path = old_file(tmp_path / "w.pt", b"weights")
    true = digest_of(path)
    [note] = kept()
    note.unlink()
    note.mkdir() if damage is None else note.write_bytes(damage)
    assert digest_of(path) == true
    assert damage is None or note.read_text() == true


def test_a_cache_that_cannot_be_written_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = old_file(tmp_path / "w.pt", b"weights")
    assert digest_of(path) == hashlib.sha256(b"weights").hexdigest()


def test_a_file_of_this_very_moment_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    digest_of(tmp_path / "w.pt")
    assert kept() == []


def test_a_fingerprint_is_known_at_once_when_the_digest_is() -> None:
    spec = resolve_model("mini")
    print_of(spec)
    began = time.process_time()
    print_of(spec)
    assert time.process_time() - began < 0.2
    assert MINI_FOLDER.is_dir()
