"""open_clip and its list of models.

`catalog.json` holds a copy of the list, so that naming, completing and listing models need no
torch; where the installed open_clip is another version than the copy, its live list is asked.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from clipcls.errors import ModelError

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
"""What open_clip says of the preprocessing of published weights."""


_NOT_INSTALLED = "(not installed)"


@dataclass(frozen=True, slots=True)
class Tag:
    """One set of published weights of an architecture.

    Attributes:
        hub: Where they are: `owner/repository/` or `owner/repository/file`, as open_clip writes it.
        quick_gelu: Whether they were trained with QuickGELU.
        preprocess: open_clip's preprocessing configuration that they were trained with.
    """

    hub: str
    quick_gelu: bool
    preprocess: Mapping[str, Any]

    @property
    def preprocessing(self) -> str:
        """The preprocessing as one comparable line."""
        return describe_preprocessing(self.preprocess)


@dataclass(frozen=True, slots=True)
class Architecture:
    """One of open_clip's architectures.

    Attributes:
        tags: Tag -> published weights, in open_clip's order; empty where nobody published any.
        image_size: (height, width) in pixels.
        context_length: Tokens that the text tower takes.
        quick_gelu: Whether the architecture itself says QuickGELU, whatever the weights.
        tokenizer: The hub name of a tokenizer that needs `transformers`; None for CLIP's own.
        parameters: How many parameters; None where building the model needs the hub.
        elements: How many numbers its state dict holds; None likewise.
    """

    tags: Mapping[str, Tag]
    image_size: tuple[int, int]
    context_length: int = 77
    quick_gelu: bool = False
    tokenizer: str | None = None
    parameters: int | None = None
    elements: int | None = None


class _FromElsewhere(logging.Filter):
    """Lets every record pass but those that open_clip sends through the root logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname


@contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Keep open_clip's, timm's and torch's warnings and log lines from the user's terminal.

    What matters of them is an error or a note of ours. `logging.warning()` of a program that has
    set up no logging would also install a handler for good, which the null handler prevents.
    """
    root, handler, elsewhere = logging.getLogger(), logging.NullHandler(), _FromElsewhere()
    root.addHandler(handler)
    root.addFilter(elsewhere)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(elsewhere)
        root.removeHandler(handler)


def import_open_clip() -> Any:
    """Import open_clip in silence.

    Raises:
        ModelError: It cannot be imported, most often because torch and torchvision do not match.
    """
    with quiet_open_clip():
        try:
            import open_clip
        except (ImportError, RuntimeError, OSError, AttributeError) as error:
            reason = str(error).strip().partition("\n")[0]
            if "torchvision" not in reason:
                raise ModelError(
                    f"open_clip cannot be imported ({reason}):"
                    " pip install --force-reinstall open_clip_torch"
                ) from error
            versions = " and ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision"))
            raise ModelError(
                f"{versions} do not work together ({reason}); install both from the same source:"
                " pip install --force-reinstall torch torchvision"
            ) from error
    return open_clip


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return _NOT_INSTALLED


def describe_preprocessing(config: Mapping[str, Any]) -> str:
    """Return open_clip's preprocessing configuration as one comparable line."""
    mean, std = (" ".join(f"{x:.4g}" for x in config[key]) for key in ("mean", "std"))
    return f"{config['interpolation']}, {config['resize_mode']}, mean {mean}, std {std}"


def _data(name: str) -> Any:
    return json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _catalog() -> Any:
    return _data("catalog.json")


PUBLISHED: Mapping[str, Any] = MappingProxyType(_data("published.json"))
"""What others have published about models: presets, accuracies, and names that are not open_clip's.

Accuracies are zero-shot top-1 in percent, of open_clip's results tables and the model cards. A
figure of `mini` on ImageNet would not be zero-shot; the one on CIFAR-10 is its model card's.
"""


def openai_archives() -> Mapping[str, str]:
    """Return SHA-256 -> architecture of the TorchScript archives that OpenAI published."""
    archives: Mapping[str, str] = _catalog()["openai_archives"]
    return archives


@lru_cache(maxsize=1)
def catalog() -> Mapping[str, Architecture]:
    """Return the packaged copy of open_clip's list: architecture -> what is known of it."""
    kept, found = _catalog(), {}
    for name, entry in kept["architectures"].items():
        tags = {
            tag: Tag(known["hub"], known["quick_gelu"], kept["preprocessing"][known["preprocess"]])
            for tag, known in entry["tags"].items()
        }
        size = tuple(entry["image_size"])
        found[name] = Architecture(**{**entry, "tags": tags, "image_size": size})
    return found


def live_architectures() -> dict[str, Architecture]:
    """Ask the installed open_clip for its list; without the sizes, which need the models built."""
    open_clip, found = import_open_clip(), {}
    for name in open_clip.list_models():
        tags = {}
        for tag in open_clip.list_pretrained_tags_by_model(name):
            known = open_clip.get_pretrained_cfg(name, tag)
            preprocess = {key: known[key] for key in PREPROCESSING}
            preprocess |= {key: list(known[key]) for key in ("mean", "std")}
            tags[tag] = Tag(known["hf_hub"], bool(known.get("quick_gelu")), preprocess)
        found[name] = architecture_of(open_clip.get_model_config(name), tags)
    return found


def model_config(architecture: str) -> dict[str, Any]:
    """Read the model configuration of an architecture from open_clip's files, not importing it.

    Raises:
        ModelError: The installed open_clip has none.
    """
    package = importlib.util.find_spec("open_clip")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "model_configs" / f"{architecture}.json"
        if path.is_file():
            return dict(json.loads(path.read_text(encoding="utf-8")))
    raise ModelError(
        f"the installed open_clip has no configuration of {architecture}:"
        " pip install --force-reinstall open_clip_torch"
    )


def architecture_of(config: Mapping[str, Any], tags: Mapping[str, Tag]) -> Architecture:
    """Return what open_clip's model configuration says about an architecture."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    size = vision.get("image_size", 224)
    return Architecture(
        tags=tags,
        image_size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        context_length=text.get("context_length", 77),
        quick_gelu=bool(config.get("quick_gelu")),
        tokenizer=text.get("hf_tokenizer_name") or None,
    )


@lru_cache(maxsize=1)
def architectures() -> Mapping[str, Architecture]:
    """Return the installed open_clip's architectures, from the packaged copy where it is the same.

    The copy spares `clipcls models` and every mistyped name the import of torch.
    """
    # Where it is not installed, names still have a meaning; loading says what is missing.
    if _version("open_clip_torch") in (_catalog()["open_clip"], _NOT_INSTALLED):
        return catalog()
    sizes = catalog()
    return {
        name: replace(found, parameters=sizes[name].parameters, elements=sizes[name].elements)
        if name in sizes
        else found
        for name, found in live_architectures().items()
    }
