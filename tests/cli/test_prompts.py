"""`clipcls prompts`: what is listed, printed and warned of."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from typer.testing import CliRunner, Result

from clipcls.cli import app
from clipcls.prompts import set_names
from tests.hub_cache import HubCache, hub_cache

__all__ = ["hub_cache"]


@pytest.fixture(autouse=True)
def _no_model_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPCLS_MODEL", raising=False)


def prompts(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["prompts", *map(str, arguments)])


def test_listing_is_tsv_away_from_a_terminal() -> None:
    result = prompts()
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert rows[0] == ["name", "templates", "description"]
    assert [row[0] for row in rows[1:]] == list(set_names())
    assert ["openai80", "80"] in [row[:2] for row in rows]


def test_listing_is_aligned_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcls.cli.prompts.on_terminal", lambda: True)
    lines = prompts().stdout.splitlines()
    assert lines[0].index("templates") + len("templates") == lines[1].index("1") + len("1")
    assert "\t" not in "".join(lines)


def test_show_prints_label_and_prompt(tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text("label,prompt\nnone,a face\nnone,a bare face\n")
    result = prompts(
        *("show", "--labels", "no-glasses", "--label", "a,b=x", "--labels-file", more),
        *("-t", "a photo of a <>", "--templates", "plain"),
    )
    assert result.exit_code == 0
    # What was taken for the header of the file is said, in one line.
    assert "taken for the header" in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout.splitlines() == [
        "no-glasses\ta photo of a no glasses",
        "no-glasses\tno glasses",
        "a,b\ta photo of a x",
        "a,b\tx",
        "none\ta photo of a face",
        "none\ta photo of a bare face",
        "none\ta face",
        "none\ta bare face",
    ]


@pytest.fixture
def fast_is_here(hub_cache: HubCache) -> None:
    repository = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
    hub_cache.add(repository, "open_clip_model.safetensors", b"never read")


@pytest.mark.usefixtures("fast_is_here")
@pytest.mark.parametrize("model", [[], ["--model", "ViT-B-32:openai"]])
def test_show_warns_of_prompts_that_are_cut(model: list[str]) -> None:
    exact, long = " ".join(["cat"] * 75), " ".join(["dog"] * 76)
    result = prompts("show", "--labels", f"a={exact},b={long}", "--templates", "plain", *model)
    assert result.exit_code == 0
    assert result.stdout == f"a\t{exact}\nb\t{long}\n"
    [warning] = result.stderr.splitlines()
    assert warning.startswith("Warning: 'dog dog")
    assert "(b): 78 tokens" in warning
    assert "reads 77 and ignores the rest" in warning


def test_without_fast_prompts_are_measured_for_mini_and_nothing_is_downloaded(
    hub_cache: HubCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metadata(url: str, timeout: float) -> object:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    exact, long = " ".join(["cat"] * 62), " ".join(["dog"] * 63)
    result = prompts("show", "--labels", f"a={exact},b={long}", "--templates", "plain")
    assert result.exit_code == 0
    [warning] = result.stderr.splitlines()
    assert "(b): 65 tokens, mini reads 64 and ignores the rest" in warning


@pytest.mark.usefixtures("fast_is_here")
def test_short_prompts_are_shown_without_loading_a_tokenizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(spec: object) -> object:
        raise AssertionError("loaded")

    def show(label: str) -> Result:
        return prompts("show", "--label", label, "--templates", "plain")

    monkeypatch.setattr("clipcls.models.tokenizer.load_tokenizer", load)
    assert show("b" * 75).exit_code == 0
    assert isinstance(show("b" * 76).exception, AssertionError)
    assert isinstance(show("é").exception, AssertionError)
    assert isinstance(show("&amp;").exception, AssertionError)
    monkeypatch.setenv("CLIPCLS_MODEL", "mini")
    assert show("b" * 62).exit_code == 0
    assert isinstance(show("b" * 63).exception, AssertionError)
    monkeypatch.setenv("CLIPCLS_MODEL", "ViT-B-16-SigLIP")
    assert isinstance(show("b").exception, AssertionError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no labels: give --labels"),
        (["--labels", "a,a"], "--labels, label 2: the label 'a' is already there"),
        (["--labels", "a", "-t", "a photo"], "--template: the template 'a photo' has no slot"),
        (["--labels", "a", "--templates", "fotos"], "did you mean photo?"),
        (["--labels", "a", "--model", "no-such-model"], "no-such-model"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = prompts("show", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_set_names_complete() -> None:
    from clipcls.cli._flags import complete_set

    assert complete_set("openai") == ["openai7", "openai80"]
    assert complete_set("x") == []


def test_help_has_examples() -> None:
    for arguments in (["--help"], ["show", "--help"]):
        assert "clipcls prompts show --labels" in prompts(*arguments).stdout
