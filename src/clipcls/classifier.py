"""The one assembly: labels and a model in, predictions out. Python users and `run` both use it."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import cached_property
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import clipcls
from clipcls.cache import EmbeddingCache, Shelf
from clipcls.embed import EmbeddingStream, Stages, embed, embedded
from clipcls.errors import (
    DeviceError,
    LabelError,
    ModelError,
    OptionError,
)
from clipcls.fitted import check_model, check_question
from clipcls.heads import Head, read_head
from clipcls.inputs.decode import load_image
from clipcls.inputs.recognize import is_candidate
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.walk import PathStream
from clipcls.labels import Label, make_labels
from clipcls.lazy import LazyEncoder
from clipcls.models.auto import settle
from clipcls.models.devices import DeviceChoice, choose_device, place
from clipcls.models.files import Tell
from clipcls.models.names import ModelSpec, default_model, resolve_model
from clipcls.models.openclip import load_encoder, load_transform
from clipcls.options import (
    DecodeOptions,
    DiscoveryOptions,
    Precision,
    RuntimeOptions,
    ScoringOptions,
)
from clipcls.prompts import DEFAULT_SET, PromptSet, build_prompts, make_templates
from clipcls.question import ModelChoice, Question
from clipcls.records import Failure, Prediction, Record
from clipcls.scoring import Scorer, check_labels_fit, class_matrix, score
from clipcls.unknown import competing_words, embed_words

if TYPE_CHECKING:
    from PIL import Image

    from clipcls.models.base import Encoder, Preparer

Labels = str | Sequence[str] | Sequence[Label] | Mapping[str, str | Sequence[str]]
PathLike = str | os.PathLike[str]


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def _say_nothing(message: str) -> None:
    pass


class Classifier:
    """A model and a set of labels, ready to score images.

    ```python
    from clipcls import Classifier

    classifier = Classifier(["cat", "dog"], templates=["a photo of a <>"])
    print(classifier("pet.jpg").prediction)
    for record in classifier.classify(["holiday/", "pet.jpg"]):
        print(record.path, record)
    ```

    What is written is checked at once; the model is loaded when it is first needed.

    Args:
        labels: Names (`["cat", "dog"]` or `"cat,dog"`), or a mapping from names to one or several
            wordings (`{"glasses": "a person wearing glasses"}`). None takes those of the head.
        head: What `clipcls learn` made, or its file, in place of labels and templates.
        model: `mini`, a preset, an open_clip name, a folder or a file (see `clipcls models`), what
            `resolve_model` returned, or an object that has the methods of `Encoder`. None is the
            head's model, else the environment variable `CLIPCLS_MODEL`, else `auto`: the preset
            `fast`, or, with a warning, `mini` where `fast` is not on this machine and cannot be
            downloaded.
        templates: The name of a template set, or texts with the slot `<>`.
        scoring: Softmax or sigmoid, threshold and margin.
        decode: What is taken for an image, and how it is fitted to the model.
        runtime: Device, precision, batch size, decode threads.

    Attributes:
        prompts: The labels with their finished prompts (of a head, those it was learned on from).
        warn: Told what the user should know, when the model is loaded; Python's own warnings by
            default.
        tell: Told of work that takes a while; silent by default.

    Raises:
        ClipclsError: See `clipcls.errors`.
    """

    def __init__(  # noqa: PLR0913  what a classifier is made of
        self,
        labels: Labels | None = None,
        *,
        head: Head | PathLike | None = None,
        model: str | ModelSpec | Encoder | None = None,
        templates: str | Sequence[str] = DEFAULT_SET,
        scoring: ScoringOptions | None = None,
        decode: DecodeOptions | None = None,
        runtime: RuntimeOptions | None = None,
    ) -> None:
        self._head = read_head(Path(head)) if isinstance(head, (str, os.PathLike)) else head
        self.prompts, wordings, self._template = _asked(labels, templates, self._head)
        self.warn: Callable[[str], None] = _warn
        self.tell: Callable[[str], None] = _say_nothing
        self._scoring = scoring or ScoringOptions()
        self._decode = decode or DecodeOptions()
        self._runtime = runtime or RuntimeOptions()
        check_labels_fit(self.prompts.labels, self._scoring)
        if self._head is not None and self._scoring.multi_label:
            raise OptionError(
                "--head and --multi-label contradict each other: a head is learned for one label"
                " to an image"
            )
        if self._head is not None and self._scoring.unknown is not None:
            raise OptionError(
                "--head and --unknown contradict each other: words compete with prompts, and a head"
                " does without prompts"
            )
        self._words: tuple[str, ...] = ()
        if self._scoring.unknown is not None:
            self._words = competing_words(self._scoring.unknown.words, wordings)
        if self._scoring.calibration is not None:
            check_question(self._scoring.calibration, self._head, self.prompts)
        if model is None and self._head is not None:
            model = resolve_model(self._head.model, self._head.architecture)
        elif model is None or isinstance(model, str):
            model = resolve_model(model or default_model())
        self._model = model
        self._settled = False

    def __getstate__(self) -> dict[str, object]:
        """Return what another process needs to be the same classifier, where nothing is loaded."""
        asked = ("prompts", "_words", "_template", "_head", "_scoring")
        kept = (*asked, "_decode", "_runtime", "_model", "_settled")
        return {"warn": _warn, "tell": _say_nothing, **{name: vars(self)[name] for name in kept}}

    def elsewhere(self, runtime: RuntimeOptions) -> Classifier:
        """Return the same classifier, where nothing is loaded, for another machine."""
        other = copy(self)
        other._runtime = runtime
        return other

    def asking(self, question: Question) -> Classifier:
        """Return a classifier that asks something else of the same model, which is loaded once.

        Raises:
            ClipclsError: As from `Classifier`, and what was fitted is for another model.
        """
        self.settle()
        other = ask(question, ModelChoice("", runtime=self._runtime), self._decode, self._model)
        other.warn, other.tell = self.warn, self.tell
        other._check_fitted()
        other._settled = True
        other.encoder = self.encoder
        return other

    @property
    def runtime(self) -> RuntimeOptions:
        """Where and how fast, as asked for."""
        return self._runtime

    @property
    def decode(self) -> DecodeOptions:
        """What is taken for an image, and how it is fitted to the model."""
        return self._decode

    @property
    def preparer(self) -> Preparer:
        """What prepares images for the model; its weights are not loaded for it."""
        if isinstance(self._model, ModelSpec):
            return load_transform(self._model.config(), self._decode)
        return self._model

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of every array of scores."""
        return self.prompts.labels

    @cached_property
    def device(self) -> DeviceChoice:
        """Where the model runs, in which precision; found out when it is first asked for.

        With a cache, what was chosen for the same wish before is taken, so that a run whose every
        embedding is cached needs no torch; it is chosen anew when the model is loaded.
        """
        if self._cache is None:
            return choose_device(self._runtime)
        found = self._cache.facts(self._wish)
        if found:
            with suppress(KeyError, ValueError):
                precision = Precision(found["precision"])
                return place(found["device"], precision, found["reason"], self._runtime)
        chosen = choose_device(self._runtime)
        kept = {"device": chosen.device, "precision": chosen.precision, "reason": chosen.reason}
        self._cache.keep_facts(self._wish, kept)
        return chosen

    @cached_property
    def encoder(self) -> Encoder:
        """The model, loaded when it is first needed."""
        # First, because a device that is not there must not cost a download.
        device = self.device
        self.settle()
        if self._shelf is None and not isinstance(self._model, ModelSpec):
            return self._model
        return LazyEncoder(self._load, self._shelf, device.precision.value)

    def _load(self, ready: Callable[[Preparer], None]) -> Encoder:
        if not isinstance(self._model, ModelSpec):
            return self._model
        if self._cache is not None:
            chosen = choose_device(self._runtime)
            if (chosen.device, chosen.precision) != (self.device.device, self.device.precision):
                self._cache.keep_facts(self._wish, None)
                raise DeviceError(
                    f"the devices of this machine have changed: the last run chose"
                    f" {self.device.device}, {self.device.precision}, and now it would be"
                    f" {chosen.device}, {chosen.precision}; run it once more"
                )
        return load_encoder(self._model, self.device, self._decode, ready)

    @cached_property
    def _cache(self) -> EmbeddingCache | None:
        # Whether it can be used is told like everything else that the user should know.
        options = self._runtime.cache
        return None if options is None else EmbeddingCache(options, lambda text: self.warn(text))

    @property
    def _wish(self) -> bytes:
        """The key of the device that was chosen for these options on this machine."""
        # Machines of many kinds may share a cache.
        asked = (self._runtime.device, self._runtime.precision, version("torch"), platform.node())
        return _key("device", *asked)

    @cached_property
    def _shelf(self) -> Shelf | None:
        if self._cache is None:
            return None
        # Pillow decides about pixels too; open_clip's version is part of the fingerprint.
        made_by = (self.fingerprint(self.device.precision), self._decode.fingerprint())
        return Shelf(self._cache, _key(*made_by, clipcls.__version__, version("pillow")))

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    def settle(self, made_by: str | None = None, tell: Tell | None = None) -> None:
        """Decide which model `auto` is and have its weights here; see `clipcls.models.auto`.

        Args:
            made_by: The model that made the rows which are to be continued.
            tell: Told of a download, which then draws its progress on stderr.
        """
        if self._settled:
            return
        if isinstance(self._model, ModelSpec):
            self._model = settle(self._model, made_by=made_by, tell=tell)
            for note in self._model.notes:
                self.warn(note)
            self._model.checkpoint(tell)
        self._check_fitted()
        self._settled = True

    def _check_fitted(self) -> None:
        made = (self._head, self._scoring.calibration)
        if any(made):
            check_model(*made, self.name, self.fingerprint(Precision.FP32))

    def fingerprint(self, precision: Precision) -> str:
        """Return the digest of whatever changes an embedding, without loading the model."""
        if isinstance(self._model, ModelSpec):
            return self._model.fingerprint(precision, self._decode)
        return self._model.fingerprint

    def identity(self, precision: Precision) -> dict[str, str]:
        """Return name, precision and fingerprint of the model, as manifests have them."""
        return {
            "name": self.name,
            "precision": precision.value,
            "fingerprint": self.fingerprint(precision),
        }

    @cached_property
    def scorer(self) -> Scorer:
        """What turns embeddings into predictions: the prompts, encoded once.

        Raises:
            ModelError: The model gives no finite numbers, as a low precision or bad weights can.
        """
        if self._head is not None:
            self.settle()
            return _head_scorer(self._head, self._scoring)
        encoder = self.encoder
        for message in self._advice():
            self.warn(message)
        counts = [len(texts) for texts in self.prompts.prompts]
        classes = class_matrix(encoder.encode_texts(self.prompts.flat()), counts)
        if not np.isfinite(classes).all():
            raise ModelError(
                f"{encoder.name} gives no finite numbers for the prompts (--precision fp32)"
            )
        words = None
        if self._words:
            words = embed_words(encoder, self._words, self._template, classes, self.tell)
        return Scorer(
            labels=self.labels,
            classes=classes,
            scale=encoder.logit_scale,
            bias=encoder.logit_bias,
            options=self._scoring,
            words=words,
        )

    def classify(self, paths: PathLike | Iterable[PathLike]) -> Iterator[Record]:
        """Yield one `Prediction` or `Failure` per image, in the order of the paths.

        Args:
            paths: Files and folders, consumed a few batches ahead. A folder stands for the images
                in and below it, in natural order. A file that is not there becomes a `Failure`.
        """
        # A single path is not a sequence of one-letter paths.
        listed = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        refs = PathStream(
            (os.fspath(path) for path in listed), DiscoveryOptions(), is_image=is_candidate
        )
        scorer = self.scorer
        return score(self.embed(refs), scorer)

    def embed(
        self,
        refs: Iterable[ImageRef],
        stages: Stages | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> EmbeddingStream:
        """Embed images: one `Embedded` or `Failure` per reference; see `clipcls.embed.embed`.

        Args:
            refs: The images, consumed a few batches ahead.
            stages: How the work is cut up; None lets the device decide.
            should_stop: True ends the stream.
        """
        device = self.device
        stages = stages or Stages(device.batch_size, device.workers, in_flight=device.in_flight)
        return embed(refs, self.encoder, self._decode, stages, should_stop, self._shelf)

    def __call__(self, image: PathLike | bytes | Image.Image) -> Prediction:
        """Score one image: a path, the bytes of a file, or a PIL image.

        Raises:
            DecodeError: It cannot be decoded.
            ModelError: The model gives no finite numbers for it.
        """
        decoded = load_image(image, self._decode, max(self.encoder.image_size))
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""
        scorer = self.scorer
        [vector] = self.encoder.encode_images(self.encoder.prepare(decoded.image)[None])
        found = embedded(ImageRef(0, path), vector, decoded.note)
        if isinstance(found, Failure):
            raise ModelError(found.reason)
        return scorer(found)

    def _advice(self) -> Iterator[str]:
        """Yield what the user should know about this combination of labels and model."""
        encoder, multi_label = self.encoder, self._scoring.multi_label
        fitted = self._scoring.calibration
        if fitted and fitted.unknown_threshold is not None and self._scoring.unknown is None:
            yield "the calibration has a threshold for --unknown auto too, which is not asked for"
        if len(self.labels) == 1 and not multi_label:
            yield (
                f"'{self.labels[0]}' is the only label, so its probability is always 1.0:"
                " add a label for everything else, or use --multi-label"
            )
        if multi_label and encoder.logit_bias == 0.0:
            yield (
                f"{encoder.name} was not trained for independent labels: rank with these"
                " probabilities, but do not read them as chances (SigLIP models were)"
            )
        texts = list(dict.fromkeys(self.prompts.flat()))
        limit = encoder.context_length
        counts = zip(texts, encoder.count_tokens(texts), strict=True)
        if long := [(text, count) for text, count in counts if count > limit]:
            more = f" and {len(long) - 1} more" if len(long) > 1 else ""
            yield (
                f"'{long[0][0][:60]}...'{more}: {long[0][1]} tokens, {encoder.name} reads {limit}"
                " and ignores the rest; shorten the wording or the template"
            )


def _asked(
    labels: Labels | None, templates: str | Sequence[str], head: Head | None
) -> tuple[PromptSet, list[str], str]:
    """Return the labels and prompts in question, all wordings and the first template.

    Those of a head are finished, and have neither.

    Raises:
        OptionError: There are a head and labels.
        LabelError: There is neither; and as from `make_labels`.
        TemplateError: As from `make_templates`.
    """
    if head is None and labels is None:
        raise LabelError("no labels: give labels, or a head that has some")
    if head is None:
        named, filled = make_labels(labels or ()), make_templates(templates)
        wordings = [wording for label in named for wording in label.wordings]
        return build_prompts(named, filled), wordings, filled[0]
    if labels is not None:
        raise OptionError("labels and a head contradict each other: a head has its own labels")
    return PromptSet(head.labels, head.prompts), [], ""


def _head_scorer(head: Head, options: ScoringOptions) -> Scorer:
    heat = np.float32(head.temperature)
    return Scorer(head.labels, head.weights / heat, 1.0, head.biases / heat, options)


def _key(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()


def ask(
    question: Question,
    model: ModelChoice,
    decode: DecodeOptions,
    encoder: ModelSpec | Encoder | None = None,
) -> Classifier:
    """Return the classifier that a job asks for.

    Args:
        question: Labels, templates and scoring.
        model: Which model, and where.
        decode: What is taken for an image.
        encoder: Used in place of what `model` names.

    Raises:
        ClipclsError: As from `Classifier` and `resolve_model`.
    """
    return Classifier(
        None if question.head else question.labels,
        head=question.head,
        model=encoder or resolve_model(model.word, model.architecture),
        templates=question.templates,
        scoring=question.scoring,
        decode=decode,
        runtime=model.runtime,
    )
