"""One run from inputs to an output: what `clipcls classify` does, without a terminal.

The order of the steps is the order of their cost: what the user wrote is checked before the output
is touched, and the output before a model is loaded, so that a slip costs a second and no rows.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import clipcls
from clipcls.classifier import Classifier, ask
from clipcls.columns import Columns
from clipcls.embed import Stages
from clipcls.errors import ResumeError
from clipcls.inputs.decode import is_candidate
from clipcls.inputs.packed import PackedRefs
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.urls import file_of, redacted
from clipcls.inputs.walk import Discovery
from clipcls.observer import Observer
from clipcls.options import OutputOptions, Precision
from clipcls.outputs import SavedRow
from clipcls.outputs.base import check_not_read
from clipcls.outputs.manifest import PathDigest, check_same_run, now, packed, summary
from clipcls.outputs.sink import Sink, check_row, open_sink
from clipcls.prompts import PromptSet
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.records import RunReport
from clipcls.scoring import score
from clipcls.text import printable_path

if TYPE_CHECKING:
    from clipcls.models.base import Encoder


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


def run(
    job: Job,
    *,
    observer: Observer | None = None,
    encoder: Encoder | None = None,
    stdout: BinaryIO | None = None,
    stdin: BinaryIO | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Classify the job's images into its output.

    Args:
        job: What to do.
        observer: Told about the progress.
        encoder: Used in place of what the job's model names.
        stdout: Where rows go when the job names no file; standard output by default.
        stdin: Where the input `-` reads from; standard input by default.
        should_stop: Asked after each batch; True ends the run with a resumable file.

    Raises:
        ClipclsError: See `clipcls.errors`; the rows written before are kept.
    """
    observer = observer or Observer()
    output = job.output
    classifier = ask(job.question, job.model, job.inputs.decode, encoder)
    classifier.warn = observer.warned
    columns = Columns(classifier.labels, output.top_k, output.logits, output.similarities)
    inputs = _Listed(job, stdin)
    with open_sink(output, columns, _settings(job, classifier.prompts), stdout) as sink:
        if sink.complete is not None:
            classifier.settle(sink.made_by, observer.downloading)
            report = _check_complete(sink.complete, inputs, job, classifier)
        else:
            report = _classify(classifier, inputs, sink, job, observer, should_stop)
        report.model = classifier.name
        observer.finished(report)
        return report


def _classify(  # noqa: PLR0913  what a run is made of
    classifier: Classifier,
    inputs: _Listed,
    sink: Sink,
    job: Job,
    observer: Observer,
    should_stop: Callable[[], bool],
) -> RunReport:
    """Score the images that have no row yet, batch by batch, and count all rows."""
    # First, because a device that is not there must not cost a download.
    device = classifier.device
    classifier.settle(sink.made_by, observer.downloading)
    observer.loading(classifier.name, device)
    scorer = classifier.scorer
    batch_size = sink.batch_size or device.batch_size
    if device.batch_size != batch_size and job.model.runtime.batch_size is not None:
        observer.warned(f"keeping the batch size of the interrupted run, {batch_size}")
    manifest = {
        **_settings(job, classifier.prompts),
        **_circumstances(classifier, job),
        "batch_size": batch_size,
    }
    kept = sink.begin(manifest, batch_size)
    report = _report_of(sink.kept_rows(), inputs, job.output.path)
    observer.started(classifier.prompts, inputs.total, kept)
    stages = Stages(batch_size, device.workers, eager=job.output.path is None)
    stream = classifier.embed(inputs, stages, should_stop)
    began = time.perf_counter()
    with closing(stream.batches()) as batches:
        for batch in batches:
            records = list(score(batch, scorer))
            sink.write(records)
            for record in records:
                report.add(record)
                observer.scored(record)
    report.interrupted, report.cached = stream.interrupted, stream.cached
    report.seconds = time.perf_counter() - began
    report.skipped.update(inputs.skipped)
    report.skipped_paths = inputs.skipped_paths
    if not report.interrupted:
        sink.finish({**summary(report, str(inputs.digest)), **inputs.of_shard()})
    return report


class _Listed(Iterator[ImageRef]):
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

    Raises:
        OptionError: The output would replace an image, a list or another file that is read.
    """

    def __init__(self, job: Job, stdin: BinaryIO | None) -> None:
        given = job.inputs
        found = Discovery(given.paths, given.discovery, is_image=is_candidate, stdin=stdin)
        self.skipped, self.skipped_paths = found.skipped, found.skipped_paths
        self._shard = given.shard
        output = job.output.path if job.output.overwrite else None
        self._replaced = output if output is not None and output.is_file() else None
        self._places = array("Q")
        self.images, self.digest = 0, PathDigest()
        lists = (text[1:] for text in given.paths if text[:1] == "@")
        self._check_apart(*map(str, job.reads), *lists)
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


def _settings(job: Job, prompts: PromptSet) -> dict[str, Any]:
    """The part of the manifest that is known before a model is loaded."""
    return {
        "versions": {
            "clipcls": clipcls.__version__,
            "open_clip": version("open_clip_torch"),
            "torch": version("torch"),
        },
        "prompts": {
            label: list(texts) for label, texts in zip(prompts.labels, prompts.prompts, strict=True)
        },
        "scoring": job.question.scoring.described(),
        "decode": job.inputs.decode.described(),
        "shard": str(job.inputs.shard) if job.inputs.shard else None,
        "output": {**job.output.described(), "format": job.output.resolved_format.value},
    }


def _circumstances(classifier: Classifier, job: Job) -> dict[str, Any]:
    """The part of the manifest that the model and the machine say."""
    device = classifier.device
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
    complete: Mapping[str, Any], inputs: _Listed, job: Job, classifier: Classifier
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
