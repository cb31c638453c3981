"""Weight files that would run code or fill the memory, whichever way they come in."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clipcls.errors import ModelError
from clipcls.models.catalog import openai_archives
from clipcls.models.devices import DeviceChoice
from clipcls.models.names import CONFIG_NAME, ModelSpec, resolve_model
from clipcls.models.openclip import load_encoder
from clipcls.models.tokenizer import load_tokenizer
from clipcls.options import Precision
from examples.make_checkpoint import random_model
from tests.checkpoints import CheckpointFolders, checkpoints
from tests.hub_cache import HubCache, hub_cache

__all__ = ["checkpoints", "hub_cache"]

CPU = DeviceChoice("cpu", Precision.FP32, batch_size=4, workers=2, reason="test")
HARM = "harm"
"""The file that evil weights write into the current folder."""


class Script(torch.nn.Module):
    """As TorchScript, it writes a file when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.w, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        torch.save(state[0], "harm")
        self.w = state[0]  # type: ignore[assignment]
        self.training = state[1]


class Evil:
    """Unpickled, it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(HARM),))


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(Script()), path)


def script_without_folder_of_code(path: Path) -> None:
    """An archive that only torch's own test, for constants.pkl, takes for TorchScript."""
    script(path.with_name("whole"))
    with zipfile.ZipFile(path.with_name("whole")) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name.replace("/code/", "/kode/"), old.read(name))


def bomb(path: Path) -> None:
    torch.save({"visual.proj": torch.zeros(10)}, path.with_name("small"))
    with zipfile.ZipFile(path.with_name("small")) as old:
        kept = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in kept.items():
            new.writestr(name, content)
        new.writestr("small/data/1", bytes(20_000_000))


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil()))


def listed_again_and_again(path: Path) -> None:
    """A bomb whose entries are stored as they are, all of them the same bytes."""
    torch.save({"visual.proj": torch.zeros(200_000)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        [largest] = [m for m in archive.infolist() if m.file_size > 500_000]
        archive.filelist += [largest] * 50
        archive._didModify = True  # type: ignore[attr-defined]


WRITERS: dict[str, Callable[[Path], None]] = {
    "TorchScript": script,
    "TorchScript without its folder": script_without_folder_of_code,
    "pickle": lambda path: torch.save({"w": Evil()}, path),
    "old pickle": lambda path: torch.save(
        {"w": Evil()}, path, _use_new_zipfile_serialization=False
    ),
    "bare pickle": bare_pickle,
    "bomb": bomb,
    "bomb of one entry": listed_again_and_again,
}


def as_file(path: Path, folder: Path, cache: HubCache) -> ModelSpec:
    return resolve_model(str(shutil.copy(path, path.with_suffix(".pt"))), "ViT-B-32:openai")


def as_folder(path: Path, folder: Path, cache: HubCache) -> ModelSpec:
    own = path.parent / "model"
    own.mkdir()
    shutil.copy(folder / CONFIG_NAME, own)
    shutil.copy(path, own / "open_clip_pytorch_model.bin")
    return resolve_model(str(own))


def as_repository(path: Path, folder: Path, cache: HubCache) -> ModelSpec:
    cache.add("owner/evil", CONFIG_NAME, folder / CONFIG_NAME)
    cache.add("owner/evil", "open_clip_pytorch_model.bin", path)
    return resolve_model("hf-hub:owner/evil")


def as_published(path: Path, folder: Path, cache: HubCache) -> ModelSpec:
    repository = "timm/vit_base_patch32_clip_224.openai"
    cache.add(repository, "open_clip_pytorch_model.bin", path)
    return resolve_model("ViT-B-32:openai")


def with_a_forged_digest(path: Path, folder: Path, cache: HubCache) -> ModelSpec:
    """The hub's cache names a file by its digest, but anybody can name a file."""
    spec = as_published(path, folder, cache)
    found = spec.checkpoint()
    forged = found.resolve().with_name(next(iter(openai_archives())))
    found.resolve().rename(forged)
    found.unlink()
    found.symlink_to(forged)
    return spec


ROUTES = [as_file, as_folder, as_repository, as_published, with_a_forged_digest]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("route", ROUTES, ids=[route.__name__ for route in ROUTES])
@pytest.mark.filterwarnings("ignore")
def test_a_weight_file_never_runs_code(
    checkpoints: CheckpointFolders,
    hub_cache: HubCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    route: Callable[[Path, Path, HubCache], ModelSpec],
) -> None:
    folder = checkpoints.folder("tiny")
    # The published architecture takes seconds to build, and what is at stake is how it is filled.
    monkeypatch.setattr("clipcls.models.openclip._build", lambda *given: random_model(folder))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil"
    WRITERS[writer](path)
    with pytest.raises(ModelError) as caught:
        load_encoder(route(path, folder, hub_cache), CPU)
    assert not os.path.exists(HARM)
    assert "\n" not in str(caught.value)
    word = "unpack" if "bomb" in writer else "code"
    assert word in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_the_evil_archive_is_evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script(tmp_path / "evil.pt")
    assert not os.path.exists(HARM)
    torch.jit.load("evil.pt")  # type: ignore[no-untyped-call]
    assert os.path.exists(HARM)


def test_openai_s_digests_are_those_of_its_nine_models() -> None:
    assert sorted(openai_archives().values()) == [
        "RN101",
        "RN50",
        "RN50x16",
        "RN50x4",
        "RN50x64",
        "ViT-B-16",
        "ViT-B-32",
        "ViT-L-14",
        "ViT-L-14-336",
    ]
    assert (
        openai_archives()["40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"]
        == "ViT-B-32"
    )


EVIL_MODULE = """
from pathlib import Path
from transformers import PretrainedConfig
Path("harm").touch()
class EvilConfig(PretrainedConfig):
    model_type = "evil"
"""


@pytest.mark.filterwarnings("ignore")
def test_a_text_tower_with_code_of_its_own_is_refused_without_a_question(
    checkpoints: CheckpointFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    tower = tmp_path / "tower"
    tower.mkdir()
    (tower / "code.py").write_text(EVIL_MODULE)
    auto = {"auto_map": {"AutoConfig": "code.EvilConfig"}, "model_type": "evil"}
    (tower / "config.json").write_text(json.dumps(auto))
    folder = Path(shutil.copytree(checkpoints.folder("tiny"), tmp_path / "copy"))
    config = json.loads((folder / CONFIG_NAME).read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": str(tower)}
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        load_encoder(resolve_model(str(folder)), CPU)
    assert not os.path.exists(HARM)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_a_tokenizer_with_code_of_its_own_is_refused_whatever_the_configuration_says(
    checkpoints: CheckpointFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    folder = Path(shutil.copytree(checkpoints.folder("tiny"), tmp_path / "copy"))
    evil = EVIL_MODULE.replace("PretrainedConfig", "PreTrainedTokenizer").replace("Config", "Tok")
    (folder / "code.py").write_text(evil)
    auto = {"auto_map": {"AutoTokenizer": ["code.EvilTok", None]}, "tokenizer_class": "EvilTok"}
    (folder / "tokenizer_config.json").write_text(json.dumps(auto))
    config = json.loads((folder / CONFIG_NAME).read_text())
    config["model_cfg"]["text_cfg"] |= {
        "hf_tokenizer_name": "owner/evil",
        "tokenizer_kwargs": {"trust_remote_code": True},
    }
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    with pytest.raises(ModelError, match="tokenizer is unusable") as caught:
        load_tokenizer(resolve_model(str(folder)))
    assert not os.path.exists(HARM)
    assert "\n" not in str(caught.value)
