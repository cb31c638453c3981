"""Templates x labels -> prompts, and the template sets that come with clipcls.

A template is a text with the slot `<>`; `{}` is accepted because the ecosystem's lists use it. A
set is a .txt file with one template per line. Two sets are open_clip's own lists, read from the
installed package so that published figures can be reproduced.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipcls.errors import LabelError, TemplateError
from clipcls.labels import Label
from clipcls.text import content_lines, is_writable, read_file

_INSTALLED = Path(__file__).parent / "prompts"
# Data lies beside `src/` in the source tree and is part of the package in a wheel.
DATA = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "prompts"
"""The folder of the template sets and other texts that come with clipcls."""

SLOT = "<>"
"""Where the label's text goes."""

DEFAULT_SET = "photo"
"""The set in force when nobody chose templates."""

_OPEN_CLIP_SETS = {
    "openai7": ("SIMPLE_IMAGENET_TEMPLATES", "OpenAI's seven best for ImageNet"),
    "openai80": ("OPENAI_IMAGENET_TEMPLATES", "OpenAI's full ImageNet ensemble"),
}

_ARTICLE = r"(?:an?|the)\s+"
_STARTS_WITH_ARTICLE = re.compile(rf"{_ARTICLE}\S", re.IGNORECASE)
_ARTICLE_AND_SLOT = re.compile(rf"(?<![\w-]){_ARTICLE}{SLOT}|{SLOT}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """A named list of templates.

    Attributes:
        name: What `--templates` takes.
        description: What the set is for, one line.
        templates: Texts with the slot `<>`, in order.
    """

    name: str
    description: str
    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The finished prompts of all labels.

    Attributes:
        labels: The C label names, in the user's order.
        prompts: C tuples: the prompts of each label, never empty, without repetition.
    """

    labels: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]

    def fingerprint(self) -> str:
        """Return a hex digest of labels and prompts, in order; equal exactly when both are."""
        text = json.dumps(["PromptSet", self.labels, self.prompts])
        return hashlib.sha256(text.encode()).hexdigest()

    def flat(self) -> list[str]:
        """Return all prompts, label by label; a prompt that two labels share is there twice."""
        return [prompt for prompts in self.prompts for prompt in prompts]


# --- templates ------------------------------------------------------------------------------------


def parse_template(text: str, where: str = "--template") -> str:
    """Return a template with every `{}` written as `<>` and without blanks around it.

    Args:
        text: What the user wrote.
        where: Where it stands, for messages.

    Raises:
        TemplateError: There is no slot, or a character that cannot be encoded or shown on a line.
    """
    template = text.strip().replace("{}", SLOT)
    if SLOT not in template:
        raise TemplateError(
            f"{where}: the template {template!r} has no slot: write {SLOT} or {{}} where the"
            f" label goes, such as 'a photo of a {SLOT}'"
        )
    if not is_writable(template):
        raise TemplateError(
            f"{where}: {template!r} holds a line break, tab or other character that is no text:"
            " remove it"
        )
    return template


def load_templates(name: str, notes: list[str] | None = None) -> tuple[str, ...]:
    """Return the templates of a named set or of a .txt file.

    A set's name wins over a file of that name in the current folder: `./photo` is the file.

    Args:
        name: A name of `set_names`, or a file with one template per line; blank lines and lines
            that begin with `#` do not count. `-` is standard input.
        notes: Is given a line when the file's encoding had to be guessed.

    Raises:
        TemplateError: There is no such set or file, it cannot be read, or a line has no slot.
    """
    if name in set_names():
        return find_set(name).templates
    if _has_slot(name):
        raise TemplateError(f"--templates: {name!r} is a template: give it with --template")
    path = Path(name)
    # os.path, because Path.is_file fails for a name too long to exist.
    if name == "-" or os.path.isfile(name) or path.suffix or path.name != name:
        return _file_templates(path, notes)
    return find_set(name).templates


