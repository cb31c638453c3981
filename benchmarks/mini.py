"""Print how good and how fast the bundled model is, measured on the file that is shipped.

    python benchmarks/mini.py --data ../shared/data
    python benchmarks/mini.py --only trees --tree caltech101=~/caltech101 --tree pets=~/pets

The model goes the way it goes for every user: `Classifier` with the template "a photo of a <>" and
label names in lower case, underscores as spaces, float32 on the CPU. No image of these sets was
trained on with its label. `benchmarks/README.md` says what the folders look like.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipcls import Classifier, Precision, Prediction, RuntimeOptions, resolve_model

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
RUNTIME = RuntimeOptions(device="cpu", precision=Precision.FP32)
BATCH = 32
"""Images per forward pass where this script calls the encoder itself."""

BINS = 15
"""Of the calibration error, all of one width."""

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class ImageSet:
    """Images and the label of each.

    Attributes:
        name: What the table calls it.
        wordings: Label -> the text for the template's slot.
        paths: The N files.
        truth: The N labels of the files.
    """

    name: str
    wordings: dict[str, str]
    paths: list[Path]
    truth: list[str]


# --- the image sets -------------------------------------------------------------------------------


def worded(label: str) -> str:
    """Return a label as it is put into the template."""
    return label.replace("_", " ").lower()


def cifar10(data: Path) -> ImageSet:
    """The 1,000 test images of CIFAR-10 in `data`, 32 pixels wide, 100 of each class."""
    folder = data / "cifar10"
    names = (folder / "classes.txt").read_text(encoding="utf-8").split()
    rows = read_rows(folder / "labels.csv")
    return ImageSet(
        "CIFAR-10",
        {name: worded(name) for name in names},
        [folder / "images" / f"photo-{row['id']}.jpg" for row in rows],
        [names[int(row["target"])] for row in rows],
    )


def photos(data: Path) -> ImageSet:
    """The 240 ImageNet originals with the names they have in `data`."""
    rows = read_rows(data / "photos" / "labels.csv")
    truth = [row["label"] for row in rows]
    return ImageSet(
        "ImageNet originals",
        {label: worded(label) for label in truth},
        [data / "photos" / "images" / row["file"] for row in rows],
        truth,
    )


def photos_of_1000(data: Path) -> ImageSet:
    """The same among open_clip's names of all ImageNet classes; two names stand for two each."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    wnids: list[str] = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    names = dict(zip(wnids, IMAGENET_CLASSNAMES, strict=True))
    paths = photos(data).paths
    return ImageSet(
        "the same, all of ImageNet's names",
        {name: worded(name) for name in names.values()},
        paths,
        [names[path.name.partition("_")[0]] for path in paths],
    )


def tree(name: str, folder: Path) -> ImageSet:
    """Any folder with one folder per class, whose names are the labels."""
    known = Image.registered_extensions()
    classes = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    files = [
        (path, of.name)
        for of in classes
        for path in sorted(of.rglob("*"))
        if path.is_file() and path.suffix.lower() in known
    ]
    if not files:
        raise SystemExit(f"--tree {name}={folder}: there is no folder with images in it")
    wordings = {of.name: worded(of.name) for of in classes}
    return ImageSet(name, wordings, [path for path, _ in files], [label for _, label in files])


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- accuracy -------------------------------------------------------------------------------------


def measure(images: ImageSet, model: str) -> str:
    """Classify a set and return its row of the table."""
    classifier = Classifier(
        images.wordings,
        model=resolve_model(model),
        templates=["a photo of a <>"],
        runtime=RUNTIME,
    )
    column = {label: k for k, label in enumerate(classifier.labels)}
    scores, truth, failed = [], [], 0
    for record, label in zip(classifier.classify(images.paths), images.truth, strict=True):
        if isinstance(record, Prediction):
            scores.append(record.probabilities)
            truth.append(column[label])
        else:
            failed += 1
    probabilities, target = np.array(scores), np.array(truth)
    unread = f", {failed} not readable" if failed else ""
    top5 = f"{100 * top_k(probabilities, target, 5).mean():.1f}"
    return (
        f"| {images.name}, {len(target):,}{unread} | {len(column):,}"
        f" | {with_interval(top_k(probabilities, target, 1))} | {top5}"
        f" | {calibration_error(probabilities, target):.3f} |"
    )


