"""Who is measured how often, and the tables that come of it.

Each measurement is repeated in rounds, all contenders after each other in each round, so that what
else the machine does meets all of them. Figures are medians over the rounds.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.processes import Ended, run_python
from benchmarks.question import LABELS, OTHER_LABELS, TEMPLATE

Rows = list[list[float]]
Table = list[str]

MOST_ENCODED = 96
"""Images on which `mini` is measured; its speed does not depend on which or how many."""

MOST_LARGE = 48
FEW_LISTED = 1_000
HELP_RUNS = 5


@dataclass(frozen=True)
class Run:
    """One contender's run.

    Attributes:
        rate: Images per second, from the first file to the last row.
        whole: Seconds of the whole process.
        memory: Peak resident size in MB.
        rows: N rows of probabilities, or None where there are none.
    """

    rate: float
    whole: float
    memory: float
    rows: Rows | None


@dataclass(frozen=True)
class Contender:
    """One line of a table.

    Attributes:
        title: What the table says.
        name: `classify` for the program itself, else a name in `benchmarks.contenders`.
        precision: clipcls' number format.
        model: Another model than that of the bench.
        decoding: clipcls' way to read large JPEGs.
    """

    title: str
    name: str
    precision: str = "fp32"
    model: str | None = None
    decoding: str = "fast"


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        workspace: A temporary folder.
        images: The N files, with repetitions under names of their own.
        model: A folder with a model.
        device: As `clipcls --device` takes it.
        precisions: clipcls' number formats, the first of them the one of the other contenders.
        runs: How often each is measured.
        listed: Paths in the long list whose memory is measured.
    """

    workspace: Path
    images: list[Path]
    model: str
    device: str = "auto"
    precisions: tuple[str, ...] = ("fp32",)
    runs: int = 3
    listed: int = 100_000

    def listing(self, images: Sequence[Path]) -> Path:
        """Write a list of files; what a list names is scored as often as it is named."""
        path = self.workspace / "images.txt"
        path.write_text("".join(f"{image}\n" for image in images), encoding="utf-8")
        return path

    def contend(self, who: Contender, images: Sequence[Path]) -> Run | str:
        """Measure a contender once; a text says why it cannot take part."""
        if who.name == "classify":
            model = who.model or self.model
            flags = ("--model", model, "--precision", who.precision, "--decode", who.decoding)
            return self.classify(images, "--no-cache", *flags)
        how = (who.model or self.model, who.precision, who.decoding)
        ended, found = self.child(who.name, images, *how)
        if "skipped" in found:
            return str(found["skipped"])
        rate = len(images) / found["seconds"]
        return Run(rate, ended.seconds, ended.memory, found["rows"])

    def child(
        self,
        name: str,
        images: Sequence[Path] = (),
        model: str = "",
        precision: str = "fp32",
        decoding: str = "fast",
    ) -> tuple[Ended, dict[str, Any]]:
        """Run what `benchmarks.contenders` calls `name`; return its process and its result."""
        result = self.workspace / "result.json"
        files = (str(self.listing(images)), str(result))
        how = (model, self.device, precision, decoding)
        ended = run_python(["-m", "benchmarks.contenders", name, *files, *how], self.workspace)
        return ended, json.loads(result.read_text(encoding="utf-8"))

    def classify(self, images: Sequence[Path], *flags: str, labels: Sequence[str] = LABELS) -> Run:
        """Run `clipcls classify` as a user does; the rate is the one that it prints."""
        out = self.workspace / "rows.csv"
        question = ["--labels", ",".join(labels), "--template", TEMPLATE]
        where = ["--device", self.device, "-o", str(out), "--overwrite"]
        inputs = f"@{self.listing(images)}"
        ended = run_python(
            ["-m", "clipcls", "classify", inputs, *question, *where, *flags], self.workspace
        )
        said = re.search(r"([\d.]+) img/s", ended.said)
        if said is None:
            raise SystemExit(f"clipcls classify printed no speed:\n{ended.said}")
        with out.open(encoding="utf-8", newline="") as file:
            rows = [[float(row[label]) for label in labels] for row in csv.DictReader(file)]
        return Run(float(said[1]), ended.seconds, ended.memory, rows)


# --- arithmetic -----------------------------------------------------------------------------------