def make_templates(templates: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    """Read templates from what a Python caller passes.

    Args:
        templates: One template (a text with a slot), the name of a set or the path of a file, a
            sequence of templates, or None for the default set.

    Raises:
        TemplateError: As in `parse_template` and `load_templates`, or the sequence is empty.
    """
    if templates is None:
        return load_templates(DEFAULT_SET)
    if isinstance(templates, Path):
        return _file_templates(templates)
    if isinstance(templates, str):
        if _has_slot(templates):
            return (parse_template(templates, "templates"),)
        return load_templates(templates)
    return _numbered(templates, "templates, template")


def collect_templates(
    *, single: Sequence[str] = (), named: str | None = None, notes: list[str] | None = None
) -> tuple[str, ...]:
    """Join the templates of both flags: those of `--template` first, then the set's.

    Args:
        single: Values of `--template`.
        named: Value of `--templates`: a set or a file.
        notes: As in `load_templates`.

    Returns:
        Templates in order; the default set's when nothing was given.

    Raises:
        TemplateError: As in `parse_template` and `load_templates`.
    """
    if not single:
        return load_templates(named or DEFAULT_SET, notes)
    own = tuple(parse_template(text) for text in single)
    return own + load_templates(named, notes) if named else own


def _has_slot(text: str) -> bool:
    return SLOT in text or "{}" in text


def _numbered(texts: Iterable[str], what: str) -> tuple[str, ...]:
    return tuple(parse_template(text, f"{what} {i}") for i, text in enumerate(texts, 1))


def _file_templates(path: Path, notes: list[str] | None = None) -> tuple[str, ...]:
    name, text = read_file(path, TemplateError, notes)
    templates = tuple(parse_template(line, where) for where, line in content_lines(text, name))
    if not templates:
        raise TemplateError(f"{name}: the file holds no templates: write one per line with {SLOT}")
    return templates


# --- sets -----------------------------------------------------------------------------------------


def set_names() -> tuple[str, ...]:
    """Return the names that `--templates` takes, the default first; reads no file."""
    packaged = sorted(_packaged_sets(), key=lambda name: (name != DEFAULT_SET, name))
    return (*packaged, *_OPEN_CLIP_SETS)


def list_sets() -> tuple[TemplateSet, ...]:
    """Return all named sets, the default first; torch is not imported."""
    return tuple(find_set(name) for name in set_names())


def find_set(name: str) -> TemplateSet:
    """Return the set of that name; torch is not imported.

    Raises:
        TemplateError: There is none; says which there are and which is meant, perhaps.
    """
    if name in _OPEN_CLIP_SETS:
        constant, description = _OPEN_CLIP_SETS[name]
        functions: Sequence[Callable[[str], str]] = getattr(_open_clip_metadata(), constant)
        templates = _numbered((function(SLOT) for function in functions), f"{name}, template")
        return TemplateSet(name, f"{description}, from open_clip", templates)
    file = _packaged_sets().get(name)
    if file is None:
        near = difflib.get_close_matches(name.lower(), set_names(), n=2)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise TemplateError(
            f"there is no set {name!r}{hint}; the template sets are {', '.join(set_names())};"
            " --templates also takes the path of a .txt file"
        )
    _, text = read_file(file, TemplateError)
    return TemplateSet(name, text.split("\n")[0].lstrip("# "), _file_templates(file))


def _packaged_sets() -> dict[str, Path]:
    return {path.stem: path for path in DATA.glob("*.txt")}


def _open_clip_metadata() -> object:
    """Load `open_clip.zero_shot_metadata` alone.

    The module is nothing but texts; importing it through its package would load torch, which takes
    seconds, to list them or to report a mistake in a flag.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise TemplateError("openai7 and openai80 come with open_clip: pip install open_clip_torch")
    file = Path(package.submodule_search_locations[0]) / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("_clipcls_zero_shot_metadata", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise TemplateError(
            "this open_clip has no zero_shot_metadata: pip install 'open_clip_torch>=3.3,<4'"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- prompts --------------------------------------------------------------------------------------


def build_prompts(labels: Sequence[Label], templates: Sequence[str]) -> PromptSet:
    """Put every wording of every label into every template.

    When a wording begins with an article (a, an, the) and the template has one directly before the
    slot, the template's is dropped: `a photo of a <>` and `a person wearing glasses` give `a photo
    of a person wearing glasses`. Nothing else is altered: `a` does not become `an`, because the
    published figures use the plain text.

    Args:
        labels: C labels.
        templates: Templates; each label gets them in this order, with all its wordings in each.

    Returns:
        The prompts, per label in the order of `labels`.

    Raises:
        TemplateError: There are no templates, or one has no slot.
        LabelError: Two labels have the same prompts, so no model could tell them apart.
    """
    parsed = _numbered(templates, "template")
    if not parsed:
        raise TemplateError("no templates: give --template TEXT or --templates SET")
    prompts = tuple(
        tuple(dict.fromkeys(fill(text, wording) for text in parsed for wording in label.wordings))
        for label in labels
    )
    owners: dict[frozenset[str], str] = {}
    for label, texts in zip(labels, prompts, strict=True):
        # A set, because the mean over a label's prompts does not know their order.
        owner = owners.setdefault(frozenset(texts), label.name)
        if owner != label.name:
            raise LabelError(
                f"the labels {owner!r} and {label.name!r} have the same prompts ({texts[0]!r}), so"
                f" no model can tell them apart: give one its own text ({label.name}=...) or remove"
                " it"
            )
    return PromptSet(tuple(label.name for label in labels), prompts)


def fill(template: str, wording: str) -> str:
    """Return the prompt of a wording; see `build_prompts` about articles."""
    if _STARTS_WITH_ARTICLE.match(wording):
        return _ARTICLE_AND_SLOT.sub(lambda _: wording, template)
    return template.replace(SLOT, wording)
