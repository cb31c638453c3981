"""Model names: from the user's word to a `ModelSpec`.

Names, tags and preprocessing are open_clip's (see `catalog`); ours are the presets, the choice of a
tag where the user gave none, and the refusal to guess where a guess could be wrong.
"""

from __future__ import annotations

import difflib
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from clipcls.errors import ModelError, OptionError, UnknownModelError
from clipcls.models.catalog import Tag, architectures, catalog

CONFIG_NAME = "open_clip_config.json"
HUB_PREFIX = "hf-hub:"
FOLDER_PREFIX = "local-dir:"
WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors", ".bin")

MINI = "mini"
"""The model that comes with clipcls."""

MINI_FOLDER = Path(__file__).with_name("bundled") / MINI
"""Where it is, in open_clip's layout."""

AUTO = "auto"
"""The choice of a user who makes none: `fast` where it can be had, else `mini`."""

OPENAI_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        "RN50": "RN50",
        "RN101": "RN101",
        "RN50x4": "RN50x4",
        "RN50x16": "RN50x16",
        "RN50x64": "RN50x64",
        "ViT-B/32": "ViT-B-32",
        "ViT-B/16": "ViT-B-16",
        "ViT-L/14": "ViT-L-14",
        "ViT-L/14@336px": "ViT-L-14-336",
    }
)
"""The names of OpenAI's `clip.available_models()` and open_clip's name for each."""

ACCURACY: Mapping[str, float] = MappingProxyType(
    {
        "RN50:openai": 59.8,
        "RN101:openai": 62.3,
        "RN50x4:openai": 66.3,
        "RN50x16:openai": 70.7,
        "RN50x64:openai": 73.9,
        "ViT-B-32:openai": 63.3,
        "ViT-B-32:laion2b_s34b_b79k": 66.6,
        "ViT-B-32:datacomp_xl_s13b_b90k": 69.2,
        "ViT-B-32-256:datacomp_s34b_b86k": 72.8,
        "ViT-B-16:openai": 68.3,
        "ViT-B-16:laion2b_s34b_b88k": 70.2,
        "ViT-B-16:datacomp_xl_s13b_b90k": 73.5,
        "ViT-B-16:dfn2b": 76.2,
        "ViT-B-16-SigLIP2:webli": 78.2,
        "ViT-L-14:openai": 75.5,
        "ViT-L-14:laion2b_s32b_b82k": 75.3,
        "ViT-L-14:datacomp_xl_s13b_b90k": 79.2,
        "ViT-L-14:dfn2b": 81.4,
        "ViT-L-14-336:openai": 76.6,
        "ViT-H-14:laion2b_s32b_b79k": 78.0,
        "ViT-H-14-378:dfn5b": 84.4,
        "ViT-g-14:laion2b_s34b_b88k": 78.5,
        "ViT-bigG-14:laion2b_s39b_b160k": 80.1,
        "ViT-SO400M-14-SigLIP2:webli": 83.2,
        "ViT-SO400M-14-SigLIP2-378:webli": 84.1,
        "EVA02-L-14-336:merged2b_s6b_b61k": 80.4,
        "PE-Core-T-16-384:meta": 62.1,
        "PE-Core-S-16-384:meta": 72.7,
        "PE-Core-B-16:meta": 78.4,
        "PE-Core-L-14-336:meta": 83.5,
        "PE-Core-bigG-14-448:meta": 85.4,
        "MobileCLIP2-S0:dfndr2b": 71.5,
        "MobileCLIP2-S2:dfndr2b": 77.2,
        "MobileCLIP2-B:dfndr2b": 79.4,
        "MobileCLIP2-S4:dfndr2b": 81.9,
    }
)
"""Zero-shot top-1 accuracy on ImageNet-1k in percent: open_clip's results table and model cards."""

MINI_ACCURACY = 54.8
"""Zero-shot top-1 accuracy of `mini` on CIFAR-10 in percent, with ten names and the template set
`photo`: benchmarks/mini.py and the model card. A figure on ImageNet would not be zero-shot."""

FAST_ON_CIFAR10 = 96.5
"""The published figure of `fast` for comparison: open_clip's docs/openclip_results.csv."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A short name for a model that we recommend."""

    name: str
    description: str


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset("ViT-B-32-256:datacomp_s34b_b86k", "quick, also on a CPU"),
        "balanced": Preset(
            "PE-Core-B-16:meta", "more accurate, about three times the work of fast"
        ),
        "best": Preset(
            "PE-Core-L-14-336:meta",
            "most accurate, about thirty times the work of fast: wants a GPU",
        ),
    }
)


