"""Step 3: a bridge from images to texts, a head on each of the two frozen teachers.

    python -m training.mini.heads WORK --lite0 FILE --minilm DIR

Trained with three losses at once: random zero-shot tasks cut from WordNet over ImageNet's classes,
against the image teacher's own probabilities; the symmetric contrastive loss on captions; zero-shot
tasks over the label names of the labelled sets. Then the join (`training.mini.join`).

Writes `WORK/heads/bridge.pt`, `metric.npy` (features of a sample of images) and `join.pt`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from training.mini.files import finished, load_json, load_tensors, save_array, save_tensors
from training.mini.join import build_join
from training.mini.loop import Plan, train
from training.mini.losses import contrastive_loss, task_loss
from training.mini.material import Ids, Material, Random
from training.mini.teachers import ImageTeacher, MiniLm, SentenceTeacher, load_lite0

METRIC = {"imagenet1k-sample1": 1000, "flickr8k-train": 1600, "tinyimagenet": 2400}
"""Set -> how many of its images are among those that differences of scores are measured on."""


@dataclass(frozen=True)
class HeadOptions:
    """Sizes and settings of the bridge.

    Attributes:
        dim: Numbers of an embedding of the bridge.
        joined: Numbers of an embedding of the finished model.
        batch: Images of each of the first two losses; the third has half as many.
        task: Most labels of a task cut from WordNet.
        names: Most labels of a task over label names.
        noise: Length of a random vector that is added to a sentence vector.
        sharpness: What nearness to the class names is multiplied by before the softmax.
        dropout: Of the image head's hidden units.
        plan: The training.
        metric: See `METRIC`.
    """

    dim: int = 512
    joined: int = 1024
    batch: int = 1024
    task: int = 300
    names: int = 128
    noise: float = 0.5
    sharpness: float = 15.0
    dropout: float = 0.2
    plan: Plan = Plan(steps=2000, lr=1e-3, warmup=200, floor=0.0, decay=0.1)
    metric: dict[str, int] = field(default_factory=lambda: dict(METRIC))


class TextHead(nn.Module):
    """From sentence vectors to embeddings, by the vector and by its nearness to the class names.

    Args:
        class_vectors: (C, E), unit length.
        dim: D.
        sharpness: See `HeadOptions`.
    """

    class_vectors: Tensor

    def __init__(self, class_vectors: Tensor, dim: int, sharpness: float) -> None:
        super().__init__()
        classes, width = class_vectors.shape
        self.sharpness = sharpness
        self.register_buffer("class_vectors", class_vectors)
        self.linear = nn.Linear(width + classes, dim, bias=False)
        with torch.no_grad():  # nearness starts as loud as if it were alone
            self.linear.weight[:, width:] *= math.sqrt((width + classes) / width)

    def forward(self, sentences: Tensor) -> Tensor:
        """Map (B, E), unit length, to (B, D), unit length."""
        near = (self.sharpness * sentences @ self.class_vectors.T).softmax(-1)  # (B, C)
        seen = torch.cat([sentences, F.normalize(near, dim=-1)], dim=-1)
        return F.normalize(self.linear(seen).float(), dim=-1)


class Bridge(nn.Module):
    """Both heads, and the scale of their cosines."""

    def __init__(self, features: int, class_vectors: Tensor, options: HeadOptions) -> None:
        super().__init__()
        dim = options.dim
        self.image = Mlp(features, 2 * dim, dim, drop=(options.dropout, 0.0), bias=(True, False))
        self.text = TextHead(class_vectors, dim, options.sharpness)
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def images(self, features: Tensor) -> Tensor:
        """Map (B, F) to (B, D), unit length."""
        return F.normalize(self.image(features).float(), dim=-1)


def make_bridge(features: int, teacher: ImageTeacher, vectors: Tensor, o: HeadOptions) -> Bridge:
    """Return a bridge whose first hidden units are the teacher's classes, the surest of it."""
    bridge = Bridge(features, vectors, o)
    weight, bias = teacher.classifier()
    units = min(len(weight), 2 * o.dim)
    first = bridge.image.fc1.state_dict(keep_vars=False)
    first["weight"][:units] = 0.7 * weight[:units]  # these share the layer's memory
    first["bias"][:units] = 0.7 * (bias[:units] - 2)
    return bridge


