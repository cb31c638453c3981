"""The parts of every job: which images, what is asked of them, which model answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipcls.heads import Head
from clipcls.labels import Label
from clipcls.options import DecodeOptions, DiscoveryOptions, RuntimeOptions, ScoringOptions
from clipcls.shards import Shard


@dataclass(frozen=True)
class Inputs:
    """Which images.

    Attributes:
        paths: Files, folders, globs, `@list` and `-`, as given.
        discovery: How they are turned into a list of images.
        decode: What is taken for an image.
        shard: The part of the list that is meant; None is all of it.
    """

    paths: tuple[str, ...]
    discovery: DiscoveryOptions = field(default_factory=DiscoveryOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    shard: Shard | None = None


@dataclass(frozen=True)
class Question:
    """What is asked of each image.

    Attributes:
        labels: The labels with their wordings.
        templates: Finished templates, each with the slot `<>`.
        scoring: How logits become predictions.
        head: What gives the logits in place of prompts; its labels are those asked.
    """

    labels: tuple[Label, ...]
    templates: tuple[str, ...]
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    head: Head | None = None


@dataclass(frozen=True)
class ModelChoice:
    """Which model answers, and where.

    Attributes:
        word: `auto`, `mini`, a preset, name, folder or file (see `clipcls.models.names`).
        architecture: The architecture of a bare weight file.
        runtime: Where and how fast.
    """

    word: str
    architecture: str | None = None
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