def top_k(probabilities: Floats, target: NDArray[np.int_], k: int) -> NDArray[np.bool_]:
    """Return for each of N images, (N, C) probabilities, whether its label is among the k best."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    found: NDArray[np.bool_] = (best == target[:, None]).any(axis=1)
    return found


def with_interval(right: NDArray[np.bool_]) -> str:
    """Return a share in percent with its 95 % interval (normal approximation)."""
    share = float(right.mean())
    half = 1.96 * (share * (1 - share) / len(right)) ** 0.5
    return f"{100 * share:.1f} ({100 * (share - half):.1f} to {100 * (share + half):.1f})"


def calibration_error(probabilities: Floats, target: NDArray[np.int_]) -> float:
    """Return the expected calibration error (arXiv:1706.04599, equation 3).

    The mean distance of confidence and accuracy over `BINS` bins of confidence, weighted by how
    many of the N images, (N, C) probabilities, are in each.
    """
    sure = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == target
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    distances = [
        abs(right[place == k].mean() - sure[place == k].mean()) * (place == k).mean()
        for k in np.unique(place)
    ]
    return float(sum(distances))


# --- retrieval ------------------------------------------------------------------------------------


def flickr8k(data: Path, model: str) -> str:
    """Search each test image of Flickr8k by each of its captions; return the recalls."""
    encoder = Classifier(["a", "b"], model=resolve_model(model), runtime=RUNTIME).encoder
    pixels: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    own: list[int] = []
    for image, texts in captioned(sorted((data / "flickr8k").glob("test-*.tar"))):
        own += [len(pixels)] * len(texts)
        captions += texts
        pixels.append(encoder.prepare(image))
    embeddings = np.concatenate([encoder.encode_images(batch) for batch in batches(pixels)])
    ranks = ranks_of(encoder.encode_texts(captions) @ embeddings.T, np.array(own))
    recalls = ", ".join(f"R@{k} {100 * (ranks <= k).mean():.1f}" for k in (1, 5, 10))
    return (
        f"Flickr8k test part, text to image, {len(captions):,} captions among {len(pixels):,}"
        f" images: {recalls}"
    )


def captioned(tars: Sequence[Path]) -> Iterator[tuple[Image.Image, list[str]]]:
    """Yield the images of webdataset files (`KEY.jpg` beside `KEY.json`) with their captions."""
    for path in tars:
        with tarfile.open(path) as tar:
            files = {member.name: member for member in tar if member.isfile()}
            for name in sorted(name for name in files if name.endswith(".jpg")):
                image, texts = (
                    tar.extractfile(files[part])
                    for part in (name, name.removesuffix(".jpg") + ".json")
                )
                if image is not None and texts is not None:
                    decoded = Image.open(io.BytesIO(image.read())).convert("RGB")
                    yield decoded, json.load(texts)["captions"]


def ranks_of(scores: Floats, own: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the rank, from 1, of each of N texts' own image, (N, M) scores; ties count against."""
    mine = scores[np.arange(len(own)), own]
    ranks: NDArray[np.int_] = (scores >= mine[:, None]).sum(axis=1)
    return ranks


