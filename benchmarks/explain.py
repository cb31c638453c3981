"""Print how often the peak of an explanation lies where its label's image is.

    python benchmarks/explain.py --data ../shared/data

A mosaic is four photographs of different classes, each cut to its middle square and resized to a
quarter of what the model sees. It is explained for six labels: those of its four quarters, and two
that it does not show. Chance is one quarter in four. The same is asked, of the first half of the
mosaics, of the model with the values of each of its tensors shuffled (a check of Adebayo et al.
2018, arXiv:1810.03292): what that still points at, the method and not the model has found.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import load_file, save_file

import clipcls
from clipcls import Classifier
from clipcls.evaluation.bootstrap import share_of
from clipcls.explaining.explain import Explanation, explain
from clipcls.inputs.refs import ImageRef
from clipcls.models.devices import keep_freed_memory

MINI = Path(clipcls.__file__).parent / "models" / "bundled" / "mini"
ABSENT = 2
"""Labels of a mosaic that it does not show."""
HALF = 120
"""Photographs; how the method works was chosen on mosaics of the others."""


@dataclass(frozen=True)
class Photo:
    """A photograph and its class."""

    path: Path
    label: str


@dataclass(frozen=True)
class Mosaic:
    """Four photographs, row by row, and the labels that are asked for."""

    photos: tuple[Photo, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What the explanation of one mosaic says.

    Attributes:
        predicted: The quarter whose label was predicted; None for a label that is not there.
        peaks: For each of the four labels, the quarter in which its heat has its peak.
    """

    predicted: int | None
    peaks: tuple[int, ...]


def photos_of(data: Path) -> list[Photo]:
    """Return the photographs to measure on."""
    with (data / "photos" / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    random.Random(7).shuffle(rows)
    folder = data / "photos" / "images"
    # One of each name: two classes are called crane.
    named = {row["label"].lower(): folder / row["file"] for row in rows[HALF:]}
    return [Photo(path, label) for label, path in named.items()]


def mosaics_of(photos: Sequence[Photo], count: int, seed: int) -> Iterator[Mosaic]:
    """Yield mosaics drawn by chance."""
    rng = random.Random(seed)
    for _ in range(count):
        drawn = rng.sample(photos, 4 + ABSENT)
        yield Mosaic(tuple(drawn[:4]), tuple(photo.label for photo in drawn))


def save_mosaic(mosaic: Mosaic, side: int, path: Path) -> None:
    """Write a mosaic of `side` pixels."""
    whole = Image.new("RGB", (side, side))
    for place, photo in enumerate(mosaic.photos):
        with Image.open(photo.path) as image:
            tile = ImageOps.fit(image.convert("RGB"), (side // 2, side // 2))
        row, column = divmod(place, 2)
        whole.paste(tile, (column * side // 2, row * side // 2))
    whole.save(path)


def asked(mosaic: Mosaic, base: Classifier, folder: Path) -> Found:
    """Explain a mosaic and look where the peaks are."""
    path = folder / "mosaic.png"
    save_mosaic(mosaic, base.encoder.image_size[0], path)
    classifier = Classifier(list(mosaic.labels), model=base.encoder)
    [explained] = explain(classifier, [ImageRef(0, str(path))])
    if not isinstance(explained, Explanation):
        raise SystemExit(explained.reason)
    peaks = []
    for heat in explained.heat[:4]:
        row, column = divmod(int(heat.argmax()), heat.shape[1])
        peaks.append(2 * (2 * row >= heat.shape[0]) + (2 * column >= heat.shape[1]))
    best = mosaic.labels.index(explained.prediction.prediction)
    return Found(best if best < 4 else None, tuple(peaks))


def shuffled(folder: Path, seed: int) -> Path:
    """Copy the bundled model with the values of each tensor shuffled; return its folder."""
    rng = np.random.default_rng(seed)
    made = folder / "shuffled"
    shutil.copytree(MINI, made)
    file = made / "open_clip_model.safetensors"
    tensors = load_file(file)
    save_file({k: rng.permutation(v.ravel()).reshape(v.shape) for k, v in tensors.items()}, file)
    return made


def said(name: str, hits: Sequence[bool]) -> str:
    """Return a row of the table: a share with its interval."""
    figure = share_of(np.array(hits, dtype=bool))
    low, value, high = (f"{share:.1%}" for share in (figure.low, figure.value, figure.high))
    return f"| {name} | {len(hits)} | {value} | {low} to {high} |"


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--mosaics", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keep_freed_memory()
    photos = photos_of(options.data)
    print("| | peaks | in the right quarter | 95 % interval |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        without = str(shuffled(folder, options.seed))
        models = [
            ("mini", "mini", options.mosaics),
            ("weights shuffled", without, max(options.mosaics // 2, 1)),
        ]
        for name, model, count in models:
            base = Classifier(["a", "b"], model=model)
            began = time.perf_counter()
            found = [
                asked(mosaic, base, folder) for mosaic in mosaics_of(photos, count, options.seed)
            ]
            seconds = (time.perf_counter() - began) / len(found)
            predicted = [
                f.peaks[f.predicted] == f.predicted for f in found if f.predicted is not None
            ]
            every = [f.peaks[quarter] == quarter for f in found for quarter in range(4)]
            print(said(f"{name}: label predicted for the mosaic", predicted))
            print(said(f"{name}: all labels of the quarters", every))
            print(f"\n{name}: {seconds:.1f} s a mosaic\n", flush=True)


if __name__ == "__main__":
    main()
