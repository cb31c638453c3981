"""Model names: from the user's word to a `ModelSpec`.

Names, tags and preprocessing are open_clip's (see `catalog`); ours are the presets, the choice of a
tag where the user gave none, and the refusal to guess where a guess could be wrong.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from clipcls.errors import ModelDownloadError, ModelError, OptionError, UnknownModelError
from clipcls.models.catalog import (
    PUBLISHED,
    Tag,
    architecture_of,
    architectures,
    catalog,
    describe_preprocessing,
)
from clipcls.models.files import CONFIG_NAME as CONFIG_NAME
from clipcls.models.files import WEIGHT_SUFFIXES
from clipcls.models.specs import FOLDER_PREFIX, HUB_PREFIX, Auto
from clipcls.models.specs import Folder as Folder
from clipcls.models.specs import HubRepo as HubRepo
from clipcls.models.specs import ModelSpec as ModelSpec
from clipcls.models.specs import Published as Published
from clipcls.models.specs import WeightFile as WeightFile
from clipcls.models.weights import is_torchscript

AUTO = "auto"
"""The choice of a user who makes none: `fast` where it can be had, else `mini`."""

MINI = "mini"
"""The preset that comes with clipcls; no other model has this name."""

MINI_FOLDER = Path(__file__).with_name("bundled") / MINI

CLIP_TOKENIZER = "CLIP's own"
"""How `describe` calls the tokenizer that needs no files."""

OPENAI_SPELLINGS: Mapping[str, str] = MappingProxyType(PUBLISHED["openai_names"])
"""The names of OpenAI's `clip.available_models()` and open_clip's name for each."""


PRESETS: Mapping[str, str] = MappingProxyType(PUBLISHED["presets"])
"""The models that we recommend: word -> any word of `--model`, or a folder in this one."""

WORDS = (AUTO, *PRESETS)
"""The words of our own that `--model` takes."""


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
        word: A preset, `auto`, `ARCH:TAG`, `ARCH`, an OpenAI spelling, `hf-hub:OWNER/NAME`,
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
        if not (path / CONFIG_NAME).is_file():
            kin = " (a transformers model, by its config.json)" * (path / "config.json").is_file()
            raise ModelError(
                f"the folder {path} has no {CONFIG_NAME}{kin}: give a folder in open_clip's layout,"
                " or a weight file with --arch"
            )
        name = word.removeprefix(FOLDER_PREFIX)
        # What is printed must not look like a model of ours that it is not.
        bare = name.rstrip("/\\").partition(":")[0]
        spec = Folder(f"./{name}" if bare in (*WORDS, *architectures()) else name, path)
    if arch is not None:
        given = "there is none" if word == AUTO else f"{word} is not one"
        raise OptionError(
            f"--arch belongs to a weight file, and {given}: give one with --model FILE, or leave"
            " --arch out"
        )
    return spec


def preset(word: str) -> ModelSpec:
    """Return the model that one of `PRESETS` stands for."""
    path = Path(__file__).parent / PRESETS[word]
    return Folder(word, path) if path.is_dir() else resolve_model(PRESETS[word])


def accuracy(spec: ModelSpec) -> float | None:
    """Return the published zero-shot top-1 accuracy on ImageNet-1k in percent, where known."""
    known: Mapping[str, float] = PUBLISHED["imagenet_top1"]
    return known.get(spec.name.replace("-quickgelu:", ":"))


def _named(word: str) -> ModelSpec | None:
    """Return the model if the word is a name rather than a place on the disk."""
    shadow: tuple[str, ...] = ()
    with suppress(OSError, ValueError):
        if Path(word).exists():
            shadow = (
                f"{word} is taken as a model's name; for the folder or file of that name: ./{word}",
            )
    if word == AUTO:
        return Auto(word, notes=shadow)
    if word in PRESETS:
        return preset(word).noted(*shadow)
    if word.startswith(HUB_PREFIX):
        repository = word.removeprefix(HUB_PREFIX)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise UnknownModelError(f"{word} is no hub address, write hf-hub:OWNER/NAME")
        if repository.lower() in PUBLISHED["transformers_repositories"]:
            raise UnknownModelError(f"{word} {_meant(repository)}")
        return HubRepo(word)
    architecture, colon, tag = word.partition(":")
    architecture = OPENAI_SPELLINGS.get(architecture, architecture)
    if architecture not in architectures():
        return None
    if colon:
        return Published(f"{architecture}:{_known_tag(architecture, tag)}")
    name, *notes = _best(word, architecture)
    return Published(name, notes=(*notes, *shadow))


def _known_tag(architecture: str, tag: str | None) -> str:
    """Return open_clip's spelling of a tag; of none, the last."""
    tags = architectures()[architecture].tags
    if not tags:
        raise UnknownModelError(
            f"nobody published weights for {architecture}: give a folder with {CONFIG_NAME},"
            " or another architecture (clipcls models lists them)"
        )
    if tag is None:
        return list(tags)[-1]
    # open_clip takes its tags in any case and with hyphens.
    cleaned = tag.lower().replace("-", "_")
    if cleaned in tags:
        return cleaned
    close = difflib.get_close_matches(cleaned, tags, n=1, cutoff=0.5)
    hint = f"; did you mean {architecture}:{close[0]}?" if close else ""
    raise UnknownModelError(
        f"{architecture} has no weights {tag!r}{hint}; its weights are {', '.join(tags)}"
    )


