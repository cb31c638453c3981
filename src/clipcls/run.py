"""One run from inputs to an output: what `clipcls classify` does, without a terminal.

The order of the steps is the order of their cost: what the user wrote is checked before the output
is touched, and the output before a model is loaded, so that a slip costs a second and no rows.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import clipcls
from clipcls.classifier import Classifier, ask
from clipcls.columns import Columns
from clipcls.embed import EmbeddingStream, Stages
from clipcls.errors import OptionError, ResumeError
from clipcls.inputs.packed import PackedRefs
from clipcls.inputs.recognize import is_candidate
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.urls import file_of, redacted
from clipcls.inputs.walk import Discovery
from clipcls.lexicon import digest
from clipcls.observer import Observer
from clipcls.options import OutputOptions, Precision
from clipcls.outputs import SavedRow
from clipcls.outputs.base import check_not_read
from clipcls.outputs.manifest import PathDigest, check_same_run, now, packed, summary
from clipcls.outputs.sink import Sink, check_row, open_sink
from clipcls.prompts import PromptSet
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.records import Record, RunReport
from clipcls.scoring import score
from clipcls.text import printable_path

if TYPE_CHECKING:
    from clipcls.models.base import Encoder
    from clipcls.models.devices import DeviceChoice


class Scoring(Protocol):
    """Images on their way to their records; can be gone through once.

    Attributes:
        interrupted: Whether it was stopped before all images had come.
        cached: How many embeddings were found in the cache.
    """

    @property
    def interrupted(self) -> bool: ...  # noqa: D102
    @property
    def cached(self) -> int: ...  # noqa: D102

    def load(self, *, ahead: bool) -> None:
        """Load what can fail, before the output is touched.

        Args:
            ahead: Whether the first images may be decoded meanwhile.
        """

    def batches(self) -> Iterator[list[Record]]:
        """Yield one record per image, in input order, by batches that are cut by position."""

    def close(self) -> None:
        """Stop whatever is still at work."""


class Engine(Protocol):
    """Where images are decoded, embedded and scored."""

    def device(self, classifier: Classifier) -> DeviceChoice:
        """Return what a run uses there."""

    def scoring(
        self,
        classifier: Classifier,
        refs: Iterable[ImageRef],
        stages: Stages,
        should_stop: Callable[[], bool],
    ) -> Scoring:
        """Return what scores the images; nothing is begun yet."""


class Local:
    """This process; implements `Engine`."""

    def device(self, classifier: Classifier) -> DeviceChoice:
        """Return what the classifier has chosen."""
        return classifier.device

    def scoring(
        self,
        classifier: Classifier,
        refs: Iterable[ImageRef],
        stages: Stages,
        should_stop: Callable[[], bool],
    ) -> Scoring:
        """Return a stream of embeddings that are scored as they come."""
        return _LocalScoring(classifier, classifier.embed(refs, stages, should_stop))


class _LocalScoring:
    def __init__(self, classifier: Classifier, stream: EmbeddingStream) -> None:
        self._classifier = classifier
        self._stream = stream

    @property
    def interrupted(self) -> bool:
        return self._stream.interrupted

    @property
    def cached(self) -> int:
        return self._stream.cached

    def load(self, *, ahead: bool) -> None:
        if ahead:
            # Decoded while the model is loaded and the prompts are encoded.
            self._stream.start()
        _ = self._classifier.scorer

    def batches(self) -> Iterator[list[Record]]:
        for batch in self._stream.batches():
            yield list(score(batch, self._classifier.scorer))

    def close(self) -> None:
        self._stream.close()


@dataclass(frozen=True)
class Job:
    """Everything that the user decided.

    Attributes:
        inputs: Which images.
        question: What is asked of each.
        model: Which model answers.
        output: What is written where.
        reads: Files that the job was made from (labels, templates), which it must not overwrite.
    """

    inputs: Inputs
    question: Question
    model: ModelChoice
    output: OutputOptions = field(default_factory=OutputOptions)
    reads: tuple[Path, ...] = ()


def run(  # noqa: PLR0913  what a run is told and touches
    job: Job,
    *,
    observer: Observer | None = None,
    encoder: Encoder | None = None,
    engine: Engine | None = None,
    stdout: BinaryIO | None = None,
    stdin: BinaryIO | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Classify the job's images into its output.

    Args:
        job: What to do.
        observer: Told about the progress.
        encoder: Used in place of what the job's model names.
        engine: Where images are scored; this process by default.
        stdout: Where rows go when the job names no file; standard output by default.
        stdin: Where the input `-` reads from; standard input by default.
        should_stop: Asked after each batch; True ends the run with a resumable file.

    Raises:
        ClipclsError: See `clipcls.errors`; the rows written before are kept.
    """
    observer = observer or Observer()
    classifier = ask(job.question, job.model, job.inputs.decode, encoder)
    classifier.warn, classifier.tell = observer.warned, observer.noted
    found = discovered(job.inputs, stdin)
    opened = open_output(job, classifier, found.tables.kept, stdout)
    inputs = Listed(job, found)
    with opened as sink:
        if sink.complete is not None:
            classifier.settle(sink.made_by, observer.downloading)
            report = _check_complete(sink.complete, inputs, job, classifier)
        else:
            report = _classify(
                engine or Local(), classifier, inputs, sink, job, observer, should_stop
            )
        report.model = classifier.name
        observer.finished(report)
        return report


