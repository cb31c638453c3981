"""The whole recipe on generated images and texts, up to a model that open_clip and clipcls load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clipcls import Classifier, Prediction, resolve_model
from tests.training.small import (
    CLASSES,
    COLOURS,
    WordTeacher,
    image_teacher,
    jpeg,
    write_sets,
    write_wordnet,
)
from training.mini.export import export
from training.mini.features import make_features, set_name
from training.mini.files import finished, load_json, load_tensors, save_json, whole
from training.mini.heads import HeadOptions, load_bridge, make_heads
from training.mini.join import image_head, image_sides, joined_texts, rotation
from training.mini.loop import Plan, train
from training.mini.material import Material
from training.mini.teachers import TimmTeacher
from training.mini.texts import Amounts, doing, make_texts
from training.mini.tower import JOINED, Stage, TowerOptions, make_text_tower, make_tower
from training.mini.wordnet import class_nodes, read_counts, read_synsets

HEADS = HeadOptions(
    dim=24,
    joined=28,
    batch=48,
    task=5,
    names=6,
    noise=0.2,
    plan=Plan(80, 3e-3, 10, decay=0.01, half=False),
    metric={"flickr8k-train": 30, "colours": 40},
)
TOWER = TowerOptions(width=16, heads=2, context=16, batch=64, pairs=8, images=16, tasks=8, fit=200)
LONG, BRIEF = Plan(40, 3e-3, 5, half=False), Plan(20, 2e-3, 5, half=False)
STAGES = {
    "sentence": Stage("sentence", 1, LONG, {"cosine": 1.0, "batch": 0.06}),
    "bridge": Stage("bridge", 2, BRIEF, {"cosine": 1.0, "batch": 0.04, "metric": 1.0}),
    "joined": Stage("joined", 2, BRIEF, JOINED, short=0.75),
    "pairs": Stage("joined", 2, LONG, {**JOINED, "pairs": 2.0}, short=0.75),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks wait for their threads more than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def teacher() -> TimmTeacher:
    return image_teacher()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_sets(folder / "sets")
    write_wordnet(folder / "wordnet")
    return folder


def all_steps(world: Path, work: Path, teacher: TimmTeacher) -> Path:
    for tar in sorted((world / "sets").glob("*.tar")):
        name = set_name(tar)
        views = "cr" if name == "colours" else "crl"
        make_features([tar], work / "features" / f"{name}.npy", teacher, views)
    amounts = Amounts(300, 300, 50, 60, 60, 40)
    make_texts(work, world / "wordnet", CLASSES, WordTeacher(), amounts)
    make_heads(work, teacher, WordTeacher(), HEADS)
    make_text_tower(work, WordTeacher(), TOWER, HEADS, STAGES)
    return export(work, teacher, options=TOWER)


@pytest.fixture(scope="module")
def model(world: Path, teacher: TimmTeacher) -> Path:
    return all_steps(world, world / "work", teacher)


@pytest.fixture(scope="module")
def work(model: Path) -> Path:
    return model.parent


# --- what comes out ------------------------------------------------------------------------------


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
    right = [
        isinstance(record, Prediction) and Path(record.path).name.startswith(record.prediction)
        for record in classifier.classify(tmp_path)
    ]
    assert len(right) == 30
    assert np.mean(right) > 0.8


def test_a_second_run_does_nothing_and_no_part_is_left(
    world: Path, work: Path, teacher: TimmTeacher, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    assert not [path for path in files if "part-" in path.name or "checkpoint" in path.name]
    all_steps(world, work, teacher)
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file()} == files
    assert "pairs.pt: is there" in capsys.readouterr().out


# --- the parts -----------------------------------------------------------------------------------


def test_features_have_all_views_and_skip_what_is_listed(work: Path) -> None:
    features = work / "features"
    assert np.load(features / "flickr8k-train.npy").shape[:2] == (3, 60)
    assert np.load(features / "colours.npy").shape[:2] == (2, 60)
    said = load_json(features / "classes.json")
    assert [of["labels"] for of in said] == [[CLASSES[k % 3][0]] for k in range(12) if k % 3 < 2]
    assert load_json(features / "flickr8k-train.json")[0] == {
        "captions": ["a red wall", "it is red"]
    }


def test_what_is_said_of_an_image_decides_which_losses_see_it(
    work: Path, teacher: TimmTeacher
) -> None:
    material = Material(work, teacher)
    assert material.features.shape[:2] == (3, 128)
    assert len(material.captions) == 60
    assert {name: sorted(of) for name, of in material.names.items()} == {"colours": sorted(COLOURS)}
    assert torch.allclose(material.shares.sum(1), torch.ones(128), atol=1e-5)
    assert (material.shares[:8, :2].max(1).values > 0.7).all()  # the set "classes" comes first


def test_a_task_never_has_a_label_above_another(work: Path, teacher: TimmTeacher) -> None:
    tree = Material(work, teacher).tree
    tasks = [tree.task(np.random.default_rng(seed), 5) for seed in range(40)]
    for nodes in tasks:
        assert 0 < len(nodes) <= 5
        assert tree.members[nodes].sum(0).max() == 1
    assert any(len(tree.nodes[node].classes) > 1 for nodes in tasks for node in nodes)


def test_wordnet_is_read_and_its_nodes_are_the_classes_first(world: Path) -> None:
    nouns = list(read_synsets(world / "wordnet", "noun"))
    assert nouns[2].names == ("shade of grey",)
    assert nouns[2].gloss == "a colour"
    assert next(read_synsets(world / "wordnet", "adj")).names == ("full",)
    assert read_counts(world / "wordnet")["full", "3"] == 7
    nodes = class_nodes(nouns, [w for w, _ in CLASSES], [f"bright {n}" for _, n in CLASSES])
    assert [node.leaf for node in nodes] == [True] * 6 + [False] * 2
    assert nodes[0].names == ("bright red",) * 3 + ("red", "red paint")
    assert {node.names[0]: node.classes for node in nodes[6:]} == {
        "hue": (0, 1, 2, 3),
        "shade of grey": (4, 5),
    }


@pytest.mark.parametrize(
    ("verb", "form"),
    [("sit", "sitting"), ("make", "making"), ("lie down", "lying down"), ("see", "seeing")],
)
def test_the_ing_form(verb: str, form: str) -> None:
    assert doing(verb) == form


def test_pairs_differ_and_the_corpus_has_every_kind_once(work: Path) -> None:
    corpus, pairs = (load_json(work / "texts" / f"{n}.json") for n in ("corpus", "pairs"))
    assert len(corpus) == len(set(corpus)) == len(np.load(work / "texts" / "corpus.npy"))
    assert {"red", "lie down", "full", "what is red", "a red wall"} <= set(corpus)
    assert all(a != b for a, b in zip(pairs[::2], pairs[1::2], strict=True))
    two = [set(pair) for pair in zip(pairs[::2], pairs[1::2], strict=True)]
    assert any({"full", "empty"} == {text.split()[0] for text in pair} for pair in two)


def test_the_joined_head_is_the_two_parts_minus_their_mean_rotated(
    work: Path, teacher: TimmTeacher
) -> None:
    bridge = load_bridge(work / "heads" / "bridge.pt", HEADS)
    join = load_tensors(work / "heads" / "join.pt")
    features = torch.from_numpy(np.load(work / "heads" / "metric.npy")).float()
    with torch.no_grad():
        seen, units = image_sides(bridge.image, teacher.classifier(), features)
        raw = torch.cat([seen / seen.norm(dim=1).mean(), 0.6 * units / units.norm(dim=1).mean()], 1)
        found = image_head(join)(features)
    centred = raw - raw.mean(0)
    back = torch.linalg.lstsq(centred, found).solution
    assert torch.allclose(centred @ back, found, atol=1e-3)
    assert found.mean(0).abs().max() < 1e-4
    assert found.norm(dim=1).mean().item() == pytest.approx(1, abs=1e-4)


def test_a_rotation_without_loss_keeps_every_score() -> None:
    draw = torch.Generator().manual_seed(0)
    images, texts = torch.randn(200, 6, generator=draw), torch.randn(300, 6, generator=draw)
    for_images, for_texts, strength = rotation(images, texts, 6)
    assert torch.allclose(images @ for_images @ (texts @ for_texts).T, images @ texts.T, atol=1e-3)
    assert (strength[:-1] >= strength[1:]).all()
    some = rotation(images, texts, 3)
    assert torch.allclose(some[0], for_images[:, :3])


def test_the_text_tower_says_what_the_joined_head_says(work: Path) -> None:
    bridge = load_bridge(work / "heads" / "bridge.pt", HEADS)
    join = load_tensors(work / "heads" / "join.pt")
    texts = [f"a photo of a {colour}" for colour in COLOURS]
    vectors = torch.from_numpy(WordTeacher()(texts).astype(np.float32))
    tower = make_tower(TOWER, 2, 28)
    tower.load_state_dict(load_tensors(work / "tower" / "pairs.pt"))
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=16)(texts)
    with torch.no_grad():
        near = F.normalize(tower(tokens), dim=1) @ joined_texts(bridge.text, vectors, join).T
    assert (near.argmax(1) == torch.arange(6)).all()


# --- the loop ------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def trained(checkpoint: Path, stop: int | None = None) -> torch.Tensor:
    """Train a layer with dropout on random numbers, and return its weights."""
    torch.manual_seed(1)
    linear = nn.Linear(4, 3)
    layer = nn.Sequential(linear, nn.Dropout(0.5))

    def losses(draw: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        if step == stop:
            raise Interrupted
        inputs = torch.from_numpy(draw.standard_normal((8, 4)).astype(np.float32))
        return {"square": (layer(inputs) - 1).square().mean()}

    train(layer, losses, Plan(30, 1e-2, 5, save_every=7, half=False), checkpoint)
    return linear.weight.detach().clone()


def test_an_interrupted_training_ends_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    expected = trained(tmp_path / "whole.pt")
    with pytest.raises(Interrupted):
        trained(tmp_path / "cut.pt", stop=17)
    assert load_tensors(tmp_path / "cut.pt")["step"] == 14
    assert torch.equal(trained(tmp_path / "cut.pt"), expected)


def test_the_rate_rises_falls_and_ends_at_its_floor() -> None:
    plan = Plan(100, 2.0, 10, floor=0.1)
    rates = [plan.rate(step) for step in range(100)]
    assert rates.index(max(rates)) == 9
    assert rates[0] == pytest.approx(0.2, rel=1e-2)
    assert rates[-1] == pytest.approx(0.2, rel=1e-2)
    assert replace(plan, floor=0.0).rate(99) < 0.001


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.json"

    def interrupted() -> None:
        with whole(path) as partial:
            partial.write_text("[1", encoding="utf-8")
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert not finished(path)
    save_json(path, [1])
    assert load_json(path) == [1]
    assert finished(path)
