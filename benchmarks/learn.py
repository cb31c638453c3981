"""Print what a few labels are worth: `python -m benchmarks.learn --images DIR`.

From each label, 1, 4 and 16 examples are drawn by chance, a head is learned from them, and all
other images judge it beside zero-shot; several draws. "All" is five-fold cross-validation. The
folder has `images/`, `labels.csv` (`id,target`) and `classes.txt`, as in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.processes import hardware
from clipcls import CacheOptions, Classifier, Precision, RuntimeOptions
from clipcls.evaluation.bootstrap import Floats
from clipcls.inputs.refs import ImageRef
from clipcls.learning.examples import Examples
from clipcls.learning.fitting import fit_head
from clipcls.learning.judging import judge
from clipcls.learning.linear import Linear
from clipcls.options import HeadMethod
from clipcls.records import Embedded

SHOTS = (1, 4, 16)


def examples_of(folder: Path, model: str, cache: Path | None) -> Examples:
    """Embed the images of a folder.

    Raises:
        SystemExit: One of them fails.
    """
    labels = (folder / "classes.txt").read_text(encoding="utf-8").split()
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    runtime = RuntimeOptions(precision=Precision.FP32, cache=CacheOptions(cache))
    classifier = Classifier(labels, model=model, templates=["a photo of a <>"], runtime=runtime)
    names = (str(folder / "images" / f"photo-{row['id']}.jpg") for row in rows)
    found = list(classifier.embed(ImageRef(i, name) for i, name in enumerate(names)))
    vectors = [record.embedding for record in found if isinstance(record, Embedded)]
    if len(vectors) < len(rows):
        raise SystemExit(f"{len(rows) - len(vectors)} images of {folder} failed")
    scorer = classifier.scorer
    weights = scorer.scale * scorer.classes.astype(np.float64)
    return Examples(
        embeddings=np.stack(vectors).astype(np.float64),
        truth=np.array([int(row["target"]) for row in rows]),
        zero_shot=Linear(weights - weights.mean(axis=0), np.zeros(len(labels))),
        prompted=np.ones(len(labels), dtype=bool),
    )


def of_shots(examples: Examples, shots: int, draws: int, method: HeadMethod) -> Floats:
    """Return (draws, 2) accuracies on the images that were not drawn: zero-shot and head."""
    rng = np.random.default_rng(shots)
    rows = []
    for _ in range(draws):
        drawn = np.zeros(len(examples), dtype=bool)
        for label in range(examples.labels):
            drawn[rng.permutation(np.flatnonzero(examples.truth == label))[:shots]] = True
        rest = examples.part(~drawn)
        head = fit_head(examples.part(drawn), method)
        sides = (rest.zero_shot_logits, head.logits(rest.embeddings))
        rows.append([float((side.argmax(axis=1) == rest.truth).mean()) for side in sides])
    return np.array(rows)


def table(examples: Examples, draws: int) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| examples of each label | method | zero-shot, % | head, % | gain, points | s |"
    yield "|---|---|---|---|---|---|"
    for shots in SHOTS:
        for method in (HeadMethod.GDA, HeadMethod.PROBE):
            started = time.perf_counter()
            found = 100 * of_shots(examples, shots, draws, method)
            seconds = (time.perf_counter() - started) / draws
            (before, after), gains = found.mean(axis=0), found[:, 1] - found[:, 0]
            yield (
                f"| {shots} | {method} | {before:.1f} | {after:.1f} | {gains.mean():+.1f}"
                f" ({gains.min():+.1f} to {gains.max():+.1f}) | {seconds:.2f} |"
            )
    for method in (HeadMethod.GDA, HeadMethod.PROBE):
        started = time.perf_counter()
        judged = judge(examples, method)
        gain = judged.difference
        yield (
            f"| all, {int(examples.per_label.max() * 0.8)} | {method}"
            f" | {100 * judged.zero_shot.value:.1f} | {100 * judged.head.value:.1f}"
            f" | {100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
            f" | {time.perf_counter() - started:.2f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line per number of examples and method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learn", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="mini", help="as clipcls takes it")
    parser.add_argument("--draws", type=int, default=10, help="of examples, for each line")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="where embeddings are kept")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the table there too")
    asked = parser.parse_args(arguments)
    examples = examples_of(asked.images, asked.model, asked.cache_dir)
    lines = ["# Heads from a few labels", "", *hardware(), ""]
    lines.append(
        f"Model {asked.model}, {len(examples)} images of {asked.images.name},"
        f" {examples.labels} labels; means of {asked.draws} draws, with the lowest and the highest"
        " gain; of all examples five-fold cross-validation, with a 95 % interval."
    )
    print(*lines, "", sep="\n", flush=True)
    rows = []
    for line in table(examples, asked.draws):
        rows.append(line)
        print(line, flush=True)
    if asked.output is not None:
        asked.output.write_text("\n".join([*lines, "", *rows, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