def _classify(  # noqa: PLR0913  what a run is made of
    engine: Engine,
    classifier: Classifier,
    inputs: Listed,
    sink: Sink,
    job: Job,
    observer: Observer,
    should_stop: Callable[[], bool],
) -> RunReport:
    """Score the images that have no row yet, batch by batch, and count all rows."""
    # First, because a device that is not there must not cost a download.
    device = engine.device(classifier)
    classifier.settle(sink.made_by, observer.downloading)
    observer.loading(classifier.name, device)
    batch_size = sink.batch_size or device.batch_size
    if device.batch_size != batch_size and job.model.runtime.batch_size is not None:
        observer.warned(f"keeping the batch size of the interrupted run, {batch_size}")
    manifest = {
        **settings(job, classifier.prompts, inputs.kept),
        **circumstances(classifier, device, job),
        "batch_size": batch_size,
    }
    # What comes through a pipe may be long in coming, and must not hold back what came before.
    in_flight = 1 if inputs.total is None else device.in_flight
    eager = job.output.path is None
    stages = Stages(batch_size, device.workers, eager=eager, in_flight=in_flight)
    with closing(engine.scoring(classifier, inputs, stages, should_stop)) as scoring:
        # Where no rows are kept, the first images are known.
        scoring.load(ahead=sink.batch_size is None)
        # Not before: a model that cannot be loaded must not cost the rows of an older run.
        kept = sink.begin(manifest, batch_size)
        report = _report_of(sink.kept_rows(), inputs, job.output.path)
        observer.started(classifier.prompts, inputs.total, kept)
        began = time.perf_counter()
        for records in scoring.batches():
            sink.write(records)
            for record in records:
                report.add(record)
                observer.scored(record)
    report.interrupted, report.cached = scoring.interrupted, scoring.cached
    report.seconds = time.perf_counter() - began
    report.skipped.update(inputs.skipped)
    report.skipped_paths = inputs.skipped_paths
    if not report.interrupted:
        sink.finish({**summary(report, str(inputs.digest)), **inputs.of_shard()})
    return report


def discovered(given: Inputs, stdin: BinaryIO | None = None) -> Discovery:
    """Return what stands for the images, its tables opened and nothing listed.

    Raises:
        InputError: An input is not there, or a table is not as it should be.
    """
    return Discovery(given.paths, given.discovery, is_image=is_candidate, stdin=stdin)


def open_output(
    job: Job, classifier: Classifier, kept: Mapping[str, str], stdout: BinaryIO | None = None
) -> AbstractContextManager[Sink]:
    """Return what opens the output of a job; see `open_sink`.

    Args:
        job: The job.
        classifier: Knows its labels and prompts.
        kept: Name -> type of the columns that come from tables.
        stdout: Where rows go when the job names no file.

    Raises:
        OptionError: A column is called like another one, or cannot be had.
    """
    asked = job.output
    if job.question.head is not None and asked.similarities:
        raise OptionError(
            "--similarities and --head contradict each other: similarities are those of images and"
            " prompts, and a head does without prompts"
        )
    columns = Columns(
        *(classifier.labels, asked.top_k, asked.logits, asked.similarities, kept),
        unknown=job.question.scoring.unknown is not None,
    )
    return open_sink(asked, columns, settings(job, classifier.prompts, kept), stdout)