def bridge_losses(
    bridge: Bridge, material: Material, vectors: Tensor, options: HeadOptions, draw: Random
) -> dict[str, Tensor]:
    """Return the three losses of a step.

    Args:
        bridge: What is trained.
        material: The images and their texts.
        vectors: (T, E), of all texts of the material's vocabulary.
        options: Sizes.
        draw: The step's random numbers.
    """
    scale = bridge.log_scale.exp().clamp(max=100)
    losses: dict[str, Tensor] = {}

    def said(texts: Ids) -> Tensor:
        clean = vectors[texts]
        noise = options.noise * torch.randn_like(clean) / math.sqrt(clean.shape[1])
        embedded: Tensor = bridge.text(F.normalize(clean + noise, dim=-1))
        return embedded

    with options.plan.autocast():
        rows = draw.integers(0, material.features.shape[1], options.batch)
        nodes = material.tree.task(draw, options.task)
        texts = said(np.array([draw.choice(material.tree.texts[node]) for node in nodes]))
        seen = bridge.images(material.view(rows, draw))
        shares = material.shares[rows] @ material.tree.members[nodes].T  # (B, nodes)
        losses["task"] = task_loss((scale * seen @ texts.T).float(), shares.float())
        if material.captions:
            rows, captions = material.captioned(draw, options.batch)
            seen = bridge.images(material.view(rows, draw))
            losses["captions"] = contrastive_loss(seen, said(captions), scale)
        if material.names:
            rows, names, target = material.named(draw, options.names, options.batch // 2)
            seen = bridge.images(material.view(rows, draw))
            losses["names"] = F.cross_entropy(scale * seen @ said(names).T, target)
    return losses


def metric_features(work: Path, counts: dict[str, int]) -> NDArray[np.float16]:
    """Return centre views of a sample of images, (M, F)."""
    draw = np.random.default_rng(0)
    centres = [(np.load(work / "features" / f"{name}.npy")[0], n) for name, n in counts.items()]
    return np.concatenate([views[draw.permutation(len(views))[:n]] for views, n in centres])


def make_heads(
    work: Path, images: ImageTeacher, sentences: SentenceTeacher, o: HeadOptions | None = None
) -> None:
    """Write what the module says.

    Args:
        work: The work folder, with features and texts.
        images: The image teacher.
        sentences: The sentence teacher.
        o: Sizes and settings.
    """
    folder, o = work / "heads", o or HeadOptions()
    bridge_file, metric_file, join_file = (
        folder / name for name in ("bridge.pt", "metric.npy", "join.pt")
    )
    if not finished(metric_file):
        save_array(metric_file, metric_features(work, o.metric))
    metric = torch.from_numpy(np.load(metric_file)).float()
    if not finished(bridge_file):
        material = Material(work, images)
        leaves = [node.names[0] for node in material.tree.nodes if node.leaf]
        plain = material.vocabulary.add(leaves)
        photo = material.vocabulary.add(f"a photo of a {name}" for name in leaves)
        vectors = material.vocabulary.vectors(folder / "texts.json", sentences)
        torch.manual_seed(o.plan.seed)
        classes = F.normalize(vectors[plain] + vectors[photo], dim=-1)
        bridge = make_bridge(metric.shape[1], images, classes, o)
        checkpoint = folder / "bridge-checkpoint.pt"
        train(
            bridge,
            lambda draw, _: bridge_losses(bridge, material, vectors, o, draw),
            o.plan,
            checkpoint,
        )
        save_tensors(bridge_file, bridge.state_dict())
        checkpoint.unlink(missing_ok=True)
    if not finished(join_file):
        bridge = load_bridge(bridge_file, o)
        short = short_texts(work, 40_000)
        save_tensors(join_file, build_join(bridge, images.classifier(), metric, short, o.joined))


def load_bridge(path: Path, options: HeadOptions) -> Bridge:
    """Load a trained bridge."""
    state = load_tensors(path)
    features = state["image.fc1.weight"].shape[1]
    bridge = Bridge(features, state["text.class_vectors"], options)
    bridge.load_state_dict(state)
    return bridge.eval()


def short_texts(work: Path, most: int) -> Tensor:
    """Return sentence vectors of texts of at most seven words, (B, E)."""
    texts = load_json(work / "texts" / "corpus.json")
    rows = [k for k, text in enumerate(texts) if len(text.split()) <= 7][:most]
    return torch.from_numpy(np.load(work / "texts" / "corpus.npy")[rows].astype(np.float32))


def main(work: Path, lite0: Path, minilm: Path, float32: bool = False) -> None:
    """Train the bridge and join it with the class units."""
    default = HeadOptions()
    options = replace(default, plan=replace(default.plan, half=not float32))
    make_heads(work, load_lite0(lite0), MiniLm(minilm), options)


if __name__ == "__main__":
    typer.run(main)
