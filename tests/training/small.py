"""A world so small that the whole recipe runs on it in seconds, without any download."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from training.mini.teachers import Half, TimmTeacher

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 190, 40),
    "blue": (30, 50, 220),
    "yellow": (230, 220, 40),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
CLASSES = [(f"n{100 + k:08d}", name) for k, name in enumerate(COLOURS)]
HUE, SHADE, ENTITY = "00000200", "00000201", "00000001"


class WordTeacher:
    """A sentence encoder that has a random vector per word and adds them up."""

    width = 24

    def __call__(self, texts: Sequence[str]) -> Half:
        words = {word for text in texts for word in text.lower().split()}
        known = {
            word: np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.width)
            for word in words
        }
        sums = np.stack([sum((known[w] for w in t.lower().split()), np.zeros(24)) for t in texts])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        found: Half = (sums / np.maximum(lengths, 1e-6)).astype(np.float16)
        return found


def image_teacher() -> TimmTeacher:
    """Return a small network, random but for its last layer, that knows the colours."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network: Any = timm.create_model("test_efficientnet", num_classes=len(COLOURS))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the statistics are those of the images that follow
        files = [jpeg(colour, seed) for colour in COLOURS for seed in range(10)]
        views = [np.asarray(Image.open(io.BytesIO(f)).resize((32, 32))) for f in files]
        pixels = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2) / 127.5 - 1
        network.train()(pixels)
        features = network.eval().forward_head(network.forward_features(pixels), pre_logits=True)
        wanted = 6 * torch.eye(len(COLOURS)).repeat_interleave(10, dim=0)
        ridge = features.T @ features + torch.eye(features.shape[1])
        network.classifier.weight.copy_(torch.linalg.solve(ridge, features.T @ wanted).T)
        network.classifier.bias.zero_()
    return TimmTeacher(network, "test_efficientnet", image_size=32, dtype=torch.float32)


def jpeg(colour: str, seed: int) -> bytes:
    """Return a noisy image of one colour."""
    draw = np.random.default_rng(seed)
    pixels = np.array(COLOURS[colour]) + draw.normal(0, 12, (40, 52, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Put a file into a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_sets(folder: Path) -> None:
    """Write three sets: captions, labels, and class folders, one of which is to be skipped."""
    folder.mkdir()
    for name, said in (("flickr8k-train-00", "captions"), ("colours", "labels")):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for k in range(60):
                colour = list(COLOURS)[k % len(COLOURS)]
                texts = [colour] if said == "labels" else [f"a {colour} wall", f"it is {colour}"]
                add(tar, f"{name}/{k:03d}.jpg", jpeg(colour, zlib.crc32(f"{name}{k}".encode())))
                add(tar, f"{name}/{k:03d}.json", json.dumps({said: texts}).encode())
    with tarfile.open(folder / "classes.tar", "w") as tar:
        for k in range(12):
            wnid, colour = CLASSES[k % 3]
            add(tar, f"{wnid}/{k}.JPEG", jpeg(colour, k))
    (folder / "classes.skip").write_text(f"{CLASSES[2][0]}\n", encoding="utf-8")


def write_wordnet(folder: Path) -> None:
    """Write WordNet's files over six colours, with two adjectives and three verbs."""
    folder.mkdir()
    licence = "  1 This is not WordNet.\n"
    nouns = [f"{ENTITY} 03 n 01 entity 0 000 | all there is"]
    for offset, name in ((HUE, "hue"), (SHADE, "shade_of_grey")):
        nouns.append(f'{offset} 05 n 01 {name} 0 001 @ {ENTITY} n 0000 | a colour; "some {name}"')
    for k, (wnid, name) in enumerate(CLASSES):
        above = HUE if k < 4 else SHADE
        nouns.append(
            f"{wnid[1:]} 05 n 02 {name} 0 {name}_paint 0 001 @ {above} n 0000 | what is {name}"
        )
    adjectives = [
        f"{300 + k:08d} 00 a 01 {name}(a) 0 001 ! {300 + (k ^ 1):08d} a 0101 | of {name}"
        for k, name in enumerate(["full", "empty"])
    ]
    verbs = [
        f"{400 + k:08d} 30 v 01 {name} 0 000 00 | to {name}"
        for k, name in enumerate(["sit", "make", "lie_down"])
    ]
    for part, lines in (("noun", nouns), ("adj", adjectives), ("verb", verbs)):
        (folder / f"data.{part}").write_text(licence + "\n".join(lines) + "\n", encoding="latin-1")
    counts = "red%1:05:00:: 1 18\nfull%3:00:01:: 1 5\nfull%3:00:02:: 2 2\n"
    (folder / "cntlist.rev").write_text(counts, encoding="latin-1")