class Listed(Iterator[ImageRef]):
    """The inputs of the job's shard in order, with the digest of all of them.

    They are listed before anything is loaded, so that an empty folder costs no time and the
    progress has an end, unless they come through a pipe: then they are taken as they come, the
    first one awaited so that an empty pipe costs nothing either.

    Attributes:
        total: How many there are, None where they come through a pipe.
        images: How many images all shards have together, as far as they have come.
        digest: Of the paths of those.
        skipped: Why a file was left out -> how many.
        skipped_paths: The first of them as (path, why).
        kept: Name -> type of the columns that come from tables.

    Raises:
        OptionError: The output would replace an image, a list or another file that is read.
    """

    def __init__(self, job: Job, found: Discovery) -> None:
        given = job.inputs
        self.kept = found.tables.kept
        self.skipped, self.skipped_paths = found.skipped, found.skipped_paths
        self._shard = given.shard
        output = job.output.path if job.output.overwrite else None
        self._replaced = output if output is not None and output.is_file() else None
        self._places = array("Q")
        self.images, self.digest = 0, PathDigest()
        lists = (text[1:] for text in given.paths if text[:1] == "@")
        self._check_apart(*map(str, job.reads), *lists, *found.tables.opened)
        refs = self._of_shard(found)
        listed = PackedRefs(found.ref)
        for ref in refs:
            listed.append(ref)
            if found.streams:
                break
        self.total = None if found.streams else len(listed)
        self._refs = chain(listed, refs)

    def __next__(self) -> ImageRef:
        return next(self._refs)

    def of_shard(self) -> dict[str, Any]:
        """What the manifest of a complete shard adds, see `OF_SHARD`; nothing without shards."""
        return {"listed": self.images, "places": packed(self._places)} if self._shard else {}

    def _of_shard(self, found: Iterable[ImageRef]) -> Iterator[ImageRef]:
        for ref in found:
            self._check_apart(file_of(ref.path))
            self.images += 1
            self.digest.add(ref.path)
            if self._shard is None:
                yield ref
            elif self._shard.has(ref.path):
                self._places.append(ref.index)
                yield ref

    def _check_apart(self, *read: str) -> None:
        if self._replaced is not None:
            check_not_read(self._replaced, read)


def settings(job: Job, prompts: PromptSet, kept: Mapping[str, str]) -> dict[str, Any]:
    """The part of the manifest that is known before a model is loaded."""
    unknown = job.question.scoring.unknown
    own = {} if unknown is None or unknown.words is not None else {"lexicon": digest()}
    return {
        "versions": {
            "clipcls": clipcls.__version__,
            "open_clip": version("open_clip_torch"),
            "torch": version("torch"),
            **own,
        },
        "prompts": {
            label: list(texts) for label, texts in zip(prompts.labels, prompts.prompts, strict=True)
        },
        "head": job.question.head.digest if job.question.head else None,
        "scoring": job.question.scoring.described(),
        "decode": job.inputs.decode.described(),
        "shard": str(job.inputs.shard) if job.inputs.shard else None,
        "output": {
            **job.output.described(),
            "format": job.output.resolved_format.value,
            "keep": dict(kept),
        },
    }


def circumstances(classifier: Classifier, device: DeviceChoice, job: Job) -> dict[str, Any]:
    """The part of the manifest that the model and the machine say."""
    return {
        "model": classifier.identity(device.precision),
        "device": device.device,
        # Another kind of device rounds differently, another one of the same kind does not.
        "device_kind": device.device.partition(":")[0],
        "inputs": [printable_path(redacted(text)) for text in job.inputs.paths],
        "started": now(),
    }


def _report_of(
    kept: Iterable[SavedRow], inputs: Iterator[ImageRef], where: Path | None
) -> RunReport:
    """Count the rows that are kept from an interrupted run, and skip their inputs."""
    report = RunReport()
    for number, row in enumerate(kept, start=1):
        ref = next(inputs, None)
        check_row(row, number, None if ref is None else printable_path(ref.path), where)
        report.resumed += 1
        report.count(row.prediction, row.error)
    return report


def _check_complete(
    complete: Mapping[str, Any], inputs: Listed, job: Job, classifier: Classifier
) -> RunReport:
    """Return the report of an output that is there already, if it is that of this job.

    Nothing is loaded for it: where the user left device or precision open, those of the output
    are taken.
    """
    where = job.output.path or Path()
    runtime, was = job.model.runtime, complete["model"]
    open_precision = runtime.precision is Precision.AUTO
    precision = Precision(was["precision"]) if open_precision else runtime.precision
    kind = runtime.device.partition(":")[0]
    now = {
        "model": classifier.identity(precision),
        "device_kind": complete["device_kind"] if kind == "auto" else kind,
    }
    check_same_run(complete, now, where)
    images = sum(1 for _ in inputs)
    if str(inputs.digest) != complete["inputs_sha256"]:
        raise ResumeError(
            f"{where} is complete, but for other inputs: it was made of"
            f" {complete.get('listed', complete['images'])} images, the inputs now have"
            f" {inputs.images}; choose another file with -o, or --overwrite"
        )
    return RunReport(
        resumed=images,
        failed=complete["failed"],
        counts=Counter(complete["counts"]),
        reasons=Counter(complete["reasons"]),
        skipped=Counter(complete["skipped"]),
    )