WORDS = (MINI, AUTO, *PRESETS)
"""The words of our own that `--model` takes."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that the user's word stands for; nothing has been loaded or downloaded yet.

    Attributes:
        kind: Published weights, a hub repository, a folder in open_clip's layout, a weight file, or
            `auto`, which `clipcls.models.auto.settle` turns into one of the others.
        name: The name to print: `ViT-B-32:openai`, `mini`, `hf-hub:org/x`, the folder or file as
            given.
        architecture: open_clip's architecture, for published weights and files.
        tag: The published weights; for a file the ones whose preprocessing and activation it has.
        path: The folder or file.
        notes: What the user should be told, a sentence each.
    """

    kind: Literal["pretrained", "hub", "folder", "file", "auto"]
    name: str
    architecture: str | None = None
    tag: str | None = None
    path: Path | None = None
    notes: tuple[str, ...] = ()


def default_model() -> str:
    """Return the model of a user who names none: `CLIPCLS_MODEL`, else `auto`."""
    return os.environ.get("CLIPCLS_MODEL") or AUTO


def complete_model(incomplete: str) -> list[str]:
    """Return the names that `incomplete` can become: our words and architectures, then tags."""
    if ":" in incomplete:
        names = [f"{name}:{tag}" for name, found in catalog().items() for tag in found.tags]
    else:
        names = [*WORDS, *(name for name, found in catalog().items() if found.tags)]
    return [name for name in names if name.lower().startswith(incomplete.lower())]


def resolve_model(word: str, arch: str | None = None) -> ModelSpec:
    """Find out which model a word stands for.

    Args:
        word: A preset, `mini`, `auto`, `ARCH:TAG`, `ARCH`, an OpenAI spelling, `hf-hub:org/name`,
            `local-dir:PATH`, a folder in open_clip's layout, or a weight file.
        arch: `ARCH` or `ARCH:TAG`, needed by a weight file and refused with anything else.

    Raises:
        UnknownModelError: The word means nothing; the message has the near matches.
        OptionError: `arch` was given for a model that says itself what it is, or is missing.
        ModelError: The folder or file lacks what is needed to use it rightly.
    """
    if not word:
        raise UnknownModelError("the model's name is empty: name one with --model (clipcls models)")
    spec = _named(word)
    if spec is None:
        path = _local_path(word)
        if path.is_file():
            return _file(word, path, arch)
        spec = _folder(word, path)
    if arch is not None:
        given = "there is none" if spec.kind == AUTO else f"{word} is not one"
        raise OptionError(
            f"--arch belongs to a weight file, and {given}: give one with --model FILE, or leave"
            " --arch out"
        )
    return spec


def _named(word: str) -> ModelSpec | None:
    """Return the model if the word is a name rather than a place on the disk."""
    if word in PRESETS:
        return replace(preset(word), notes=_shadow_notes(word))
    if word == MINI:
        return replace(bundled(), notes=_shadow_notes(word))
    if word == AUTO:
        return ModelSpec("auto", AUTO, notes=_shadow_notes(word))
    if word.startswith(HUB_PREFIX):
        return _hub(word)
    architecture, colon, tag = word.partition(":")
    architecture = OPENAI_SPELLINGS.get(architecture, architecture)
    if architecture not in architectures():
        return None
    if colon:
        return _pretrained(architecture, _known_tag(architecture, tag), ())
    return _best_tag(word, architecture)


def _shadow_notes(word: str) -> tuple[str, ...]:
    """Tell the owner of a folder that is called like a model which of the two is used."""
    if not Path(word).exists():
        return ()
    return (f"{word} is taken as a model's name; for the folder or file of that name: ./{word}",)


def _pretrained(architecture: str, tag: str, notes: tuple[str, ...]) -> ModelSpec:
    return ModelSpec("pretrained", f"{architecture}:{tag}", architecture, tag, notes=notes)


def _hub(word: str) -> ModelSpec:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", word.removeprefix(HUB_PREFIX)):
        raise UnknownModelError(f"{word} is no hub address, write hf-hub:OWNER/NAME")
    return ModelSpec("hub", word)


