"""The library's front door: labels in, predictions out, from Python."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipcls.errors import ModelError
from clipcls.inputs.decode import is_candidate, load_image
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.walk import PathStream
from clipcls.labels import Label, make_labels
from clipcls.models.auto import settle
from clipcls.models.devices import choose_device
from clipcls.models.names import ModelSpec, default_model, resolve_model
from clipcls.models.openclip import load_encoder
from clipcls.options import DecodeOptions, DiscoveryOptions, RuntimeOptions, ScoringOptions
from clipcls.pipeline import Pace, classify_refs, record_of
from clipcls.prompts import DEFAULT_SET, PromptSet, build_prompts, make_templates
from clipcls.records import Failure, Prediction, Record
from clipcls.scoring import Scorer, check_labels_fit, class_matrix

if TYPE_CHECKING:
    from PIL import Image

    from clipcls.models.openclip import Encoder

Labels = str | Sequence[str] | Sequence[Label] | Mapping[str, str | Sequence[str]]
PathLike = str | os.PathLike[str]


class Classifier:
    """A model and a set of labels, ready to score pictures.

    ```python
    from clipcls import Classifier

    classifier = Classifier(["cat", "dog"], templates=["a photo of a <>"])
    print(classifier("pet.jpg").prediction)
    for record in classifier.classify(["holiday/", "pet.jpg"]):
        print(record.path, record)
    ```

    Args:
        labels: Names (`["cat", "dog"]` or `"cat,dog"`), or a mapping from names to one or several
            wordings (`{"glasses": "a person wearing glasses"}`).
        model: `mini`, a preset, an open_clip name, a folder or a file (see `clipcls models`), what
            `resolve_model` returned, or an object that has the methods of `Encoder`. None is the
            environment variable `CLIPCLS_MODEL`, else `auto`: the preset `fast`, or, with a
            warning, `mini` where `fast` is not on this machine and cannot be downloaded.
        templates: The name of a template set, or texts with the slot `<>`.
        scoring: Softmax or sigmoid, threshold and margin.
        decode: What is taken for a picture.
        runtime: Device, precision, batch size, decode threads.

    Raises:
        ClipclsError: See `clipcls.errors`.
    """

    def __init__(
        self,
        labels: Labels,
        *,
        model: str | ModelSpec | Encoder | None = None,
        templates: str | Sequence[str] = DEFAULT_SET,
        scoring: ScoringOptions | None = None,
        decode: DecodeOptions | None = None,
        runtime: RuntimeOptions | None = None,
    ) -> None:
        self.prompts = build_prompts(make_labels(labels), make_templates(templates))
        self._decode = decode or DecodeOptions()
        scoring = scoring or ScoringOptions()
        check_labels_fit(self.prompts.labels, scoring)
        if model is None or isinstance(model, str):
            model = resolve_model(model or default_model())
        self.device = choose_device(runtime or RuntimeOptions())
        if isinstance(model, ModelSpec):
            model = settle(model)
        self.encoder: Encoder = (
            load_encoder(model, self.device) if isinstance(model, ModelSpec) else model
        )
        notes = model.notes if isinstance(model, ModelSpec) else ()
        for message in (*notes, *advice(self.prompts, self.encoder, scoring)):
            warnings.warn(message, stacklevel=2)
        self._scorer = make_scorer(self.prompts, self.encoder, scoring)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of every array of scores."""
        return self.prompts.labels

    def classify(self, paths: PathLike | Iterable[PathLike]) -> Iterator[Record]:
        """Yield one `Prediction` or `Failure` per picture, in the order of the paths.

        Args:
            paths: Files and folders, consumed a few batches ahead. A folder stands for the pictures
                in and below it, in natural order. A file that is not there becomes a `Failure`,
                a file that is reached twice is scored once.
        """
        # A single path is not a sequence of one-letter paths.
        listed = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        refs = PathStream(
            (os.fspath(path) for path in listed), DiscoveryOptions(), is_image=is_candidate
        )
        pace = Pace(self.device.batch_size, self.device.workers)
        return classify_refs(refs, self.encoder, self._scorer, self._decode, pace)

    def __call__(self, image: PathLike | bytes | Image.Image) -> Prediction:
        """Score one picture: a path, the bytes of a file, or a PIL image.

        Raises:
            DecodeError: It cannot be decoded.
            ModelError: The model gives no finite numbers for it.
        """
        decoded = load_image(image, self._decode)
        pixels = self.encoder.prepare(decoded.image)[None]
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""
        scores = self._scorer(self.encoder.encode_images(pixels))
        record = record_of(ImageRef(0, path), scores, 0, decoded.note)
        if isinstance(record, Failure):
            raise ModelError(record.reason)
        return record


def make_scorer(prompts: PromptSet, encoder: Encoder, options: ScoringOptions) -> Scorer:
    """Encode the prompts once and return what scores image embeddings against them.

    Raises:
        ModelError: The model gives no finite numbers, as a low precision or bad weights can.
    """
    counts = [len(texts) for texts in prompts.prompts]
    classes = class_matrix(encoder.encode_texts(prompts.flat()), counts)
    if not np.isfinite(classes).all():
        raise ModelError(
            f"{encoder.name} gives no finite numbers for the prompts (--precision fp32)"
        )
    return Scorer(
        labels=prompts.labels,
        classes=classes,
        scale=encoder.logit_scale,
        bias=encoder.logit_bias,
        options=options,
    )


def advice(prompts: PromptSet, encoder: Encoder, scoring: ScoringOptions) -> list[str]:
    """Return what the user should know about this combination of labels and model."""
    messages = []
    if len(prompts.labels) == 1 and not scoring.multi_label:
        messages.append(
            f"'{prompts.labels[0]}' is the only label, so its probability is always 1.0:"
            " add a label for everything else, or use --multi-label"
        )
    if scoring.multi_label and encoder.logit_bias == 0.0:
        messages.append(
            f"{encoder.name} was not trained for independent labels: rank with these"
            " probabilities, but do not read them as chances (SigLIP models were)"
        )
    texts = list(dict.fromkeys(prompts.flat()))
    limit = encoder.context_length
    long = [(t, n) for t, n in zip(texts, encoder.count_tokens(texts), strict=True) if n > limit]
    if long:
        more = f" and {len(long) - 1} more" if len(long) > 1 else ""
        messages.append(
            f"'{long[0][0][:60]}...'{more}: {long[0][1]} tokens, {encoder.name} reads {limit} and"
            " ignores the rest; shorten the wording or the template"
        )
    return messages
