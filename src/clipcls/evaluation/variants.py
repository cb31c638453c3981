"""Variants as the user writes them, on the command line or in a TOML file, made into questions."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipcls.errors import HeadError, LabelError, OptionError, TemplateError
from clipcls.evaluation.compare import Variant
from clipcls.heads import Head, read_head
from clipcls.labels import Label, collect_labels, make_labels, read_labels
from clipcls.prompts import collect_templates
from clipcls.text import read_file, visible

KEYS = ("labels", "labels-file", "template", "templates", "head", "model", "arch")
"""What a variant may change; each is the flag of that name."""


# It names a folder of the report.
_is_name = re.compile(r"\w[\w .+=-]*").fullmatch


@dataclass(frozen=True)
class Changes:
    """What a variant changes; None keeps what the flags say.

    Attributes:
        labels: Labels with their wordings.
        templates: Finished templates.
        head: What answers in place of labels and templates.
        model: A model's name.
        architecture: The architecture of a weight file.
    """

    labels: tuple[Label, ...] | None = None
    templates: tuple[str, ...] | None = None
    head: Head | None = None
    model: str | None = None
    architecture: str | None = None


def read_variants(texts: Sequence[str], file: Path | None = None) -> dict[str, Changes]:
    """Read the values of `--variant` and the file of `--variants`; name -> changes.

    `NAME:KEY=VALUE` is taken as it is to its end; the same name again adds a key, or a template. In
    the file, each table is a variant, `labels` may also be a list or a table of wordings, and
    `template` a list.

    Raises:
        UsageError: One cannot be understood; says where and what is allowed.
    """
    settings: dict[str, dict[str, Any]] = defaultdict(dict)
    for text in texts:
        name, _, setting = text.partition(":")
        key, equals, value = setting.partition("=")
        name, key = name.strip(), key.strip()
        if not (_is_name(name) and equals and key in KEYS and value.strip()):
            raise OptionError(
                f"--variant '{visible(text)}' is not NAME:KEY=VALUE with one of the keys"
                f" {', '.join(KEYS)}, such as 'short:template=<>'"
            )
        if key == "template":
            settings[name].setdefault(key, []).append(value)
        elif key in settings[name]:
            raise OptionError(f"--variant {visible(name)} has two values for {key}: give one")
        else:
            settings[name][key] = value
    if file is not None:
        for name, table in _toml(file).items():
            if not _is_name(name):
                raise OptionError(
                    f"{file}: '{visible(name)}' is no name: letters, digits, blanks and .+=- are"
                )
            if name in settings:
                raise OptionError(f"{file}: the variant '{visible(name)}' is given twice")
            settings[name] = table
    return {name: _named_changes(name, values) for name, values in settings.items()}


def _toml(file: Path) -> Mapping[str, dict[str, Any]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    name, text = read_file(file, OptionError)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"{name}: not valid TOML: {error}") from error
    for variant, table in content.items():
        if not isinstance(table, dict) or not set(table) <= set(KEYS):
            raise OptionError(
                f"{name}: '{visible(variant)}' is no table [{visible(variant)}] with the keys"
                f" {', '.join(KEYS)}"
            )
        for key in ("labels-file", "templates", "head", "model", "arch"):
            value = table.get(key, key)
            if not isinstance(value, str) or not value.strip():
                raise OptionError(f"{name}: {key} of [{visible(variant)}] must be a text")
    return content


def _named_changes(name: str, settings: Mapping[str, Any]) -> Changes:
    """Return the changes; what is wrong with labels, templates and heads is said of the variant."""
    try:
        return _changes(name, settings)
    except (HeadError, LabelError, TemplateError) as error:
        raise type(error)(f"the variant '{visible(name)}': {error}") from error


def _changes(name: str, settings: Mapping[str, Any]) -> Changes:
    if "labels" in settings and "labels-file" in settings:
        raise OptionError(f"the variant '{visible(name)}' has labels and labels-file: give one")
    beside = [key for key in ("labels", "labels-file", "template", "templates") if key in settings]
    if "head" in settings and beside:
        raise OptionError(f"the variant '{visible(name)}' has head and {beside[0]}: give one")
    labels = None
    if isinstance(settings.get("labels"), str):
        labels = collect_labels(inline=[settings["labels"]])
    elif "labels" in settings:
        labels = make_labels(settings["labels"])
    elif "labels-file" in settings:
        labels = read_labels(Path(settings["labels-file"]))
    single = settings.get("template", ())
    single = [single] if isinstance(single, str) else single
    if not isinstance(single, Sequence) or not all(isinstance(text, str) for text in single):
        raise OptionError(
            f"the template of the variant '{visible(name)}' must be a text or a list of texts"
        )
    if "template" in settings and not single:
        raise OptionError(f"the template of the variant '{visible(name)}' is an empty list")
    named = settings.get("templates")
    return Changes(
        labels=labels,
        templates=collect_templates(single=single, named=named) if single or named else None,
        head=read_head(Path(settings["head"])) if "head" in settings else None,
        model=settings.get("model"),
        architecture=settings.get("arch"),
    )


def make_variants(base: Variant, changes: Mapping[str, Changes]) -> tuple[Variant, ...]:
    """Return the variants to score; of a single one, the base is the other.

    Args:
        base: What the flags say, with the labels of the truth.
        changes: Name -> what is different.

    Raises:
        OptionError: A variant's labels have other names than the base's.
    """
    if not changes:
        return (base,)
    if base.name in changes and len(changes) == 1:
        raise OptionError(f"the only variant is named '{base.name}', as the flags' own: rename it")
    made = [base] if len(changes) == 1 else []
    names = [label.name for label in base.question.labels]
    for name, change in changes.items():
        question, model = base.question, base.model
        if change.head is not None:
            _check_names(name, change.head.labels, names)
            question = replace(question, head=change.head)
            model = replace(model, word=change.head.model, architecture=change.head.architecture)
        if change.labels is not None:
            own = {label.name: label for label in change.labels}
            _check_names(name, own, names)
            # In one order, so that the scores of all variants stand side by side.
            question = replace(question, labels=tuple(own[label] for label in names), head=None)
        if change.templates is not None:
            question = replace(question, templates=change.templates, head=None)
        if change.model is not None:
            model = replace(model, word=change.model, architecture=change.architecture)
        elif change.architecture is not None:
            model = replace(model, architecture=change.architecture)
        made.append(Variant(name, question, model))
    return tuple(made)


def _check_names(variant: str, own: Collection[str], names: Collection[str]) -> None:
    """Refuse a variant of other labels than the base's, whatever their wordings."""
    if set(own) != set(names):
        odd = sorted(set(own) ^ set(names))[0]
        where = "only in" if odd in own else "missing in"
        raise OptionError(
            f"variants differ in wordings, not in labels: '{visible(odd)}' is {where} the"
            f" variant '{visible(variant)}' (label=wording gives a label its own text)"
        )
