"""Weights on this machine, in the hub's cache, and out of reach."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from clipcls.errors import ModelDownloadError, ModelError
from clipcls.models import files
from clipcls.models.auto import settle
from clipcls.models.files import CONFIG_NAME, checkpoint_in, read_config
from clipcls.models.names import ModelSpec, describe, resolve_model
from tests.hub_cache import HubCache, hub_cache

__all__ = ["hub_cache"]

FAST = resolve_model("fast")
FAST_REPOSITORY = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, hub_cache: HubCache) -> None:
    """A hub that answers, with nothing in the cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    let_answer(monkeypatch, lambda: SimpleNamespace(commit_hash="0" * 40, size=None))


def let_answer(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], object]) -> None:
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: answer())


def let_download(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, str], str]) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)


def failing(error: Exception) -> Callable[[str, str], str]:
    def download(repository: str, name: str) -> str:
        raise error

    return download


def http_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    # The clients behind the hub's library differ between its versions; only the status is read.
    error = kind.__new__(kind)
    error.args = ("refused",)
    error.response = SimpleNamespace(status_code=status)  # type: ignore[assignment]
    return error


def test_cached_weights_are_used_without_network(hub_cache: HubCache) -> None:
    assert FAST.here() is None
    path = hub_cache.add(FAST_REPOSITORY, "open_clip_pytorch_model.bin", b"weights")
    assert FAST.here() == path
    assert FAST.checkpoint().read_bytes() == b"weights"


def test_safetensors_come_before_pickles(hub_cache: HubCache) -> None:
    hub_cache.add(FAST_REPOSITORY, "open_clip_pytorch_model.bin", b"pickle")
    path = hub_cache.add(FAST_REPOSITORY, "open_clip_model.safetensors", b"safe")
    assert FAST.here() == path


def test_weights_under_a_name_of_their_own(hub_cache: HubCache) -> None:
    spec = resolve_model("ViTamin-S:datacomp1b")
    path = hub_cache.add("jienengchen/ViTamin-S", "pytorch_model.bin", b"weights")
    assert spec.here() == path


def test_offline_says_what_to_do(hub_cache: HubCache) -> None:
    with pytest.raises(ModelDownloadError, match=r"HF_HUB_OFFLINE.*clipcls models pull ViT-B-32"):
        FAST.checkpoint()


@pytest.mark.usefixtures("online")
def test_hub_out_of_reach_is_noticed_before_any_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> object:
        raise errors.HTTPError("no route")  # type: ignore[attr-defined]

    let_answer(monkeypatch, refuse)
    let_download(monkeypatch, failing(AssertionError("must not be tried")))
    with pytest.raises(ModelDownloadError, match=r"cannot be reached.*--model FOLDER"):
        FAST.checkpoint()


@pytest.mark.usefixtures("online")
def test_download_goes_on_to_the_next_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if name.endswith(".safetensors"):
            raise errors.EntryNotFoundError("404")
        return "/there"

    let_download(monkeypatch, download)
    assert FAST.checkpoint() == Path("/there")
    names = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    assert asked == [(FAST_REPOSITORY, name) for name in names]


@pytest.mark.usefixtures("online")
def test_a_hub_model_comes_with_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return f"/there/{name}"

    let_download(monkeypatch, download)
    assert resolve_model("hf-hub:owner/name").checkpoint().name == "open_clip_model.safetensors"
    assert asked == [("owner/name", CONFIG_NAME), ("owner/name", "open_clip_model.safetensors")]


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the hub's client would draw bars, at each download."""
    shown: list[bool] = []

    def download(repository: str, name: str) -> str:
        shown.append(not are_progress_bars_disabled())
        if name == CONFIG_NAME:
            return "/there"
        raise errors.EntryNotFoundError("404")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    let_download(monkeypatch, download)
    return shown


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("progress", [True, False])
def test_bars_are_drawn_only_when_asked_for(bars: list[bool], progress: bool) -> None:
    with pytest.raises(ModelDownloadError):
        resolve_model("hf-hub:owner/name").checkpoint(print if progress else None)
    assert bars == [progress] * 3
    assert not are_progress_bars_disabled()


