"""The whole recipe on generated images and texts, up to a model that open_clip and clipcls load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional as F

from clipcls import Classifier, Prediction, resolve_model
from tests.training.small import (
    HUE,
    CLASSES,
    COLOURS,
    SHADE,
    WordTeacher,
    image_teacher,
    jpeg,
    write_sets,
    write_wordnet,
)
from training.mini.export import export
from training.mini.features import make_features, set_name
from training.mini.files import load_json, load_tensors
from training.mini.heads import HeadOptions, load_bridge, make_heads
from training.mini.join import WEIGHT, image_head, image_sides, joined_texts, side_by_side
from training.mini.loop import Plan, train
from training.mini.teachers import TimmTeacher
from training.mini.texts import Amounts, Words, doing, make_texts, text_pairs
from training.mini.tower import JOINED, Stage, TowerOptions, make_text_tower
from training.mini.wordnet import class_nodes, read_counts, read_synsets

HEADS = HeadOptions(
    dim=24,
    joined=28,
    batch=48,
    task=5,
    names=6,
    noise=0.2,
    plan=Plan(steps=150, lr=3e-3, warmup=10, decay=0.01),
    metric={"flickr8k-train": 30, "colours": 40},
)
TOWER = TowerOptions(width=32, heads=2, context=16, batch=64, pairs=8, images=16, tasks=8, fit=200)
STAGES = {
    "sentence": Stage("sentence", 1, Plan(40, 3e-3, 5), {"cosine": 1.0, "batch": 0.06}),
    "bridge": Stage("bridge", 2, Plan(10, 2e-3, 5), {"cosine": 1.0, "batch": 0.04, "metric": 1.0}),
    "joined": Stage("joined", 2, Plan(40, 2e-3, 5), JOINED, short=0.75),
    "pairs": Stage("joined", 2, Plan(30, 2e-3, 5), {**JOINED, "pairs": 2.0}, short=0.75),
}
AMOUNTS = Amounts(300, 300, 50, 60, 60, 40)


@pytest.fixture(scope="module")
def teacher() -> TimmTeacher:
    return image_teacher()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_sets(folder / "sets")
    write_wordnet(folder / "wordnet")
    return folder


@pytest.fixture(scope="module")
def work(world: Path, teacher: TimmTeacher) -> Iterator[Path]:
    """Run all steps but the export."""
    threads = torch.get_num_threads()
    folder = world / "work"
    for tar in sorted((world / "sets").glob("*.tar")):
        name = set_name(tar)
        views = "cr" if name == "colours" else "crl"
        make_features([tar], folder / "features" / f"{name}.npy", teacher, views)
    make_texts(folder, world / "wordnet", CLASSES, WordTeacher(), AMOUNTS)
    make_heads(folder, teacher, WordTeacher(), HEADS)
    make_text_tower(folder, WordTeacher(), TOWER, HEADS, STAGES)
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(work: Path, teacher: TimmTeacher) -> Path:
    return export(work, teacher, options=TOWER)


def test_open_clip_loads_the_model_completely(model: Path) -> None:
    loaded, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{model}")
    images = loaded.encode_image(torch.zeros(2, 3, 32, 32))
    texts = loaded.encode_text(open_clip.get_tokenizer(f"local-dir:{model}")(["a red wall"]))
    assert images.shape == (2, 28)
    assert texts.shape == (1, 28)
    assert loaded.logit_scale.exp().item() == pytest.approx(20, rel=1e-3)
    assert "size=32" in str(preprocess)


def test_clipcls_tells_the_colours_that_were_trained(model: Path, tmp_path: Path) -> None:
    for k in range(30):
        colour = list(COLOURS)[k % 6]
        (tmp_path / f"{colour}-{k:02d}.jpg").write_bytes(jpeg(colour, 7000 + k))
    classifier = Classifier(list(COLOURS), model=resolve_model(str(model)))
    records = list(classifier.classify(tmp_path))
    right = [
        isinstance(r, Prediction) and Path(r.path).name.startswith(r.prediction) for r in records
    ]
    assert len(right) == 30
    assert np.mean(right) > 0.8