def _best(word: str, architecture: str) -> list[str]:
    """Return the best of an architecture's names, and if there is a choice, why it is used."""
    tags = architectures()[architecture].tags
    pairs = {f"{architecture}:{tag}": 0.0 for tag in tags}
    pairs |= {name: accuracy(Published(name)) or 0.0 for name in pairs}
    best = max(pairs, key=pairs.__getitem__, default="")
    if word in OPENAI_SPELLINGS and "openai" in tags:
        best, why = f"{architecture}:openai", "the word is OpenAI's name"
    elif best and pairs[best]:
        why = f"{pairs[best]} % on ImageNet, the best that is published"
    else:
        best, why = f"{architecture}:{_known_tag(architecture, None)}", "the newest"
    note = f"{word} has {len(tags)} sets of weights: {best} is used ({why})"
    return [best, note] if len(tags) > 1 else [best]


def _local_path(word: str) -> Path:
    """Return the existing file or folder that the word names."""
    text = word.removeprefix(FOLDER_PREFIX)
    if word == FOLDER_PREFIX:
        raise UnknownModelError(f"{word} needs a folder, write {FOLDER_PREFIX}PATH")
    with suppress(OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a NUL
        path = Path(text).expanduser()
        if path.exists():
            return path
    if text != word:
        raise UnknownModelError(f"{word} does not exist")
    if meant := _meant(word):
        raise UnknownModelError(f"{word} {meant}")
    is_file = word.lower().endswith(WEIGHT_SUFFIXES)
    if is_file or word.startswith((".", "~")) or "/" in word or "\\" in word:
        on_hub = re.fullmatch(r"\w[\w.-]*/[\w.-]+", word) and not is_file
        hub = f"; for a model on the hub: {HUB_PREFIX}{word}" if on_hub else ""
        raise UnknownModelError(f"{text} does not exist{_did_you_mean(Path(text).stem)}{hub}")
    raise UnknownModelError(
        f"no model is called {word!r}{_did_you_mean(word)}; give {', '.join(WORDS)},"
        " a name of `clipcls models`, hf-hub:OWNER/NAME, a folder or a weight file"
    )


def _meant(word: str) -> str:
    """Say what a word in the manner of another program would be here; empty if it is none."""
    otherwise = ""
    with suppress(ValueError):
        address = urlsplit(word)
        if address.scheme == "file":
            return f"is an address: give the path, {unquote(address.path)}"
        if address.scheme and address.netloc not in ("", "huggingface.co", "hf.co"):
            return "is an address: download the file and give its path, with --arch"
        if address.netloc:
            word = "/".join(address.path.strip("/").split("/")[:2])
            otherwise = f"is an address; did you mean {HUB_PREFIX}{word}?"
    if same := PUBLISHED["transformers_repositories"].get(word.lower()):
        return f"is a repository for transformers; did you mean {same}, which is the same model?"
    for name, found in architectures().items():
        for tag, known in found.tags.items():
            if known.hub.lower().startswith(f"{word.lower()}/"):
                return f"is open_clip's {name}:{tag} on the hub; did you mean {name}:{tag}?"
    # An architecture and a tag, joined in another way than ours.
    word = word.removeprefix("open_clip:").strip("()[]'\" ")
    spelt = {name.lower(): name for name in architectures()}
    spelt |= {word.lower(): name for word, name in OPENAI_SPELLINGS.items()}
    for gap in re.finditer(r"[-_\s,;:|=/@'\"]+", word):
        name = spelt.get(word[: gap.start()].lower(), "")
        tag = word[gap.end() :].lower().replace("-", "_")
        if name and tag in architectures()[name].tags:
            return f"is no name; did you mean {name}:{tag}?"
    return otherwise


def _did_you_mean(word: str) -> str:
    near = _near_names(word)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _near_names(word: str) -> list[str]:
    """Return up to three names that resemble the word."""
    usable = [name for name, found in architectures().items() if found.tags]
    known = {name.lower(): name for name in [*WORDS, *usable]}
    text = word.partition(":")[0].lower()
    if text in known:
        return [known[text]]
    return [known[match] for match in difflib.get_close_matches(text, known, n=3, cutoff=0.6)]


def _file(word: str, path: Path, arch: str | None) -> ModelSpec:
    if path.suffix.lower() not in WEIGHT_SUFFIXES:
        raise ModelError(
            f"{path} is not a weight file: its name must end in {' '.join(WEIGHT_SUFFIXES)}"
        )
    if arch is None:
        if (path.parent / CONFIG_NAME).is_file():
            beside = f"{path} lies beside an {CONFIG_NAME}: give the folder, --model {path.parent}"
            raise OptionError(beside)
        near = [name for name in _near_names(path.stem) if name not in WORDS]
        example = near[0] if near else "ViT-B-32"
        raise OptionError(
            f"{path} does not say what it is: give its architecture, for example --arch {example}"
            f" ({'its name suggests it' if near else 'clipcls models lists them'})"
        )
    architecture, colon, tag = arch.partition(":")
    architecture = OPENAI_SPELLINGS.get(architecture, architecture)
    if architecture not in architectures():
        raise UnknownModelError(
            f"--arch {arch}: open_clip has no such architecture{_did_you_mean(architecture)}"
        )
    tag = _known_tag(architecture, tag) if colon else ""
    tags = architectures()[architecture].tags
    if is_torchscript(path):
        # OpenAI's preprocessing and activation, whatever else shares the architecture's name.
        if "openai" not in tags or tag not in ("", "openai"):
            raise ModelError(
                f"{word} is a TorchScript archive, which only OpenAI's weights may be: write --arch"
                f" ARCH:openai, where ARCH is one of {', '.join(OPENAI_SPELLINGS.values())}"
            )
        tag = "openai"
    spec = WeightFile(word, path, architecture, tag or None)
    return spec if tag else _untagged(spec, tags)


def _untagged(spec: WeightFile, tags: Mapping[str, Tag]) -> ModelSpec:
    """Accept a file without tag if all published weights agree on how an image is prepared."""
    architecture = spec.architecture
    by_preprocessing: dict[str, list[str]] = {}
    for tag, weights in tags.items():
        by_preprocessing.setdefault(weights.preprocessing, []).append(tag)
    if not tags:
        raise ModelError(
            f"{spec.name}: nobody published weights for {architecture}, so its preprocessing is"
            f" not known; give a folder with the weights and an {CONFIG_NAME}"
        )
    if len(by_preprocessing) > 1:
        choices = "; ".join(f"{text}: {', '.join(t)}" for text, t in by_preprocessing.items())
        raise ModelError(
            f"{spec.name}: the weights of {architecture} differ in preprocessing, so say whose it"
            f" has with --arch {architecture}:TAG ({choices})"
        )
    quick = [tag for tag, weights in tags.items() if weights.quick_gelu]
    if not quick or architecture.endswith("-quickgelu"):
        return spec
    return spec.noted(
        f"{architecture} is run with GELU; weights trained with QuickGELU, such as"
        f" {', '.join(quick[:3])}, need --arch {architecture}-quickgelu"
    )


def describe(spec: ModelSpec) -> list[tuple[str, str]]:
    """Return what is known of a model without loading or downloading it, as (key, value) pairs."""
    try:
        config = spec.config(download=False)
    except ModelDownloadError:
        return [("configuration", "not here: it comes with the weights")]
    found = architecture_of(config.model, {})
    height, width = found.image_size
    listed = config.source in architectures()
    complete = {"interpolation", "resize_mode"} <= config.preprocess.keys()
    extra = f"{found.tokenizer}, needs clipcls[siglip]" if found.tokenizer else CLIP_TOKENIZER
    return [
        *([("architecture", config.source)] if listed else []),
        ("image_size", f"{width}x{height}"),
        (
            "preprocessing",
            describe_preprocessing(config.preprocess)
            if complete
            else "partly open_clip's defaults",
        ),
        (
            "activation",
            "QuickGELU" if found.quick_gelu else "the architecture's own (GELU as a rule)",
        ),
        ("context_length", str(found.context_length)),
        ("tokenizer", extra),
    ]