def batches(pixels: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Yield (B, 3, H, W) batches of prepared images."""
    for start in range(0, len(pixels), BATCH):
        yield np.stack(pixels[start : start + BATCH])


# --- speed ----------------------------------------------------------------------------------------


def speed(paths: Sequence[Path], model: str, rounds: int) -> Iterator[str]:
    """Yield rows that compare the model with ViT-B-32 on images, in float32 on this machine."""
    with tempfile.TemporaryDirectory() as scratch:
        maker = [sys.executable, str(EXAMPLES / "make_checkpoint.py"), scratch, "--arch"]
        subprocess.run([*maker, "ViT-B-32"], check=True, stdout=subprocess.DEVNULL)
        models = (model, scratch)
        encode = alternate(rounds, [partial(encoding, name, paths) for name in models])
        yield compared(f"{len(paths)} photos, encoding alone", encode)
        job = [*map(str, paths), "--labels", "cat,dog,car,tree"]
        whole = alternate(rounds, [partial(process, name, job) for name in models])
        yield compared(f"{len(paths)} photos, `clipcls classify`, whole process", whole)
    job = [str(EXAMPLES / "photos"), "--labels-file", str(EXAMPLES / "labels.txt")]
    [example] = alternate(rounds, [partial(process, model, job)])
    yield f"| 12 photos of examples/, whole process | {example:.1f} s | | |"


def alternate(rounds: int, jobs: Sequence[Callable[[], float]]) -> list[float]:
    """Run jobs in turn and return the median seconds of each; a first round warms up."""
    seconds = [[job() for job in jobs] for _ in range(1 + rounds)][1:]
    return [statistics.median(column) for column in zip(*seconds, strict=True)]


def encoding(model: str, paths: Sequence[Path]) -> float:
    """Return the seconds that the image tower takes for images that are already prepared."""
    encoder = Classifier(["a", "b"], model=resolve_model(model), runtime=RUNTIME).encoder
    prepared = []
    for path in paths:
        with Image.open(path) as image:
            prepared.append(encoder.prepare(image.convert("RGB")))
    encoder.encode_images(np.stack(prepared[:BATCH]))
    started = time.perf_counter()
    for batch in batches(prepared):
        encoder.encode_images(batch)
    return time.perf_counter() - started


def process(model: str, job: Sequence[str]) -> float:
    """Return the seconds of a whole `clipcls classify`, start of the interpreter included."""
    options = ["--model", model, "--device", "cpu", "--precision", "fp32", "--quiet"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "clipcls", "classify", *job, *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def compared(what: str, seconds: Sequence[float]) -> str:
    """Return a row of times: the model's, ViT-B-32's, and how many times faster the model is."""
    ours, theirs = seconds
    return f"| {what} | {ours:.1f} s | {theirs:.1f} s | {theirs / ours:.2f}x |"


# --- the command ----------------------------------------------------------------------------------


def named_tree(text: str) -> tuple[str, Path]:
    """Read `NAME=DIR`."""
    name, equals, folder = text.partition("=")
    path = Path(folder).expanduser()
    if not (name and equals and path.is_dir()):
        raise argparse.ArgumentTypeError(f"{text} is not NAME=DIR with a folder DIR")
    return name, path


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("accuracy", "flickr8k", "trees", "speed")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--tree", type=named_tree, action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--model", default="mini", help="another model in its place")
    parser.add_argument("--only", choices=parts, nargs="+", default=parts)
    parser.add_argument("--rounds", type=int, default=3, help="of each time; the median counts")
    parser.add_argument("--photos", type=int, default=240, help="how many the times are taken on")
    asked = parser.parse_args(arguments)
    sets: list[Callable[[], ImageSet]] = []
    if "accuracy" in asked.only:
        sets += [partial(make, asked.data) for make in (cifar10, photos, photos_of_1000)]
    if "trees" in asked.only:
        sets += [partial(tree, *pair) for pair in asked.tree]
    if sets:
        print("| images | labels | top-1 in % (95 % interval) | top-5 | ECE, 15 bins |")
        print("|---|---|---|---|---|")
    for images in sets:
        print(measure(images(), asked.model), flush=True)
    if "flickr8k" in asked.only:
        print(f"\n{flickr8k(asked.data, asked.model)}\n", flush=True)
    if "speed" in asked.only:
        print(f"| float32 on the CPU | {asked.model} | ViT-B-32 | ratio |\n|---|---|---|---|")
        for row in speed(photos(asked.data).paths[: asked.photos], asked.model, asked.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