def shared_limit(decoding: float, encoding: float) -> float:
    """Return the img/s that cores can do which decode at one and encode at the other rate."""
    return 1 / (1 / decoding + 1 / encoding)


def separate_limit(decoding: float, encoding: float) -> float:
    """Return the img/s where decoding and encoding have processors of their own."""
    return min(decoding, encoding)


def agreement(rows: Rows, reference: Rows) -> tuple[float, float]:
    """Return the share of images with the same top-1, and the mean absolute difference.

    Args:
        rows: (N, C) probabilities.
        reference: (N, C) probabilities of the same images and labels.
    """
    pairs = list(zip(rows, reference, strict=True))
    same = fmean(row.index(max(row)) == other.index(max(other)) for row, other in pairs)
    apart = fmean(abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True))
    return same, apart


def middle(runs: Sequence[Run]) -> Run:
    """Return the median of each figure, with the rows of the first run."""
    return Run(
        median(run.rate for run in runs),
        median(run.whole for run in runs),
        median(run.memory for run in runs),
        runs[0].rows,
    )


# --- tables ---------------------------------------------------------------------------------------


def compared(bench: Bench, contenders: Sequence[Contender], images: Sequence[Path]) -> Table:
    """Measure contenders in turn; the first is what the others are compared with."""
    runs: dict[Contender, list[Run]] = {who: [] for who in contenders}
    excuses: dict[Contender, str] = {}
    for _ in range(bench.runs):
        for who in contenders:
            if who in excuses:
                continue
            run = bench.contend(who, images)
            if isinstance(run, Run):
                runs[who].append(run)
            else:
                excuses[who] = run
    lines = [
        f"| {len(images)} images | img/s | lowest to highest | ratio to (1) | whole process, s"
        " | peak memory, MB | same top-1 as (1) | mean abs. difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    figures = {who: middle(of) for who, of in runs.items() if of}
    first = figures[contenders[0]]
    for number, who in enumerate(contenders, start=1):
        if who in excuses:
            lines.append(f"| ({number}) {who.title} | skipped: {excuses[who]} | | | | | | |")
            continue
        figure = figures[who]
        if who.model != contenders[0].model:
            # Another model has other answers.
            figure = replace(figure, rows=None)
        row = line_of(figure, first, [run.rate for run in runs[who]])
        lines.append(f"| ({number}) {who.title} | {row} |")
    return [*lines, *limits(figures)]


def line_of(run: Run, first: Run, rates: Sequence[float]) -> str:
    """Return the cells of a contender after its name."""
    same, apart = "-", "-"
    if run.rows is not None and first.rows is not None:
        share, distance = agreement(run.rows, first.rows)
        same, apart = f"{100 * share:.1f} %", f"{distance:.1e}"
    return (
        f"{run.rate:.1f} | {min(rates):.1f} to {max(rates):.1f} | {run.rate / first.rate:.2f}"
        f" | {run.whole:.1f} | {run.memory:.0f} | {same} | {apart}"
    )


def limits(figures: dict[Contender, Run]) -> Table:
    """Return what decoding and encoding alone allow, and how near to it the program comes."""
    rates = {
        (who.name, who.precision): run.rate
        for who, run in figures.items()
        if who.decoding == "fast"
    }
    decoding = rates.get(("decode", "fp32"))
    if decoding is None:
        return []
    lines = [
        "",
        "| limit | d, img/s | e, img/s | limit, img/s | clipcls classify / limit |",
        "|---|---|---|---|---|",
    ]
    for (name, precision), encoding in rates.items():
        if name != "encode":
            continue
        for title, limit in (
            ("shared cores, 1/(1/d + 1/e)", shared_limit(decoding, encoding)),
            ("separate device, min(d, e)", separate_limit(decoding, encoding)),
        ):
            reached = rates["classify", precision] / limit
            lines.append(
                f"| {title}, {precision} | {decoding:.1f} | {encoding:.1f} | {limit:.1f}"
                f" | {reached:.2f} |"
            )
    return lines


def ours(precisions: Sequence[str]) -> list[Contender]:
    """Return clipcls whole and in its two halves."""
    return [
        *(Contender(f"clipcls classify, {p}", "classify", p) for p in precisions),
        Contender("clipcls, decode only", "decode"),
        *(Contender(f"clipcls, encode only, {p}", "encode", p) for p in precisions),
    ]


# --- what is measured -----------------------------------------------------------------------------


def contest(bench: Bench) -> Table:
    """The usual ways to do it, and clipcls, on the same files and weights."""
    others = [
        Contender("open_clip README loop", "loop"),
        Contender("open_clip, DataLoader, 2 workers, batches of 32", "loader"),
        Contender("Hugging Face CLIP, batches of 32", "hugging-face"),
    ]
    return compared(bench, [*others, *ours(bench.precisions)], bench.images)


def large(bench: Bench) -> Table:
    """The same where decoding is most of the work: JPEGs of 12 megapixels."""
    bench.child("enlarge", bench.images[:12])
    files = sorted((bench.workspace / "large").iterdir())
    images = [files[i % len(files)] for i in range(min(len(bench.images), MOST_LARGE))]
    exact = Contender("clipcls, decode only, --decode exact", "decode", decoding="exact")
    loop = Contender("open_clip README loop", "loop")
    return compared(bench, [loop, *ours(bench.precisions[:1]), exact], images)


def mini(bench: Bench) -> Table:
    """The bundled model beside the measured one, image tower alone."""
    contenders = [
        Contender("encode only, the model above", "encode"),
        Contender("encode only, mini", "encode", model="mini"),
    ]
    return compared(bench, contenders, bench.images[:MOST_ENCODED])


def help_start(bench: Bench) -> Table:
    """How long a person waits for the help."""
    jobs = {"clipcls --help": ["-m", "clipcls", "--help"], "python -c pass": ["-c", "pass"]}
    # What is read from disk for the first time is not measured.
    seconds = {
        title: [run_python(job, bench.workspace).seconds for _ in range(1 + HELP_RUNS)][1:]
        for title, job in jobs.items()
    }
    return [
        f"| start, median of {HELP_RUNS} | seconds | lowest to highest |",
        "|---|---|---|",
        *(
            f"| `{title}` | {median(of):.2f} | {min(of):.2f} to {max(of):.2f} |"
            for title, of in seconds.items()
        ),
    ]


def memory(bench: Bench) -> Table:
    """What a long list costs; tiny images and no model, so that it is the pipeline's memory."""
    counts = (FEW_LISTED, bench.listed)
    peaks = [bench.child("listed", model=str(count))[0].memory for count in counts]
    lines = [f"| {count:,} paths | {peak:.0f} |" for count, peak in zip(counts, peaks, strict=True)]
    more = f"| more | {peaks[1] - peaks[0]:.0f} |"
    return ["| listed | peak memory, MB |", "|---|---|", *lines, more]


def distinct(path: Path, folder: Path) -> Path:
    """Copy an image with its name behind its end, or the cache would know repeated ones."""
    folder.mkdir(exist_ok=True)
    copy = folder / path.name
    copy.write_bytes(path.read_bytes() + path.name.encode())
    return copy


def cache(bench: Bench) -> Table:
    """Later runs over the same images with the embedding cache, which is empty at first."""
    images = [distinct(path, bench.workspace / "distinct") for path in bench.images]
    titles = ("first run", "second run, other labels", "third run, the first labels")
    found: dict[str, list[Run]] = {title: [] for title in titles}
    for number in range(bench.runs):
        flags = ("--cache-dir", str(bench.workspace / f"embeddings-{number}"))
        model = ("--model", bench.model, "--precision", bench.precisions[0])
        for title, labels in zip(titles, (LABELS, OTHER_LABELS, LABELS), strict=True):
            found[title].append(bench.classify(images, *flags, *model, labels=labels))
    runs = {title: middle(of) for title, of in found.items()}
    first = runs[titles[0]]
    return [
        f"| cache, {len(images)} images | whole process, s | times faster | img/s | ratio |",
        "|---|---|---|---|---|",
        *(
            f"| {title} | {run.whole:.1f} | {first.whole / run.whole:.2f} | {run.rate:.1f}"
            f" | {run.rate / first.rate:.2f} |"
            for title, run in runs.items()
        ),
    ]


SECTIONS: dict[str, Callable[[Bench], Table]] = {
    "contest": contest,
    "large": large,
    "mini": mini,
    "help": help_start,
    "memory": memory,
    "cache": cache,
}
"""What `--only` takes, in the order of the report."""
