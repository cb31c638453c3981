"""Names: presets, open_clip's, OpenAI's, folders and files."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.errors import ClipclsError, ModelError, OptionError, UnknownModelError
from clipcls.models.catalog import PUBLISHED, architectures, catalog
from clipcls.models.names import (
    MINI_FOLDER,
    OPENAI_SPELLINGS,
    PRESETS,
    Folder,
    HubRepo,
    Published,
    WeightFile,
    accuracy,
    complete_model,
    default_model,
    preset,
    resolve_model,
)

PAIRS = [f"{name}:{tag}" for name, found in catalog().items() for tag in found.tags]


def archive(path: Path) -> Path:
    """Write a file that has the outline of a TorchScript archive."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("model/code/__torch__.py", "")
        made.writestr("model/constants.pkl", b"")
    return path


def weight_file(folder: Path, name: str = "weights.pt") -> Path:
    path = folder / name
    path.write_bytes(b"not read while names are resolved")
    return path


@pytest.mark.parametrize("word", ["fast", "balanced", "best"])
def test_a_preset_is_a_published_pair(word: str) -> None:
    spec = resolve_model(word)
    assert spec.name == PRESETS[word]
    assert spec.name in PAIRS
    assert accuracy(spec) is not None


def test_presets_are_those_of_the_documentation() -> None:
    assert dict(PRESETS) == {
        "mini": "bundled/mini",
        "fast": "ViT-B-32-256:datacomp_s34b_b86k",
        "balanced": "PE-Core-B-16:meta",
        "best": "PE-Core-L-14-336:meta",
    }


@given(st.sampled_from(PAIRS))
def test_every_pair_means_itself(name: str) -> None:
    spec = resolve_model(name)
    assert spec == Published(name)
    assert spec.notes == ()


@given(st.text())
def test_any_word_is_a_model_or_a_clear_error(word: str) -> None:
    with contextlib.suppress(ClipclsError):
        assert resolve_model(word).name


@pytest.mark.parametrize(("word", "architecture"), OPENAI_SPELLINGS.items())
def test_openai_spellings_mean_openai_weights(word: str, architecture: str) -> None:
    assert resolve_model(word).name == f"{architecture}:openai"


def test_openai_spelling_takes_a_tag() -> None:
    assert resolve_model("ViT-B/32:laion2b-s34b-b79k").name == "ViT-B-32:laion2b_s34b_b79k"


def test_bare_architecture_takes_the_most_accurate_weights_and_says_so() -> None:
    spec = resolve_model("ViT-L-14")
    assert spec.name == "ViT-L-14:dfn2b"
    assert "ViT-L-14:dfn2b" in spec.notes[0]
    assert "81.4" in spec.notes[0]


def test_bare_architecture_without_known_accuracy_takes_the_newest() -> None:
    spec = resolve_model("convnext_xxlarge")
    assert spec.name == "convnext_xxlarge:laion2b_s34b_b82k_augreg_soup"
    assert "newest" in spec.notes[0]


def test_single_weights_need_no_note() -> None:
    assert resolve_model("PE-Core-T-16-384").notes == ()


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("vit-b-32", "ViT-B-32"),
        ("ViTB32", "ViT-B-32"),
        ("PE-Core-B16", "PE-Core-B-16"),
        ("fasst", "fast"),
        ("minni", "mini"),
        ("ViT-B-32:opnai", "ViT-B-32:openai"),
        ("ViT-B-99:openai", "ViT-B-"),
    ],
)
def test_mistyped_name_gets_a_near_match(word: str, near: str) -> None:
    with pytest.raises(UnknownModelError, match=f"did you mean .*{near}"):
        resolve_model(word)


def test_unpublished_architecture_is_refused() -> None:
    with pytest.raises(UnknownModelError, match="nobody published weights for ViT-M-32"):
        resolve_model("ViT-M-32")


@pytest.mark.parametrize("word", ["./none", "none/there.pt", "none.safetensors", "local-dir:none"])
def test_path_that_does_not_exist_says_so(word: str) -> None:
    with pytest.raises(UnknownModelError, match="does not exist"):
        resolve_model(word)


@pytest.mark.parametrize("word", ["hf-hub:", "hf-hub:a", "hf-hub:a/b/c", "hf-hub:a b"])
def test_malformed_hub_address_is_refused(word: str) -> None:
    with pytest.raises(UnknownModelError, match="hf-hub:OWNER/NAME"):
        resolve_model(word)