def _known_tag(architecture: str, tag: str) -> str:
    tags = architectures()[architecture].tags
    # open_clip takes its tags in any case and with hyphens.
    cleaned = tag.lower().replace("-", "_")
    if cleaned in tags:
        return cleaned
    if not tags:
        raise UnknownModelError(_unpublished(architecture))
    close = difflib.get_close_matches(cleaned, tags, n=1, cutoff=0.5)
    hint = f"; did you mean {architecture}:{close[0]}?" if close else ""
    raise UnknownModelError(
        f"{architecture} has no weights {tag!r}{hint}; allowed are {', '.join(tags)}"
    )


def _unpublished(architecture: str) -> str:
    return (
        f"nobody published weights for {architecture}: give a folder with {CONFIG_NAME},"
        " or another architecture (clipcls models lists them)"
    )


def _best_tag(word: str, architecture: str) -> ModelSpec:
    tags = list(architectures()[architecture].tags)
    if not tags:
        raise UnknownModelError(_unpublished(architecture))
    if len(tags) == 1:
        return _pretrained(architecture, tags[0], _shadow_notes(word))
    if word in OPENAI_SPELLINGS and "openai" in tags:
        tag, why = "openai", "the word is OpenAI's name"
    else:
        tag, why = _most_accurate(architecture, tags)
    note = f"{word} has {len(tags)} sets of weights: {architecture}:{tag} is used ({why})"
    return _pretrained(architecture, tag, (note, *_shadow_notes(word)))


def _most_accurate(architecture: str, tags: list[str]) -> tuple[str, str]:
    """Return the tag with the highest published accuracy, else open_clip's newest, and why."""
    plain = architecture.removesuffix("-quickgelu")
    known = {tag: ACCURACY[f"{plain}:{tag}"] for tag in tags if f"{plain}:{tag}" in ACCURACY}
    if not known:
        return tags[-1], "the newest"
    best = max(known, key=known.__getitem__)
    return best, f"{known[best]} % on ImageNet, the best that is published"


def published(name: str) -> ModelSpec:
    """Return the specification of `ARCH:TAG`, which must be in `architectures()`."""
    architecture, _, tag = name.partition(":")
    return _pretrained(architecture, tag, ())


def preset(word: str) -> ModelSpec:
    """Return the specification of one of `PRESETS`."""
    return published(PRESETS[word].name)


def bundled() -> ModelSpec:
    """Return the specification of `mini`, the model that comes with clipcls."""
    return _folder(MINI, MINI_FOLDER)


def is_bundled(spec: ModelSpec) -> bool:
    """Whether it is `mini` itself rather than a folder of that name."""
    return spec.path == MINI_FOLDER


def accuracy(spec: ModelSpec) -> float | None:
    """Return the published zero-shot top-1 accuracy on ImageNet-1k in percent, where known."""
    if spec.kind != "pretrained" or spec.architecture is None:
        return None
    return ACCURACY.get(f"{spec.architecture.removesuffix('-quickgelu')}:{spec.tag}")


def _local_path(word: str) -> Path:
    """Return the existing file or folder that the word names."""
    text = word.removeprefix(FOLDER_PREFIX)
    if word == FOLDER_PREFIX:
        raise UnknownModelError(f"{word} needs a folder, write {FOLDER_PREFIX}PATH")
    try:
        path = Path(text).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a NUL
        raise UnknownModelError(_unknown(word)) from None
    if text != word:
        raise UnknownModelError(f"{word} does not exist")
    if _looks_like_path(text):
        raise UnknownModelError(f"{text} does not exist{_did_you_mean(path.stem)}")
    raise UnknownModelError(_unknown(word))


def _looks_like_path(word: str) -> bool:
    return (
        word.startswith((".", "~", "/"))
        or "/" in word
        or "\\" in word
        or (word.lower().endswith(WEIGHT_SUFFIXES))
    )


def _unknown(word: str) -> str:
    return (
        f"no model is called {word!r}{_did_you_mean(word)}; allowed are {', '.join(WORDS)},"
        " a name of `clipcls models`, hf-hub:OWNER/NAME, a folder or a weight file"
    )


def _near_architectures(word: str) -> list[str]:
    """Return up to three names that resemble the word."""
    usable = [name for name, found in architectures().items() if found.tags]
    known = {name.lower(): name for name in [*WORDS, *usable]}
    text = word.partition(":")[0].lower()
    if text in known:
        return [known[text]]
    return [known[match] for match in difflib.get_close_matches(text, known, n=3, cutoff=0.6)]


