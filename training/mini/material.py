"""What the heads learn from: features of images, and everything that is said of the images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.mini.features import Said
from training.mini.files import load_json
from training.mini.teachers import ImageTeacher, SentenceTeacher
from training.mini.texts import embed, filled
from training.mini.wordnet import WORDS, Node

Ids = NDArray[np.int64]
Random = np.random.Generator
TEMPLATES: list[str] = WORDS["label_templates"]


class Vocabulary:
    """Texts and their numbers."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def add(self, texts: Iterable[str]) -> Ids:
        """Return the numbers of texts, new ones included."""
        return np.array([self.texts.setdefault(text, len(self.texts)) for text in texts])

    def vectors(self, path: Path, teacher: SentenceTeacher) -> Tensor:
        """Return the vectors of all texts, (T, E); `path` keeps them for the next time."""
        if not (path.exists() and load_json(path) == list(self.texts)):
            embed(path, list(self.texts), teacher)
        return torch.from_numpy(np.load(path.with_suffix(".npy")).astype(np.float32))


class Tree:
    """WordNet over the C classes.

    Attributes:
        nodes: The first C are the classes.
        texts: The texts of each node.
        members: (nodes, C), 1 where a class is below a node.
    """

    def __init__(self, nodes: Sequence[Node], vocabulary: Vocabulary) -> None:
        self.nodes = nodes
        classes = sum(node.leaf for node in nodes)
        self.members = torch.zeros(len(nodes), classes)
        self.texts: list[Ids] = []
        for number, node in enumerate(nodes):
            self.members[number, list(node.classes)] = 1
            named = [filled(t, name) for name in node.names for t in TEMPLATES]
            self.texts.append(vocabulary.add([*named, node.gloss] if node.gloss else named))
        upwards = sorted(range(len(nodes)), key=lambda i: len(nodes[i].classes))
        self._above = [[i for i in upwards if k in nodes[i].classes] for k in range(classes)]

    def task(self, draw: Random, most: int) -> list[int]:
        """Return up to `most` nodes, none of which is above another: the labels of a task."""
        classes = len(self._above)
        chosen: dict[int, None] = {}
        general = 0.75 * draw.random()
        for k in draw.permutation(classes)[: int(draw.integers(min(20, classes // 2), 400))]:
            above = self._above[k]
            chosen[above[min(int(draw.geometric(1 - general)), len(above)) - 1]] = None
            if len(chosen) == most:
                break
        kept: list[int] = []
        taken: set[int] = set()
        for node in sorted(chosen, key=lambda i: len(self.nodes[i].classes)):
            if not taken & set(self.nodes[node].classes):
                kept.append(node)
                taken.update(self.nodes[node].classes)
        return kept


class Material:
    """All N images.

    Attributes:
        vocabulary: Every text that is needed.
        tree: WordNet over the image teacher's C classes.
        features: (3, N, F) float16; a set with fewer views repeats its last.
        shares: (N, C), probability of each class.
        captions: (image, its texts) of each captioned image.
        names: Set -> label -> its images.
        name_texts: Label -> its texts.
    """

    def __init__(self, work: Path, teacher: ImageTeacher) -> None:
        self.vocabulary = Vocabulary()
        nodes = [Node(**node) for node in load_json(work / "texts" / "nodes.json")]
        self.tree = Tree(nodes, self.vocabulary)
        self._class_of = {node.wnid: k for k, node in enumerate(nodes) if node.leaf}
        paths = sorted((work / "features").glob("*.npy"))
        views = [np.load(path) for path in paths]
        padded = [np.concatenate([v, np.repeat(v[-1:], 3 - len(v), axis=0)]) for v in views]
        self.features = torch.from_numpy(np.concatenate(padded, axis=1))
        weight, bias = teacher.classifier()
        parts = torch.split(self.features[0], 4096)
        self.shares = torch.cat([(rows.float() @ weight.T + bias).softmax(-1) for rows in parts])
        self.captions: list[tuple[int, Ids]] = []
        self.names: dict[str, dict[str, list[int]]] = {}
        said = ((path.stem, of) for path in paths for of in load_json(path.with_suffix(".json")))
        for image, (name, texts) in enumerate(said):
            self._hear(image, name, texts)
        self.name_texts = {
            label: self.vocabulary.add(filled(t, label) for t in TEMPLATES)
            for of in self.names.values()
            for label in of
        }

    def _hear(self, image: int, name: str, texts: Said) -> None:
        """File what is said of an image: captions, objects, a class or a label."""
        labels = texts.get("labels", [])
        if "captions" in texts:
            self.captions.append((image, self.vocabulary.add(texts["captions"])))
        elif len(labels) > 1:  # objects, the largest first
            lists = [" and ".join(f"a {x}" for x in labels[:k]) for k in range(1, 4)]
            made = [*(f"a photo of {objects}" for objects in lists), ", ".join(labels[:4])]
            self.captions.append((image, self.vocabulary.add(made)))
        elif not re.fullmatch(r"n\d{8}", labels[0]):
            self.names.setdefault(name, {}).setdefault(labels[0], []).append(image)
        elif labels[0] in self._class_of:  # the teacher knows better than the name alone
            self.shares[image] *= 0.3
            self.shares[image, self._class_of[labels[0]]] += 0.7

    def view(self, images: Ids, draw: Random) -> Tensor:
        """Return a random view of each image, (B, F) float32."""
        return self.features[draw.integers(0, 3, len(images)), images].float()

    def captioned(self, draw: Random, most: int) -> tuple[Ids, Ids]:
        """Return up to `most` captioned images and one text of each."""
        rows = draw.permutation(len(self.captions))[:most]
        texts = [int(draw.choice(self.captions[row][1])) for row in rows]
        return np.array([self.captions[row][0] for row in rows]), np.array(texts)

    def named(self, draw: Random, most: int, images: int) -> tuple[Ids, Ids, Tensor]:
        """Return a task over label names, of one set or, half the time, of all sets.

        Returns:
            About `images` images; a text of each of up to `most` labels; (B,), each image's label.
        """
        rich = [name for name, labels in self.names.items() if len(labels) >= 5]
        sets = list(self.names)
        if rich and draw.random() < 0.5:
            sets = [rich[int(draw.integers(len(rich)))]]
        pool = [(name, label) for name in sets for label in self.names[name]]
        picked = [pool[k] for k in draw.permutation(len(pool))[:most]]
        labels = list({label.lower(): (name, label) for name, label in picked}.values())
        each = max(1, images // len(labels))
        rows = [draw.choice(self.names[name][label], each) for name, label in labels]
        texts = [int(draw.choice(self.name_texts[label])) for _, label in labels]
        target = torch.arange(len(labels)).repeat_interleave(each)
        return np.concatenate(rows), np.array(texts), target
