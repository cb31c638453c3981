"""Probabilities equal those of a plain open_clip script, to 1e-5 in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageFilter

from clipcls import Classifier, Prediction, RuntimeOptions, ScoringOptions
from clipcls.models.devices import DeviceChoice
from clipcls.models.names import MINI_FOLDER, resolve_model
from clipcls.models.openclip import load_encoder
from clipcls.options import Precision
from tests.checkpoints import CheckpointFolders, checkpoints

__all__ = ["checkpoints"]

CPU = DeviceChoice("cpu", Precision.FP32, batch_size=5, workers=2, reason="test")
CLASSES: Mapping[str, list[str]] = {
    "cat": ["a photo of a cat"],
    "DOG": ["A photo of a DOG, running!"],
    "café": ["un café très  allongé \N{HOT BEVERAGE}"],
    "rocket": ["rocket", "the launch of a rocket"],
    "novel": ["a very long text " * 30],
}
"""Label -> prompts: case, accents, punctuation, an ensemble, and one beyond the context length."""

RUNS = [(1, 1, False), (4, 2, True), (32, 4, False)]
"""(batch size, decode threads, multi-label)"""

SIZES = [(37, 91), (640, 480), (224, 224), (333, 1001), (1001, 333), (256, 255), (64, 64)]
"""(width, height), odd ones on purpose."""

slow = pytest.mark.slow
ARCHITECTURES = [
    pytest.param("tiny"),
    pytest.param("siglip-style"),
    pytest.param("mini"),
    pytest.param("ViT-B-32", marks=slow),
    pytest.param("ViT-B-32-quickgelu", marks=slow),
    pytest.param("RN50", marks=slow),
    pytest.param("MobileCLIP2-S0", marks=slow),
    pytest.param("PE-Core-T-16-384", marks=slow),
]


def pictures() -> list[Image.Image]:
    """Return upright RGB pictures of odd sizes that differ in colour and in detail."""
    rng = np.random.default_rng(0)
    made = []
    for i, size in enumerate(SIZES):
        noise = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
        colour = Image.new("RGB", size, tuple(int(c) for c in rng.integers(0, 256, 3)))
        made.append(Image.blend(noise.filter(ImageFilter.GaussianBlur(i)), colour, 0.5))
    return made


def plain_script(folder: Path, images: Sequence[Image.Image]) -> Any:
    """Score each picture as the plain open_clip user does, one at a time: (N, C) logits."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    normalize = torch.nn.functional.normalize
    with torch.no_grad():
        classes = torch.stack([
            normalize(model.encode_text(tokenizer(prompts), normalize=True).mean(dim=0), dim=-1)
            for prompts in CLASSES.values()
        ])  # fmt: skip
        rows = []
        for image in images:
            features = model.encode_image(preprocess(image).unsqueeze(0), normalize=True)
            logits = model.logit_scale.exp() * features @ classes.T
            rows.append(logits if model.logit_bias is None else logits + model.logit_bias)
    return torch.cat(rows)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_probabilities_equal_a_plain_script(
    checkpoints: CheckpointFolders, tmp_path: Path, name: str
) -> None:
    """The whole way: files, threads, batches, prompts, scoring, whatever the sizes."""
    folder = MINI_FOLDER if name == "mini" else checkpoints.folder(name)
    images = pictures()
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    logits = plain_script(folder, images)
    # A model that answers the same to every picture would prove nothing.
    assert logits.std(dim=0).max() > 1.0

    encoder = load_encoder(resolve_model(str(folder)), CPU)
    for batch_size, workers, multi_label in RUNS:
        classifier = Classifier(
            CLASSES,
            model=encoder,
            templates=["<>"],
            runtime=RuntimeOptions("cpu", Precision.FP32, batch_size, workers),
            scoring=ScoringOptions(multi_label=multi_label),
        )
        expected = torch.sigmoid(logits) if multi_label else logits.softmax(dim=-1)
        records = list(classifier.classify(tmp_path))
        assert [Path(record.path).stem for record in records] == [str(i) for i in range(7)]
        for record, row in zip(records, expected, strict=True):
            assert isinstance(record, Prediction)
            np.testing.assert_allclose(record.probabilities, row, rtol=0, atol=1e-5)
            np.testing.assert_allclose(record.logits, logits[record.index], rtol=0, atol=1e-3)
            assert record.prediction == list(CLASSES)[int(logits[record.index].argmax())]
