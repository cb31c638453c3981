"""`clipcls models`: list, show, pull."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.utils import are_progress_bars_disabled  # type: ignore[attr-defined]
from typer.testing import CliRunner

from clipcls.cli import app
from clipcls.models.names import MINI_FOLDER, PRESETS
from tests.checkpoints import CheckpointFolders, checkpoints
from tests.hub_cache import HubCache, hub_cache

__all__ = ["checkpoints", "hub_cache"]

FAST_REPOSITORY = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
runner = CliRunner()


@pytest.fixture(autouse=True)
def _empty_cache(hub_cache: HubCache) -> None:
    """No test here reads what this machine has downloaded."""


def table(*arguments: str) -> list[dict[str, str]]:
    """Run `clipcls models` and return its tab-separated rows by column."""
    result = runner.invoke(app, ["models", *arguments])
    assert result.exit_code == 0, result.output
    header, *rows = [line.split("\t") for line in result.stdout.splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_mini_comes_first_then_the_presets() -> None:
    mini, *rows = table()
    assert (mini["preset"], mini["model"], mini["imagenet_top1"]) == ("mini", "mini", "")
    megabytes = (MINI_FOLDER / "open_clip_model.safetensors").stat().st_size / 1e6
    assert mini["downloaded"] == f"{megabytes:.0f} MB (bundled)"
    assert float(mini["million_parameters"]) > 5
    assert mini["pixels"].isdigit()
    assert [row["preset"] for row in rows[:3]] == list(PRESETS)[1:]
    assert [row["model"] for row in rows[:3]] == list(PRESETS.values())[1:]
    assert rows[0]["imagenet_top1"] == "72.8"
    assert rows[0]["million_parameters"] == "151.3"
    assert rows[0]["downloaded"] == "no"
    assert "ViT-B-32:openai" in [row["model"] for row in rows]


@pytest.mark.parametrize("arguments", [["siglip2"], ["list", "siglip2"]])
def test_filter(arguments: list[str]) -> None:
    rows = table(*arguments)
    assert len(rows) > 5
    assert all("SigLIP2" in row["model"] for row in rows)


def test_filter_that_fits_nothing_is_a_usage_error() -> None:
    result = runner.invoke(app, ["models", "zzz"])
    assert result.exit_code == 2
    assert "zzz" in result.stderr
    assert result.stdout == ""


def test_downloaded_weights_show_their_size(hub_cache: HubCache) -> None:
    hub_cache.add(FAST_REPOSITORY, "open_clip_model.safetensors", bytes(3_000_000))
    assert table("fast")[0]["downloaded"] == "3 MB"


def test_show_tells_what_a_name_means() -> None:
    result = runner.invoke(app, ["models", "show", "ViT-B/32"])
    assert result.exit_code == 0
    facts = dict(line.split("\t") for line in result.stdout.splitlines())
    assert facts["model"] == "ViT-B-32:openai"
    assert facts["activation"] == "QuickGELU"
    assert facts["context_length"] == "77"
    assert "clipcls models pull ViT-B-32:openai" in facts["weights"]
    assert "ViT-B-32:openai is used" in result.stderr


def test_show_of_a_folder(checkpoints: CheckpointFolders) -> None:
    folder = checkpoints.folder("tiny")
    result = runner.invoke(app, ["models", "show", str(folder)])
    assert f"weights\t{folder}/open_clip_model.safetensors" in result.stdout
    assert "image_size\t64x64" in result.stdout


def test_show_of_a_file_takes_arch(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"")
    result = runner.invoke(app, ["models", "show", str(tmp_path / "w.pt"), "--arch", "RN50:openai"])
    assert "architecture\tRN50" in result.stdout
    assert "QuickGELU" in result.stdout


def test_pull_prints_where_the_weights_are(hub_cache: HubCache) -> None:
    path = hub_cache.add(FAST_REPOSITORY, "open_clip_model.safetensors", b"weights")
    result = runner.invoke(app, ["models", "pull", "fast"])
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")


def test_pull_shows_the_progress_of_the_download(
    hub_cache: HubCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def download(repository: str, name: str) -> str:
        shown.append(not are_progress_bars_disabled())
        return str(hub_cache.add(repository, name, b"weights"))

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    found = SimpleNamespace(commit_hash="0" * 40, size=605_000_000)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: found)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    result = runner.invoke(app, ["models", "pull", "fast"])
    assert (result.exit_code, shown) == (0, [True])
    assert "Downloading ViT-B-32-256:datacomp_s34b_b86k (605 MB) to " in result.stderr


def test_pull_without_network_is_one_line() -> None:
    result = runner.invoke(app, ["models", "pull", "fast"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "HF_HUB_OFFLINE" in result.stderr


def test_unknown_name_is_a_usage_error() -> None:
    result = runner.invoke(app, ["models", "pull", "ViTB32"])
    assert result.exit_code == 2
    assert "did you mean ViT-B-32" in result.stderr


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["pull"]])
def test_help_has_an_example(command: list[str]) -> None:
    result = runner.invoke(app, ["models", *command, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout


def test_show_of_mini_claims_no_zero_shot_figure_on_imagenet() -> None:
    result = runner.invoke(app, ["models", "show", "mini"])
    assert (result.exit_code, result.stderr) == (0, "")
    facts = dict(line.split("\t") for line in result.stdout.splitlines())
    assert facts["model"] == "mini"
    assert facts["weights"] == str(MINI_FOLDER / "open_clip_model.safetensors")
    assert "none that is zero-shot" in facts["imagenet_top1"]
    assert "cifar10_top1" in facts


def test_pull_of_mini_has_nothing_to_do() -> None:
    result = runner.invoke(app, ["models", "pull", "mini"])
    assert result.exit_code == 0
    assert result.stdout == f"{MINI_FOLDER / 'open_clip_model.safetensors'}\n"
    assert result.stderr == "Note: mini comes with clipcls, there is nothing to download\n"


def test_auto_is_shown_and_pulled_as_fast(hub_cache: HubCache) -> None:
    refused = runner.invoke(app, ["models", "pull", "auto"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "HF_HUB_OFFLINE" in refused.stderr
    path = hub_cache.add(FAST_REPOSITORY, "open_clip_model.safetensors", b"weights")
    assert runner.invoke(app, ["models", "pull", "auto"]).stdout == f"{path}\n"
    shown = runner.invoke(app, ["models", "show", "auto"])
    assert "model\tViT-B-32-256:datacomp_s34b_b86k" in shown.stdout
    assert shown.stderr.startswith("Note: auto is fast, or mini where")
