"""Probabilities equal those of a plain open_clip script, to 1e-5 in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from clipcls import Classifier, Prediction, RuntimeOptions, ScoringOptions
from clipcls.devices import DeviceChoice
from clipcls.encoder import Encoder, load_encoder
from clipcls.models import resolve_model
from clipcls.options import Precision
from tests.checkpoints import CheckpointFolders, checkpoints

__all__ = ["checkpoints"]

CPU = DeviceChoice("cpu", Precision.FP32, batch_size=5, workers=2, reason="test")
PROMPTS = [
    "a photo of a cat",
    "A photo of a DOG, running!",
    "un café très  allongé \N{HOT BEVERAGE}",
    "rocket",
    "a very long text " * 30,
]
SIZES = [(37, 91), (640, 480), (224, 224), (333, 1001), (1001, 333), (256, 255), (64, 64)]
"""(width, height), odd ones on purpose."""

slow = pytest.mark.slow
ARCHITECTURES = [
    pytest.param("tiny"),
    pytest.param("siglip-style"),
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


def plain_script(folder: Path, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
    """Score each picture as the plain open_clip user does, one at a time: (N, C) logits."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    rows = []
    with torch.no_grad():
        text = model.encode_text(tokenizer(list(prompts)), normalize=True)
        for image in images:
            features = model.encode_image(preprocess(image).unsqueeze(0), normalize=True)
            logits = model.logit_scale.exp() * features @ text.T
            rows.append(logits if model.logit_bias is None else logits + model.logit_bias)
    return torch.cat(rows)


def encoder_logits(
    encoder: Encoder, images: Sequence[Image.Image], prompts: Sequence[str], batch_size: int
) -> NDArray[np.float32]:
    """Score the pictures through the encoder in batches: (N, C) logits."""
    pixels = [encoder.prepare(image) for image in images]
    text = encoder.encode_texts(prompts)
    rows = [
        encoder.encode_images(np.stack(pixels[i : i + batch_size]))
        for i in range(0, len(pixels), batch_size)
    ]
    logits = encoder.logit_scale * np.concatenate(rows) @ text.T + encoder.logit_bias
    return logits.astype(np.float32)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_probabilities_equal_a_plain_script(checkpoints: CheckpointFolders, name: str) -> None:
    folder = checkpoints.folder(name)
    images = pictures()
    expected = plain_script(folder, images, PROMPTS)
    # A model that answers the same to every picture would prove nothing.
    assert expected.std(dim=0).max() > 1.0

    encoder = load_encoder(resolve_model(str(folder)), CPU)
    for batch_size in (1, 5):
        logits = torch.from_numpy(encoder_logits(encoder, images, PROMPTS, batch_size))
        for probabilities in (lambda x: x.softmax(dim=-1), torch.sigmoid):
            np.testing.assert_allclose(
                probabilities(logits), probabilities(expected), rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("name", ["tiny", "siglip-style", pytest.param("ViT-B-32", marks=slow)])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_whole_way_from_files_equals_a_plain_script(
    checkpoints: CheckpointFolders, tmp_path: Path, name: str
) -> None:
    """Files, decode threads, batches, class matrix and scoring: whatever their sizes."""
    folder = checkpoints.folder(name)
    images = pictures()
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    labels = ["cat", "a dog on a sofa", "rocket"]
    prompts = [f"a photo of a {label}" for label in labels[:1] + labels[2:]]
    prompts.insert(1, "a photo of a dog on a sofa")
    logits = plain_script(folder, images, prompts)
    for batch_size, workers, multi_label in [(1, 1, False), (4, 2, True), (32, 4, False)]:
        classifier = Classifier(
            labels,
            model=str(folder),
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
