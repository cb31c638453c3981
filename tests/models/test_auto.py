"""The model of a user who names none: `fast` where it can be had, else `mini`, with a warning."""

from __future__ import annotations

import errno
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.utils import are_progress_bars_disabled  # type: ignore[attr-defined]

from clipcls.errors import ModelDownloadError, ModelError, ResumeError, WeightsMismatchError
from clipcls.models import files as hub
from clipcls.models.auto import meaning, settle, settle_here
from clipcls.models.catalog import PUBLISHED
from clipcls.models.devices import DeviceChoice
from clipcls.models.files import checkpoint_in
from clipcls.models.names import (
    MINI_FOLDER,
    Folder,
    ModelSpec,
    default_model,
    preset,
    resolve_model,
)
from clipcls.models.openclip import load_encoder
from clipcls.models.weights import digest_of
from clipcls.options import Precision
from tests.checkpoints import CheckpointFolders, checkpoints
from tests.hub_cache import HubCache, hub_cache

__all__ = ["checkpoints", "hub_cache"]

AUTO, FAST = resolve_model("auto"), resolve_model("fast")
FAST_REPOSITORY = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
WEIGHTS = "open_clip_model.safetensors"
CPU = DeviceChoice("cpu", Precision.FP32, batch_size=4, workers=2, reason="test")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, hub_cache: HubCache) -> None:
    """A hub that answers, with nothing in the cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    found = SimpleNamespace(commit_hash="0" * 40, size=605_000_000)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: found)


def failing_download(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(repository: str, name: str) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)


def only_note(spec: ModelSpec) -> str:
    [note] = spec.notes
    assert "\n" not in note
    return note


def test_a_user_who_names_none_gets_auto() -> None:
    assert resolve_model(default_model()) == AUTO
    assert (AUTO.name, AUTO.notes) == ("auto", ())


@pytest.mark.parametrize("word", ["mini", "fast", "ViT-B-32:openai", "hf-hub:owner/name"])
def test_a_named_model_is_never_exchanged(hub_cache: HubCache, word: str) -> None:
    spec = resolve_model(word)
    assert settle(spec) is spec
    assert settle(spec, made_by="another") is spec
    assert settle_here(spec) is spec
    assert meaning(spec) is spec


def test_weights_that_are_here_are_used_without_network(
    hub_cache: HubCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_cache.add(FAST_REPOSITORY, WEIGHTS, b"weights")
    failing_download(monkeypatch, AssertionError("must not be tried"))
    assert settle(AUTO) == FAST
    assert settle_here(AUTO) == FAST


def test_without_network_it_is_mini_and_the_note_says_all(hub_cache: HubCache) -> None:
    spec = settle(AUTO)
    assert spec.noted() == Folder("mini", MINI_FOLDER)
    note = only_note(spec)
    assert note.startswith("mini, ")
    assert "because fast is not on this machine and HF_HUB_OFFLINE is set;" in note
    assert "mini gets 54.8 % of CIFAR-10 right, fast 96.5 %" in note
    assert "`clipcls models pull fast` gets it where there is a network" in note
    assert note.endswith("naming mini as the model silences this")


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("loud", [True, False])
def test_online_fast_is_downloaded(
    hub_cache: HubCache, monkeypatch: pytest.MonkeyPatch, loud: bool
) -> None:
    told: list[str] = []
    shown = []

    def download(repository: str, name: str) -> str:
        shown.append(not are_progress_bars_disabled())
        return str(hub_cache.add(repository, name, b"weights"))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert settle(AUTO, tell=told.append if loud else None) == FAST
    assert shown == [loud]
    assert [text.partition(" to ")[0] for text in told] == [
        f"Downloading {FAST.name} (605 MB)"
    ] * loud


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left"), "and the disk is full; mini gets"),
        (PermissionError(errno.EACCES, "denied", "/cache"), "and /cache cannot be written; mini"),
        (ConnectionError("reset\nmore"), r"and the download failed \(reset\); mini gets"),
        (RuntimeError("storage refused"), r"and the download failed \(storage refused\); mini"),
    ],
)
def test_the_note_gives_the_reason_without_its_own_advice(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    failing_download(monkeypatch, error)
    spec = settle(AUTO)
    assert spec.name == "mini"
    assert re.search(reason, only_note(spec))


def test_a_machine_without_the_hub_s_library_still_has_mini(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    spec = settle(AUTO)
    assert spec.name == "mini"
    assert "and huggingface_hub cannot be imported;" in only_note(spec)
    assert settle_here(AUTO).name == "mini"
    assert load_encoder(spec, CPU).name == "mini"
    with pytest.raises(ModelDownloadError, match="pip install huggingface_hub"):
        load_encoder(FAST, CPU)


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch, hub_cache: HubCache) -> Iterator[None]:
    """A hub that takes the call, says nothing, and ignores the limit that the client sets."""

    def metadata(address: str, timeout: float) -> None:
        with socket.create_connection(server.getsockname(), timeout=10) as connection:
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        monkeypatch.setattr(hub, "REACH_SECONDS", 0.2)
        yield


@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_says_nothing_is_not_waited_for() -> None:
    began = time.monotonic()
    assert "cannot be reached" in only_note(settle(AUTO))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("part", [1.0, 0.5, 0.0], ids=["of another model", "torn", "empty"])
def test_damaged_weights_of_fast_are_an_error_and_not_mini(
    checkpoints: CheckpointFolders, hub_cache: HubCache, part: float
) -> None:
    other = (checkpoints.folder("tiny") / WEIGHTS).read_bytes()
    hub_cache.add(FAST_REPOSITORY, WEIGHTS, other[: round(part * len(other))])
    spec = settle(AUTO)
    with pytest.raises(WeightsMismatchError, match="ViT-B-32-256.*pull it again"):
        load_encoder(spec, CPU)


def test_rows_of_mini_are_continued_with_mini_whatever_is_here_now(hub_cache: HubCache) -> None:
    hub_cache.add(FAST_REPOSITORY, WEIGHTS, b"weights")
    spec = settle(AUTO, made_by="mini")
    assert spec.noted() == preset("mini")
    assert "it made the rows that are there" in only_note(spec)


def test_rows_of_fast_are_continued_with_fast_even_where_it_is_gone(hub_cache: HubCache) -> None:
    path = hub_cache.add(FAST_REPOSITORY, WEIGHTS, b"weights")
    assert settle(AUTO, made_by=FAST.name) == FAST
    path.unlink()
    with pytest.raises(ModelDownloadError, match=r"fast made the rows that are .*--overwrite"):
        settle(AUTO, made_by=FAST.name)


def test_rows_of_another_model_are_not_continued(
    hub_cache: HubCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_download(monkeypatch, AssertionError("must not be tried"))
    with pytest.raises(ResumeError, match="by RN50:openai: give --model RN50:openai .*--overwrite"):
        settle(AUTO, made_by="RN50:openai")


@pytest.mark.usefixtures("online")
def test_what_is_here_is_found_out_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_download(monkeypatch, AssertionError("must not be tried"))
    assert settle_here(AUTO) == preset("mini")


def test_what_auto_is_after_is_fast_and_says_so(hub_cache: HubCache) -> None:
    assert meaning(AUTO).name == FAST.name
    assert "mini where fast is not here" in only_note(meaning(AUTO))


def test_folders_that_are_called_like_the_words_are_mentioned_only_for_the_user_s_word(
    hub_cache: HubCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in ("auto", "fast", "mini"):
        (tmp_path / word).mkdir()
    monkeypatch.chdir(tmp_path)
    spec = resolve_model("auto")
    assert [note.partition(" is ")[0] for note in spec.notes] == ["auto"]
    assert [note.split()[0] for note in settle(spec).notes] == ["auto", "mini,"]
    hub_cache.add(FAST_REPOSITORY, WEIGHTS, b"weights")
    assert settle(spec, made_by=FAST.name).notes == spec.notes


def test_auto_itself_is_never_loaded(hub_cache: HubCache) -> None:
    with pytest.raises(ModelError, match="auto is no model yet"):
        load_encoder(AUTO, CPU)


def test_the_preferred_preset_is_the_one_that_its_figure_is_of() -> None:
    assert preset("fast").name == "ViT-B-32-256:datacomp_s34b_b86k"


def test_the_figure_of_mini_is_that_of_its_model_card() -> None:
    card = (MINI_FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    shown = re.search(r"^\| CIFAR-10.*?\| ([\d.]+) %", card, flags=re.MULTILINE)
    assert shown is not None
    assert shown[1] == str(PUBLISHED["cifar10_top1"]["mini"])
    assert f"`{digest_of(checkpoint_in(MINI_FOLDER))}`" in card