@pytest.mark.usefixtures("online")
def test_bars_that_the_program_switched_off_stay_off(bars: list[bool]) -> None:
    disable_progress_bars()
    try:
        with pytest.raises(ModelDownloadError):
            FAST.checkpoint()
        assert are_progress_bars_disabled()
    finally:
        enable_progress_bars()


@pytest.mark.usefixtures("online")
def test_bars_that_the_user_s_variable_demands_are_drawn(
    bars: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", False)
    with pytest.raises(ModelDownloadError):
        FAST.checkpoint()
    assert all(bars)


DISK_FULL = OSError(errno.ENOSPC, "No space left on device")
TROUBLES: list[tuple[Exception, str]] = [
    (errors.LocalEntryNotFoundError("connection lost"), "the download failed"),
    (http_error(errors.HfHubHTTPError, 503), "the hub answers 503; try again later"),
    (errors.EntryNotFoundError("404"), "has no open_clip_model.safetensors and no"),
    (http_error(errors.GatedRepoError, 403), "accept"),
    (http_error(errors.RepositoryNotFoundError, 404), "no laion/.*private"),
    (http_error(errors.HfHubHTTPError, 401), "HF_TOKEN"),
    (DISK_FULL, "disk is full"),
    (PermissionError(errno.EACCES, "Permission denied", "/cache"), "/cache cannot be written"),
    (ConnectionError("reset by peer\nsecond line"), r"reset by peer\).*run it again"),
]


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(("error", "message"), TROUBLES)
def test_download_trouble_becomes_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    let_download(monkeypatch, failing(error))
    with pytest.raises(ModelDownloadError, match=message) as caught:
        FAST.checkpoint()
    assert "\n" not in str(caught.value)


LOCAL_TROUBLES = [
    (DISK_FULL, "the disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
    (PermissionError(errno.EACCES, "Permission denied", "/home/token"), "/home/token cannot be"),
    (OSError(errno.EROFS, "Read-only file system", "/cache"), "/cache cannot be written"),
    (http_error(errors.HfHubHTTPError, 404), "the hub answers 404"),
    (http_error(errors.HfHubHTTPError, 403), r"the hub refuses laion/.* \(403\)"),
    (OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "certificate is not trusted here"),
]


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("asking", [True, False], ids=["asking", "downloading"])
@pytest.mark.parametrize(("error", "message"), LOCAL_TROUBLES)
def test_a_connected_machine_is_advised_only_where_the_connection_failed(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str, asking: bool
) -> None:
    def fail() -> object:
        raise error

    let_answer(monkeypatch, fail) if asking else let_download(monkeypatch, failing(error))
    with pytest.raises(ModelDownloadError, match=message) as caught:
        FAST.checkpoint()
    assert "where there is a network" not in str(caught.value)
    note = " ".join(settle(resolve_model("auto")).notes)
    assert caught.value.reason in note
    assert "where there is a network" not in note


@pytest.mark.usefixtures("online")
def test_one_limit_holds_for_all_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def answer(url: str, timeout: float) -> object:
        waited.append(timeout)
        if url.endswith(".safetensors"):
            time.sleep(0.6)
            raise http_error(errors.RemoteEntryNotFoundError, 404)
        time.sleep(30)
        return None

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", answer)
    monkeypatch.setattr(files, "REACH_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(ModelDownloadError, match="cannot be reached"):
        FAST.checkpoint()
    assert time.monotonic() - began < 3
    assert waited[1] < 0.5
    assert files.REACH_SECONDS <= 3


@pytest.mark.parametrize("word", ["hf-hub:a..b/c", "hf-hub:-a/b", "hf-hub:a/b--c"])
def test_a_name_that_the_hub_does_not_allow_is_one_line(hub_cache: HubCache, word: str) -> None:
    with pytest.raises(ModelError, match="no name of a hub repository"):
        resolve_model(word).checkpoint()


def folder_with(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_the_file_that_open_clip_prefers(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "open_clip_pytorch_model.bin", "a.pth", "model.safetensors")
    assert checkpoint_in(folder).name == "open_clip_pytorch_model.bin"


def test_a_single_file_may_have_any_name(tmp_path: Path) -> None:
    assert checkpoint_in(folder_with(tmp_path, "epoch_32.pt", "notes.txt")).name == "epoch_32.pt"


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weight file \(open_clip_model\.safetensors\)"):
        checkpoint_in(folder_with(tmp_path, CONFIG_NAME))


def test_a_folder_with_several_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"2 weight files \(a\.pt, b\.pt\)"):
        checkpoint_in(folder_with(tmp_path, "b.pt", "a.pt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "no model_cfg"),
        ('{"model_cfg": {}}', "no model_cfg with an embed_dim"),
        ('{"model_cfg": {"embed_dim": 8, "text_cfg": {}}}', "lacks vision_cfg"),
    ],
)
def test_unusable_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / CONFIG_NAME
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        read_config(path)


def config_with(preprocess: object) -> dict[str, Any]:
    """A complete configuration, but for its `preprocess_cfg`; None leaves it out."""
    config: dict[str, Any] = {
        "model_cfg": {
            "embed_dim": 8,
            "quick_gelu": True,
            "vision_cfg": {"image_size": [32, 48]},
            "text_cfg": {"context_length": 20},
        }
    }
    return config if preprocess is None else {**config, "preprocess_cfg": preprocess}


HALF = [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("preprocess", "missing"),
    [
        (None, "mean and std"),
        (1, "mean and std"),
        ({}, "mean and std"),
        ({"mean": HALF}, "std"),
        ({"std": HALF}, "mean"),
        ({"mean": None, "std": HALF}, "mean"),
        ({"mean": 0, "std": HALF}, "mean"),
        ({"mean": HALF, "std": []}, "std"),
        ({"mean": HALF, "std": [0.5, 0.5]}, "std"),
        ({"mean": HALF, "std": "0.5"}, "std"),
        ({"mean": [0.5, None, 0.5], "std": HALF}, "mean"),
    ],
)
def test_openai_s_mean_and_std_are_never_assumed(
    tmp_path: Path, preprocess: object, missing: str
) -> None:
    path = tmp_path / CONFIG_NAME
    path.write_text(json.dumps(config_with(preprocess)))
    with pytest.raises(ModelError, match=f"lacks {missing} .*preprocess_cfg") as caught:
        read_config(path)
    for key in missing.split(" and "):
        assert f'"{key}": [R, G, B]' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_old_configuration_leaves_the_resizing_to_open_clip(tmp_path: Path) -> None:
    path = tmp_path / CONFIG_NAME
    path.write_text(json.dumps(config_with({"mean": [0, 0, 0], "std": [1, 1, 1]})))
    assert read_config(path)["preprocess_cfg"] == {"mean": [0, 0, 0], "std": [1, 1, 1]}


def facts(spec: ModelSpec) -> dict[str, str]:
    return dict(describe(spec))


def test_description_of_published_weights() -> None:
    openai, laion = facts(resolve_model("ViT-B/32")), facts(resolve_model("ViT-B-32:laion2b_e16"))
    assert openai["activation"] == "QuickGELU"
    assert openai["image_size"] == "224x224"
    assert laion["activation"] != "QuickGELU"
    assert "clipcls[siglip]" in facts(resolve_model("ViT-B-16-SigLIP"))["tokenizer"]


def test_description_of_a_folder(tmp_path: Path) -> None:
    config = config_with({"mean": HALF, "std": HALF})
    (tmp_path / CONFIG_NAME).write_text(json.dumps(config))
    known = facts(resolve_model(str(tmp_path)))
    assert known["image_size"] == "48x32"
    assert known["context_length"] == "20"
    assert known["activation"] == "QuickGELU"
    assert known["preprocessing"] == "partly open_clip's defaults"


def test_description_of_a_hub_model_that_is_not_here(hub_cache: HubCache) -> None:
    assert "configuration" in facts(resolve_model("hf-hub:owner/name"))


def test_cache_of_the_tests_names_files_by_digest(hub_cache: HubCache) -> None:
    path = hub_cache.add("owner/name", "file.bin", b"content")
    assert path.resolve().name == hashlib.sha256(b"content").hexdigest()