def test_hub_address() -> None:
    assert resolve_model("hf-hub:laion/some-model") == HubRepo("hf-hub:laion/some-model")


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_folder_with_configuration(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert resolve_model(f"{prefix}{tmp_path}") == Folder(str(tmp_path), tmp_path)


def test_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no open_clip_config\.json \(.*transformers"):
        resolve_model(str(tmp_path))


def test_folder_called_like_a_model_is_told_how_to_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fast").mkdir()
    monkeypatch.chdir(tmp_path)
    spec = resolve_model("fast")
    assert isinstance(spec, Published)
    assert "./fast" in spec.notes[0]


def test_arch_is_refused_for_what_says_itself_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    for word in ("fast", "ViT-B-32:openai", str(tmp_path)):
        with pytest.raises(OptionError, match="--arch"):
            resolve_model(word, "ViT-B-32")


def test_file_without_arch_suggests_the_one_in_its_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--arch ViT-B-32 "):
        resolve_model(str(weight_file(tmp_path, "ViT-B-32.pt")))


def test_file_beside_a_configuration_suggests_the_folder(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(OptionError, match="--model"):
        resolve_model(str(weight_file(tmp_path)))


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\.pt \.pth \.safetensors \.bin"):
        resolve_model(str(weight_file(tmp_path, "model.onnx")), "ViT-B-32")


def test_file_with_unknown_arch_gets_a_near_match(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"--arch vit-b-32: .*did you mean ViT-B-32"):
        resolve_model(str(weight_file(tmp_path)), "vit-b-32")


def test_file_takes_the_preprocessing_that_all_weights_share(tmp_path: Path) -> None:
    path = weight_file(tmp_path)
    spec = resolve_model(str(path), "ViT-B-16-SigLIP2")
    assert spec == WeightFile(str(path), path, "ViT-B-16-SigLIP2")


def test_file_whose_activation_is_open_gets_a_note(tmp_path: Path) -> None:
    path = str(weight_file(tmp_path))
    assert "--arch ViT-B-32-quickgelu" in resolve_model(path, "ViT-B-32").notes[0]
    assert resolve_model(path, "ViT-B-32-quickgelu").notes == ()
    assert resolve_model(path, "ViT-B-32:openai").notes == ()


def test_file_whose_preprocessing_is_open_is_refused_until_it_has_a_tag(tmp_path: Path) -> None:
    path = str(weight_file(tmp_path))
    with pytest.raises(ModelError, match="--arch ViT-L-14:TAG .*0.5 0.5 0.5.*laion2b_s32b_b82k"):
        resolve_model(path, "ViT-L-14")
    spec = resolve_model(path, "ViT-L-14:laion2b_s32b_b82k")
    assert isinstance(spec, WeightFile)
    assert spec.tag == "laion2b_s32b_b82k"


def test_file_of_an_unpublished_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"preprocessing is not known.*open_clip_config\.json"):
        resolve_model(str(weight_file(tmp_path)), "ViT-M-32")


@pytest.mark.parametrize("arch", ["ViT-L-14", "ViT-L/14", "ViT-L-14:openai"])
def test_torchscript_archive_is_openai_s(tmp_path: Path, arch: str) -> None:
    spec = resolve_model(str(archive(tmp_path / "model.pt")), arch)
    assert isinstance(spec, WeightFile)
    assert (spec.architecture, spec.tag) == ("ViT-L-14", "openai")


@pytest.mark.parametrize("arch", ["ViT-L-14:dfn2b", "PE-Core-B-16"])
def test_torchscript_archive_of_anyone_else_is_refused(tmp_path: Path, arch: str) -> None:
    with pytest.raises(ModelError, match=r"TorchScript.*OpenAI"):
        resolve_model(str(archive(tmp_path / "model.pt")), arch)


def test_quickgelu_weights_are_known_as_such() -> None:
    tags = architectures()["ViT-B-32"].tags
    assert tags["openai"].quick_gelu
    assert not tags["laion2b_s34b_b79k"].quick_gelu


def test_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPCLS_MODEL", raising=False)
    assert default_model() == "auto"
    monkeypatch.setenv("CLIPCLS_MODEL", "")
    assert default_model() == "auto"
    monkeypatch.setenv("CLIPCLS_MODEL", "RN50")
    assert default_model() == "RN50"


def test_every_known_accuracy_belongs_to_a_pair() -> None:
    assert set(PUBLISHED["imagenet_top1"]) <= set(PAIRS)


def test_completion() -> None:
    assert complete_model("ba") == ["balanced"]
    assert complete_model("")[:5] == ["auto", *PRESETS]
    assert "ViT-B-32" in complete_model("vit-b")
    assert "ViT-B-32:openai" in complete_model("ViT-B-32:o")
    assert complete_model("ViT-M-32") == []


def test_names_need_no_heavy_import() -> None:
    code = (
        "import sys; from clipcls.models.names import complete_model, resolve_model;"
        "resolve_model('ViT-B/32'); complete_model('V');"
        "print(*{'torch', 'open_clip', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_an_empty_name_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModelError, match="the model's name is empty"):
        resolve_model("")


def test_mini_is_the_folder_in_the_package() -> None:
    spec = resolve_model("mini")
    assert spec == Folder("mini", MINI_FOLDER)
    assert preset("mini") == spec
    assert (MINI_FOLDER / "open_clip_config.json").is_file()
    assert accuracy(spec) is None
    with pytest.raises(OptionError, match="--arch"):
        resolve_model("mini", "ViT-B-32")


def test_a_folder_of_the_user_never_passes_for_mini(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "open_clip_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("local-dir:mini").name == "./mini"
    assert resolve_model("./mini").name == "./mini"
    assert resolve_model("mini/").name == "./mini/"
    named = resolve_model("mini")
    assert isinstance(named, Folder)
    assert named.path == MINI_FOLDER
    assert "./mini" in named.notes[0]


@pytest.mark.parametrize("name", ["mini.pt", "auto.pt", "fast.pt"])
def test_a_weight_file_called_like_a_word_of_ours_gets_an_architecture(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(OptionError, match="--arch ViT-B-32 "):
        resolve_model(str(weight_file(tmp_path, name)))


SAME_MODEL = [
    ("openai/clip-vit-base-patch32", "ViT-B-32:openai"),
    ("OpenAI/CLIP-ViT-Base-Patch32", "ViT-B-32:openai"),
    ("openai/clip-vit-large-patch14-336", "ViT-L-14-336:openai"),
    ("google/siglip2-base-patch16-224", "ViT-B-16-SigLIP2:webli"),
    ("https://huggingface.co/openai/clip-vit-base-patch16", "ViT-B-16:openai"),
    ("https://huggingface.co/openai/clip-vit-base-patch16/tree/main", "ViT-B-16:openai"),
    ("hf-hub:openai/clip-vit-base-patch32", "ViT-B-32:openai"),
    ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32:laion2b_s34b_b79k"),
    ("ViT-B-32,openai", "ViT-B-32:openai"),
    ("ViT-B-32, openai", "ViT-B-32:openai"),
    ("('ViT-B-32', 'openai')", "ViT-B-32:openai"),
    ("vit-b-32 OpenAI", "ViT-B-32:openai"),
    ("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32:laion2b_s34b_b79k"),
    ("open_clip:ViT-B-32/laion2b-s34b-b79k", "ViT-B-32:laion2b_s34b_b79k"),
    ("ViT-L/14@336px|openai", "ViT-L-14-336:openai"),
    ("ViT-B/32 openai", "ViT-B-32:openai"),
    ("ViT-B-32-openai", "ViT-B-32:openai"),
    ("https://huggingface.co/owner/name", "hf-hub:owner/name"),
]


@pytest.mark.parametrize(("word", "meant"), SAME_MODEL)
def test_another_program_s_name_for_a_model_gets_ours(word: str, meant: str) -> None:
    with pytest.raises(UnknownModelError, match=f"did you mean {re.escape(meant)}\\b") as caught:
        resolve_model(word)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("file:///home/me/My%20Models/w.pt", r"give the path, /home/me/My Models/w\.pt$"),
        ("file:/data/w.pt", r"give the path, /data/w\.pt$"),
        ("https://example.org/w.pt", "download the file and give its path, with --arch"),
        ("s3://bucket/w.safetensors", "download the file and give its path, with --arch"),
        ("some/where", "does not exist.*hf-hub:some/where"),
    ],
)
def test_an_address_gets_the_way_to_say_it(word: str, answer: str) -> None:
    with pytest.raises(UnknownModelError, match=answer) as caught:
        resolve_model(word)
    assert "\n" not in str(caught.value)


def test_every_model_that_is_called_the_same_elsewhere_is_one_of_ours() -> None:
    assert set(PUBLISHED["transformers_repositories"].values()) <= set(PAIRS)
