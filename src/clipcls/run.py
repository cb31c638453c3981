"""One run from inputs to an output: what `clipcls classify` does, without a terminal.

The order of the steps is the order of their cost: what the user wrote is checked before the output
is touched, and the output before a model is loaded, so that a slip costs a second and no rows.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import clipcls
from clipcls.classifier import advice, make_scorer
from clipcls.decode import is_candidate
from clipcls.devices import DeviceChoice, choose_device
from clipcls.discovery import Discovery
from clipcls.encoder import load_encoder
from clipcls.errors import LabelError, ResumeError
from clipcls.labels import Label
from clipcls.models import ModelSpec, resolve_model
from clipcls.options import (
    DecodeOptions,
    DiscoveryOptions,
    OutputOptions,
    RuntimeOptions,
    ScoringOptions,
)
from clipcls.pipeline import classify_refs
from clipcls.prompts import PromptSet, build_prompts
from clipcls.records import UNKNOWN, Failure, ImageRef, Record, RunReport, printable_path
from clipcls.sink import Sink, check_rows, open_sink
from clipcls.writers import Columns, SavedRow

if TYPE_CHECKING:
    from clipcls.encoder import Encoder


@dataclass(frozen=True)
class Job:
    """Everything that the user decided.

    Attributes:
        inputs: Files, folders, globs, `@list` and `-`, as given.
        labels: The labels with their wordings.
        templates: Finished templates, each with the slot `<>`.
        model: A preset, name, folder or file (see `clipcls.models`).
        architecture: The architecture of a bare weight file.
    """

    inputs: tuple[str, ...]
    labels: tuple[Label, ...]
    templates: tuple[str, ...]
    model: str
    architecture: str | None = None
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    discovery: DiscoveryOptions = field(default_factory=DiscoveryOptions)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


class Observer:
    """Told what a run does as it does it, from the thread that runs it; this one stays silent."""

    def loading(self, spec: ModelSpec, device: DeviceChoice) -> None:
        """The model is about to be loaded."""

    def started(self, prompts: PromptSet, total: int | None, resumed: int) -> None:
        """Scoring begins.

        Args:
            prompts: The labels and their finished prompts.
            total: Number of pictures, None where it cannot be known in advance.
            resumed: Number of rows kept from an interrupted run.
        """

    def scored(self, record: Record) -> None:
        """One more picture has its record; it is written with its batch."""

    def warned(self, message: str) -> None:
        """Something that the user should know, though the run goes on."""

    def finished(self, report: RunReport) -> None:
        """The run is over."""


def run(
    job: Job,
    *,
    observer: Observer | None = None,
    encoder: Encoder | None = None,
    stdout: BinaryIO | None = None,
    stdin: BinaryIO | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Classify the job's pictures into its output.

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
    prompts = build_prompts(job.labels, job.templates)
    _check_labels(job)
    output = job.output
    columns = Columns(prompts.labels, output.top_k, output.logits, output.similarities)
    spec = resolve_model(job.model, job.architecture)
    inputs = _Inputs(job, stdin)
    settings = _settings(job, prompts)
    with open_sink(output, columns, settings, stdout or sys.stdout.buffer) as sink:
        device = choose_device(job.runtime)
        loaded = encoder or _load(spec, device, observer)
        for message in advice(prompts, loaded, job.scoring):
            observer.warned(message)
        scorer = make_scorer(prompts, loaded, job.scoring)
        batch_size = sink.batch_size or device.batch_size
        manifest = {**settings, **_circumstances(job, loaded, device), "batch_size": batch_size}
        rows = sink.begin(manifest, batch_size)
        if sink.complete is not None:
            report = _check_complete(sink.complete, inputs, job)
            observer.finished(report)
            return report
        check_rows(rows, (printable_path(ref.path) for ref in inputs), output.path)
        observer.started(prompts, inputs.total, len(rows))
        records = classify_refs(
            inputs, loaded, scorer, job.decode, batch_size=batch_size, workers=device.workers
        )
        report = _report_of(rows)
        began = time.perf_counter()
        with closing(_counted(records, report, observer)) as counted:
            report.interrupted = not _write(counted, sink, batch_size, should_stop)
        report.seconds = time.perf_counter() - began
        report.skipped.update(inputs.skipped)
        if not report.interrupted:
            sink.finish(_summary(report, inputs))
        observer.finished(report)
        return report


def _load(spec: ModelSpec, device: DeviceChoice, observer: Observer) -> Encoder:
    for note in spec.notes:
        observer.warned(note)
    observer.loading(spec, device)
    return load_encoder(spec, device)


def _check_labels(job: Job) -> None:
    names = [label.name for label in job.labels]
    if job.scoring.can_reject and UNKNOWN in names:
        raise LabelError(
            f"the label '{UNKNOWN}' could not be told from a rejected picture when --threshold or"
            f" --margin is given: rename it (other={UNKNOWN} keeps its prompt)"
        )
    if job.scoring.margin is not None and len(names) < 2:
        raise LabelError("--margin compares two labels and there is one: add a label")


class _Inputs(Iterator[ImageRef]):
    """The inputs in order, with their digest.

    They are listed before anything is loaded, so that an empty folder costs no time and the
    progress has an end, unless they come through a pipe: then they are taken as they come.
    """

    def __init__(self, job: Job, stdin: BinaryIO | None) -> None:
        found = Discovery(job.inputs, job.discovery, is_image=is_candidate, stdin=stdin)
        self.skipped = found.skipped
        listed = None if found.streams else list(found)
        self.total = None if listed is None else len(listed)
        self._refs = iter(found if listed is None else listed)
        self._digest = hashlib.sha256()

    def __next__(self) -> ImageRef:
        ref = next(self._refs)
        self._digest.update(os.fsencode(ref.path) + b"\0")
        return ref

    def digest(self) -> str:
        """Return the digest of the paths taken so far, in their order."""
        return self._digest.hexdigest()


def _settings(job: Job, prompts: PromptSet) -> dict[str, Any]:
    """The part of the manifest that is known before a model is loaded."""
    return {
        "clipcls": clipcls.__version__,
        "prompts": {
            label: list(texts) for label, texts in zip(prompts.labels, prompts.prompts, strict=True)
        },
        "scoring": job.scoring.described(),
        "decode": job.decode.described(),
        "output": {**job.output.described(), "format": job.output.resolved_format.value},
    }


def _circumstances(job: Job, encoder: Encoder, device: DeviceChoice) -> dict[str, Any]:
    """The part of the manifest that the loaded model and the machine say."""
    return {
        "model": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "device": device.device,
        "precision": device.precision.value,
        "inputs": [printable_path(text) for text in job.inputs],
        "started": _now(),
    }


def _summary(report: RunReport, inputs: _Inputs) -> dict[str, Any]:
    """What the manifest of a complete output adds."""
    return {
        "finished": _now(),
        "pictures": sum(report.counts.values()) + report.failed,
        "failed": report.failed,
        "counts": dict(report.counts),
        "reasons": dict(report.reasons),
        "skipped": dict(report.skipped),
        "inputs_sha256": inputs.digest(),
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _report_of(rows: Sequence[SavedRow]) -> RunReport:
    """Count the rows that were kept from an interrupted run."""
    report = RunReport(resumed=len(rows))
    for row in rows:
        if row.prediction:
            report.counts[row.prediction] += 1
        else:
            report.failed += 1
            report.reasons[row.error] += 1
    return report


def _check_complete(complete: Mapping[str, Any], inputs: _Inputs, job: Job) -> RunReport:
    """Return the report of an output that is there already, if it is that of these inputs."""
    now = sum(1 for _ in inputs)
    if inputs.digest() != complete["inputs_sha256"]:
        raise ResumeError(
            f"{job.output.path} is complete, but for other inputs: it has {complete['pictures']}"
            f" pictures, the inputs now have {now}; choose another file with -o, or --overwrite"
        )
    return RunReport(
        resumed=now,
        failed=complete["failed"],
        counts=Counter(complete["counts"]),
        reasons=Counter(complete["reasons"]),
        skipped=Counter(complete["skipped"]),
    )


def _counted(
    records: Iterable[Record], report: RunReport, observer: Observer
) -> Generator[Record, None, None]:
    """Pass the records on and count them."""
    for record in records:
        if isinstance(record, Failure):
            report.failed += 1
            report.reasons[record.reason] += 1
        else:
            report.done += 1
            report.counts[record.prediction] += 1
        observer.scored(record)
        yield record


def _write(
    records: Iterator[Record], sink: Sink, batch_size: int, should_stop: Callable[[], bool]
) -> bool:
    """Write the records batch by batch; return whether they were all written."""
    while batch := list(islice(records, batch_size)):
        sink.write(batch)
        if should_stop():
            return False
    return True