def _did_you_mean(word: str) -> str:
    near = _near_architectures(word)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _folder(word: str, path: Path) -> ModelSpec:
    if not (path / CONFIG_NAME).is_file():
        kin = " (it looks like a transformers model)" if (path / "config.json").is_file() else ""
        raise ModelError(
            f"the folder {path} has no {CONFIG_NAME}{kin}: give a folder in open_clip's layout, or"
            " a weight file with --arch"
        )
    name = word.removeprefix(FOLDER_PREFIX)
    # What is printed must not look like a model of ours that it is not.
    ambiguous = name.rstrip("/\\") in WORDS and path != MINI_FOLDER
    return ModelSpec("folder", f"./{name}" if ambiguous else name, path=path)


def _file(word: str, path: Path, arch: str | None) -> ModelSpec:
    if path.suffix.lower() not in WEIGHT_SUFFIXES:
        raise ModelError(f"{path} is no weight file, allowed are {' '.join(WEIGHT_SUFFIXES)}")
    if arch is None:
        raise OptionError(_missing_arch(path))
    architecture, colon, tag = arch.partition(":")
    architecture = OPENAI_SPELLINGS.get(architecture, architecture)
    if architecture not in architectures():
        raise UnknownModelError(
            f"--arch {arch}: open_clip has no such architecture{_did_you_mean(architecture)}"
        )
    spec = ModelSpec("file", word, architecture, path=path)
    if is_torchscript(path):
        return _openai_archive(spec, _known_tag(architecture, tag) if colon else None)
    if colon:
        return replace(spec, tag=_known_tag(architecture, tag))
    return _untagged_file(spec, architecture)


def _missing_arch(path: Path) -> str:
    if (path.parent / CONFIG_NAME).is_file():
        return f"{path} lies beside an {CONFIG_NAME}: give the folder, --model {path.parent}"
    near = [name for name in _near_architectures(path.stem) if name not in WORDS]
    example = near[0] if near else "ViT-B-32"
    return (
        f"{path} does not say what it is: give its architecture, for example --arch {example}"
        f" ({'its name suggests it' if near else 'clipcls models lists them'})"
    )


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive, the form of OpenAI's own weight files."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _openai_archive(spec: ModelSpec, tag: str | None) -> ModelSpec:
    """Give the archive OpenAI's preprocessing and activation, whatever else shares its name."""
    if tag not in (None, "openai"):
        raise ModelError(
            f"{spec.name} is a TorchScript archive, which OpenAI's weights are, and --arch says"
            f" {tag}: write --arch {spec.architecture}:openai"
        )
    if "openai" not in architectures()[spec.architecture or ""].tags:
        raise ModelError(
            f"{spec.name} is a TorchScript archive, but OpenAI published no {spec.architecture};"
            f" give one of {', '.join(OPENAI_SPELLINGS)}"
        )
    return replace(spec, tag="openai")


def _untagged_file(spec: ModelSpec, architecture: str) -> ModelSpec:
    """Accept a file without tag if all published weights agree on how a picture is prepared."""
    tags = architectures()[architecture].tags
    if not tags:
        raise ModelError(
            f"{spec.name}: nobody published weights for {architecture}, so its preprocessing is"
            f" not known; give a folder with the weights and an {CONFIG_NAME}"
        )
    by_preprocessing: dict[str, list[str]] = {}
    for tag, weights in tags.items():
        by_preprocessing.setdefault(weights.preprocessing, []).append(tag)
    if len(by_preprocessing) > 1:
        choices = "; ".join(f"{text}: {', '.join(t)}" for text, t in by_preprocessing.items())
        raise ModelError(
            f"{spec.name}: the weights of {architecture} differ in preprocessing, so say whose it"
            f" has with --arch {architecture}:TAG ({choices})"
        )
    return replace(spec, notes=_activation_notes(architecture, tags))


def _activation_notes(architecture: str, tags: Mapping[str, Tag]) -> tuple[str, ...]:
    quick = [tag for tag, weights in tags.items() if weights.quick_gelu]
    if not quick or architecture.endswith("-quickgelu"):
        return ()
    return (
        f"{architecture} is run with GELU; weights trained with QuickGELU, such as"
        f" {', '.join(quick[:3])}, need --arch {architecture}-quickgelu",
    )
