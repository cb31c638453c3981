"""Print how far the fast ways stay with the exact one: `python -m benchmarks.agreement --data DIR`.

The exact way is float32 on fully decoded images, which is open_clip's. A way that clipcls takes
by itself must keep 99 % of its top-1 predictions, and its probabilities within 0.005 on average.
`benchmarks/README.md` says what the folder looks like.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.mini import ImageSet, photos
from benchmarks.speed import Rows, agreement
from clipcls import Classifier, DecodeOptions, Decoding, Precision, Prediction, RuntimeOptions

LEAST_SAME, MOST_APART = 0.99, 0.005


def enlarged(images: ImageSet, factor: float, into: Path) -> ImageSet:
    """Write copies as JPEGs whose sides are `factor` times as long, as a larger camera would."""
    into.mkdir()
    paths = []
    for path in images.paths:
        with Image.open(path) as image:
            size = round(factor * image.width), round(factor * image.height)
            large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        large.save(into / f"{path.stem}.jpg", quality=90)
        paths.append(into / f"{path.stem}.jpg")
    name = f"{images.name}, sides x {factor:g}"
    return ImageSet(name, images.wordings, paths, images.truth)


def rows_of(
    images: ImageSet, model: str, device: str, precision: Precision, decoding: Decoding
) -> tuple[Rows, float]:
    """Return the (N, C) probabilities and the share whose top-1 is the truth."""
    classifier = Classifier(
        images.wordings,
        model=model,
        templates=["a photo of a <>"],
        decode=DecodeOptions(decoding=decoding),
        runtime=RuntimeOptions(device=device, precision=precision),
    )
    records = list(classifier.classify(images.paths))
    predictions = [record for record in records if isinstance(record, Prediction)]
    if len(predictions) < len(records):
        raise SystemExit(f"{len(records) - len(predictions)} images of {images.name} failed")
    right = [p.prediction == truth for p, truth in zip(predictions, images.truth, strict=True)]
    return [p.probabilities.tolist() for p in predictions], sum(right) / len(right)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line per set of images and way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="mini", help="as clipcls takes it")
    parser.add_argument("--device", default="cpu", help="as clipcls takes it")
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=["fp16", "bf16"])
    parser.add_argument("--enlarge", type=float, nargs="*", default=[2, 4], metavar="FACTOR")
    parser.add_argument("--count", type=int, help="images, by default all")
    asked = parser.parse_args(arguments)
    whole = photos(asked.data)
    original = ImageSet(
        whole.name, whole.wordings, whole.paths[: asked.count], whole.truth[: asked.count]
    )
    ways = [
        (Precision.FP32, Decoding.FAST),
        *((Precision(name), Decoding.EXACT) for name in asked.precision),
        *((Precision(name), Decoding.FAST) for name in asked.precision),
    ]
    print(f"{asked.model} on {asked.device}, {len(original.wordings)} labels\n")
    print("| images | way | same top-1 as exact | mean abs. difference | top-1 | agrees | s |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="clipcls-agreement-") as temporary:
        copies = [enlarged(original, f, Path(temporary) / f"x{f:g}") for f in asked.enlarge]
        for number, images in enumerate([original, *copies]):
            where = (images, asked.model, asked.device)
            exact, accuracy = rows_of(*where, Precision.FP32, Decoding.EXACT)
            print(f"| {images.name}, {len(exact)} | fp32, exact | | | {accuracy:.1%} | | |")
            # The precision sees no file, so one set is enough for it.
            for precision, decoding in ways if number == 0 else ways[:1]:
                started = time.perf_counter()
                rows, accuracy = rows_of(*where, precision, decoding)
                seconds = time.perf_counter() - started
                same, apart = agreement(rows, exact)
                agrees = "yes" if same >= LEAST_SAME and apart < MOST_APART else "NO"
                print(
                    f"| | {precision}, {decoding} | {same:.1%} | {apart:.5f} | {accuracy:.1%}"
                    f" | {agrees} | {seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
