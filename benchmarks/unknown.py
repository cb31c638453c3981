"""Print how well images of none of the labels are told: `python -m benchmarks.unknown --data DIR`.

Five classes of CIFAR-10 are known, in ten seeded choices; the other five, and the photos without
those that show a known class, are not. `--unknown auto` stands beside the highest probability and
the highest cosine similarity. `benchmarks/README.md` says what the folder looks like.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.mini import photos
from clipcls import (
    CacheOptions,
    Classifier,
    Prediction,
    RuntimeOptions,
    ScoringOptions,
    UnknownOptions,
)
from clipcls.evaluation.unknown import RECALL
from clipcls.inputs.refs import ImageRef
from clipcls.records import UNKNOWN, Embedded
from clipcls.scoring import Scorer

CHOICES, KNOWN = 10, 5
TEMPLATE = "a photo of a <>"

SHOWN: Mapping[str, tuple[str, ...]] = {
    "airplane": (),
    "automobile": ("wagon", "convertible", "limousine", "moving van"),
    "bird": (
        *("ostrich", "finch", "bunting", "jay", "eagle", "owl", "quail", "macaw", "hornbill"),
        *("toucan", "egret", "coot"),
    ),
    "cat": ("lynx", "jaguar"),
    "deer": ("hartebeest", "impala", "gazelle"),
    "dog": (
        *("hound", "whippet", "terrier", "Dandie", "Lhasa", "pointer", "setter", "spaniel"),
        *("groenendael", "kelpie", "collie", "Rottweiler", "German shepherd", "Doberman"),
        *("pinscher", "dog", "Leonberg", "keeshond", "coyote"),
    ),
    "frog": ("frog",),
    "horse": ("sorrel", "zebra", "horse"),
    "ship": ("aircraft carrier", "fireboat", "schooner", "yawl"),
    "truck": ("truck", "moving van", "tractor"),
}
"""Parts of the names of photos that show a class of CIFAR-10, or what is easily taken for it."""

SCORES = ("lexicon", "highest probability", "highest cosine")


def scores_of(predictions: Sequence[Prediction]) -> dict[str, NDArray[np.float64]]:
    """Return each of `SCORES`, higher for what is known."""
    return {
        "lexicon": np.array([-(p.p_unknown or 0.0) for p in predictions]),
        "highest probability": np.array([p.probability for p in predictions]),
        "highest cosine": np.array([float(p.similarities.max()) for p in predictions]),
    }


def figures(known: Sequence[Prediction], unknown: Sequence[Prediction]) -> dict[str, list[float]]:
    """Return score -> ROC-AUC, and the share of the unknown kept at a recall of 95 %."""
    truth = np.r_[np.ones(len(known)), np.zeros(len(unknown))]
    found = {}
    for name, scores in scores_of([*known, *unknown]).items():
        false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
        found[name] = [roc_auc_score(truth, scores), float(false[np.argmax(true >= RECALL)])]
    return found


def share(holds: Sequence[bool]) -> float:
    """Return how often something holds."""
    return sum(holds) / len(holds)


def rate_of(images: Sequence[Embedded], scorers: Sequence[Scorer]) -> list[float]:
    """Return the processor seconds per image of each scorer, the best of five rounds in turn."""
    seconds = [[0.0] * 5 for _ in scorers]
    for turn in range(5):
        for own, scorer in zip(seconds, scorers, strict=True):
            began = time.process_time()
            for image in images:
                scorer(image)
            own[turn] = (time.process_time() - began) / len(images)
    return [min(own) for own in seconds]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unknown", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="mini", help="as clipcls takes it")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keeps embeddings for the next run"
    )
    asked = parser.parse_args(arguments)
    runtime = RuntimeOptions(cache=CacheOptions(asked.cache) if asked.cache else None)
    folder = asked.data / "cifar10"
    classes = (folder / "classes.txt").read_text().split()
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    truth = [classes[int(row["target"])] for row in rows]
    small = [str(folder / "images" / f"photo-{row['id']}.jpg") for row in rows]
    large = photos(asked.data)

    def classifier_of(labels: Sequence[str], unknown: UnknownOptions | None) -> Classifier:
        scoring = ScoringOptions(unknown=unknown)
        return Classifier(
            labels, model=asked.model, templates=[TEMPLATE], scoring=scoring, runtime=runtime
        )

    first = classifier_of(classes, None)
    refs = [ImageRef(i, str(path)) for i, path in enumerate([*small, *large.paths])]
    images = [image for image in first.embed(refs) if isinstance(image, Embedded)]
    if len(images) < len(refs):
        raise SystemExit(f"{len(refs) - len(images)} images failed")
    draw = random.Random(0)
    found: dict[str, list[dict[str, list[float]]]] = {"the other 5 classes": [], "photos": []}
    kept: list[float] = []
    rejected: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(CHOICES):
        labels = sorted(draw.sample(classes, KNOWN), key=classes.index)
        scorer = classifier_of(labels, UnknownOptions()).scorer
        predictions = [scorer(image) for image in images]
        known = [p for p, own in zip(predictions, truth, strict=False) if own in labels]
        shown = [part for label in labels for part in SHOWN[label]]
        others = {
            "the other 5 classes": [
                p for p, own in zip(predictions, truth, strict=False) if own not in labels
            ],
            "photos": [
                p
                for p, own in zip(predictions[len(small) :], large.truth, strict=True)
                if not any(part in own for part in shown)
            ],
        }
        kept.append(share([p.prediction != UNKNOWN for p in known]))
        for name, unknown in others.items():
            found[name].append(figures(known, unknown))
            rejected[name].append(share([p.prediction == UNKNOWN for p in unknown]))
    print(f"{asked.model}, {CHOICES} choices of {KNOWN} known classes of CIFAR-10, means\n")
    print("| unknown | score | ROC-AUC | lowest and highest | false positives at 95 % recall |")
    print("|---|---|---|---|---|")
    for name, choices in found.items():
        for score in SCORES:
            areas, rates = np.array([choice[score] for choice in choices]).T
            spread = f"{areas.min():.3f} to {areas.max():.3f}"
            print(f"| {name} | {score} | {areas.mean():.3f} | {spread} | {rates.mean():.1%} |")
    at = ", ".join(f"{np.mean(own):.1%} of {name}" for name, own in rejected.items())
    print(
        f"\nWith the default threshold: {np.mean(kept):.1%} of the known are kept, {at} are found"
    )
    won = [c["lexicon"][0] > c["highest probability"][0] for own in found.values() for c in own]
    print(f"The lexicon has the higher ROC-AUC in {sum(won)} of {len(won)} comparisons")
    uncached = Classifier(classes, model=asked.model)
    uncached.encoder.encode_images(np.zeros((1, 3, *uncached.encoder.image_size), np.uint8))
    began = time.process_time()
    embedded = len(list(uncached.embed(refs[-128:])))
    per_image = (time.process_time() - began) / embedded
    # The last scorer beside the same without words.
    plain, words = rate_of(images[:500], [classifier_of(labels, None).scorer, scorer])
    ratio = (per_image + plain) / (per_image + words)
    count = 0 if scorer.words is None else len(scorer.words)
    print(
        f"Processor time of an image: {per_image * 1e3:.1f} ms to embed it, {plain * 1e3:.2f} ms to"
        f" score it, {words * 1e3:.2f} ms beside {count:,} words: {ratio:.3f} of the rate remains"
    )


if __name__ == "__main__":
    main()
