"""One run from inputs to an output: what `clipcls classify` does, without a terminal.

The order of the steps is the order of their cost: what the user wrote is checked before the output
is touched, and the output before a model is loaded, so that a slip costs a second and no rows.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import clipcls
from clipcls.classifier import advice, make_scorer
from clipcls.columns import Columns
from clipcls.errors import OptionError, ResumeError
from clipcls.inputs.decode import is_candidate
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.walk import Discovery
from clipcls.labels import Label
from clipcls.models.auto import settle
from clipcls.models.devices import DeviceChoice, choose_device
from clipcls.models.files import Tell, pull
from clipcls.models.names import ModelSpec, resolve_model
from clipcls.models.openclip import load_encoder
from clipcls.options import (
    DecodeOptions,
    DiscoveryOptions,
    OutputOptions,
    RuntimeOptions,
    ScoringOptions,
)
from clipcls.outputs import SavedRow
from clipcls.outputs.sink import Sink, check_row, open_sink
from clipcls.pipeline import Pace, classify_refs
from clipcls.prompts import PromptSet, build_prompts
from clipcls.records import Record, RunReport
from clipcls.scoring import check_labels_fit
from clipcls.text import printable_path

if TYPE_CHECKING:
    from clipcls.models.openclip import Encoder


@dataclass(frozen=True)
class Job:
    """Everything that the user decided.

    Attributes:
        inputs: Files, folders, globs, `@list` and `-`, as given.
        labels: The labels with their wordings.
        templates: Finished templates, each with the slot `<>`.
        model: `auto`, `mini`, a preset, name, folder or file (see `clipcls.models.names`).
        architecture: The architecture of a bare weight file.
        reads: Files that the job was made from (labels, templates), which it must not overwrite.
    """

    inputs: tuple[str, ...]
    labels: tuple[Label, ...]
    templates: tuple[str, ...]
    model: str
    architecture: str | None = None
    reads: tuple[Path, ...] = ()
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    discovery: DiscoveryOptions = field(default_factory=DiscoveryOptions)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


class Observer:
    """Told what a run does as it does it, from the thread that runs it; this one stays silent.

    Attributes:
        downloading: Told of a download, which then draws its progress on stderr; None where
            downloads are silent.
    """

    downloading: Tell | None = None

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
    check_labels_fit(prompts.labels, job.scoring)
    output = job.output
    columns = Columns(prompts.labels, output.top_k, output.logits, output.similarities)
    spec = resolve_model(job.model, job.architecture)
    inputs = _Inputs(job, stdin)
    if output.overwrite and output.path is not None and output.path.is_file():
        inputs.check_apart_from(output.path)
    settings = _settings(job, prompts)
    with open_sink(output, columns, settings, stdout) as sink:
        device = choose_device(job.runtime)
        loaded = encoder or _load(spec, sink.made_by, device, observer)
        for message in advice(prompts, loaded, job.scoring):
            observer.warned(message)
        scorer = make_scorer(prompts, loaded, job.scoring)
        batch_size = sink.batch_size or device.batch_size
        if job.runtime.batch_size not in (None, batch_size):
            observer.warned(f"keeping the batch size of the interrupted run, {batch_size}")
        manifest = {**settings, **_circumstances(job, loaded, device), "batch_size": batch_size}
        kept = sink.begin(manifest, batch_size)
        if sink.complete is not None:
            report = _check_complete(sink.complete, inputs, job)
        else:
            report = _report_of(sink.kept_rows(), inputs, output.path)
            observer.started(prompts, inputs.total, kept)
            pace = Pace(batch_size, device.workers, should_stop)
            records = classify_refs(inputs, loaded, scorer, job.decode, pace)
            _score(records, sink, pace, report, observer)
            report.skipped.update(inputs.skipped)
            if not report.interrupted:
                sink.finish(_summary(report, inputs))
        report.model = loaded.name
        observer.finished(report)
        return report


def _score(
    records: Generator[Record, None, None],
    sink: Sink,
    pace: Pace,
    report: RunReport,
    observer: Observer,
) -> None:
    """Write the records batch by batch and count them, until they end or a stop is asked for."""
    began = time.perf_counter()
    with closing(records):
        while batch := list(islice(records, pace.batch_size)):
            sink.write(batch)
            for record in batch:
                report.add(record)
                observer.scored(record)
            if pace.should_stop():
                break
        report.interrupted = pace.should_stop()
    report.seconds = time.perf_counter() - began


def _load(
    spec: ModelSpec, made_by: str | None, device: DeviceChoice, observer: Observer
) -> Encoder:
    spec = settle(spec, made_by=made_by, tell=observer.downloading)
    for note in spec.notes:
        observer.warned(note)
    pull(spec, tell=observer.downloading)
    observer.loading(spec, device)
    return load_encoder(spec, device)


class _Inputs(Iterator[ImageRef]):
    """The inputs in order, with their digest.

    They are listed before anything is loaded, so that an empty folder costs no time and the
    progress has an end, unless they come through a pipe: then they are taken as they come, the
    first one awaited so that an empty pipe costs nothing either.
    """

    def __init__(self, job: Job, stdin: BinaryIO | None) -> None:
        found = Discovery(job.inputs, job.discovery, is_image=is_candidate, stdin=stdin)
        self.skipped = found.skipped
        refs = iter(found)
        self._listed = [next(refs)] if found.streams else list(refs)
        self.total = None if found.streams else len(self._listed)
        self._refs = chain(self._listed, refs)
        self._read = [*job.reads, *(Path(text[1:]) for text in job.inputs if text[:1] == "@")]
        self._digest = hashlib.sha256()

    def check_apart_from(self, output: Path) -> None:
        """Refuse to write the output over something that this run reads.

        Raises:
            OptionError: The output is a picture, a list or another file that the run reads.
        """
        replaced = os.stat(output)
        for path in (*map(str, self._read), *(ref.path for ref in self._listed)):
            # What is missing or unreadable cannot be lost.
            with suppress(OSError, ValueError):
                if os.path.samestat(os.stat(path), replaced):
                    raise OptionError(f"{output} is read by this run: choose another file with -o")

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
        "versions": {
            "clipcls": clipcls.__version__,
            "open_clip": version("open_clip_torch"),
            "torch": version("torch"),
        },
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
        "model": {
            "name": encoder.name,
            "precision": device.precision.value,
            "fingerprint": encoder.fingerprint,
        },
        "device": device.device,
        # Another kind of device rounds differently, another one of the same kind does not.
        "device_kind": device.device.partition(":")[0],
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
