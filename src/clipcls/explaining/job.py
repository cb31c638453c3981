"""One job of explaining, from inputs to files: what `clipcls explain` does, without a terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import clipcls
from clipcls.classifier import ask
from clipcls.explaining.explain import explain
from clipcls.explaining.files import Targets, Writer
from clipcls.inputs.recognize import is_candidate
from clipcls.inputs.walk import Discovery
from clipcls.observer import Observer
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.records import Failure, RunReport
from clipcls.text import visible

if TYPE_CHECKING:
    from clipcls.models.base import Encoder


@dataclass(frozen=True)
class Job:
    """Everything that the user decided.

    Attributes:
        inputs: Which images.
        question: What is asked of each.
        model: Which model answers.
        targets: What is written.
        overwrite: Whether what is there may be replaced.
        reads: Files that the job was made from (labels, templates, a head), which it must not
            overwrite.
    """

    inputs: Inputs
    question: Question
    model: ModelChoice
    targets: Targets = field(default_factory=lambda: Targets(stdout=True))
    overwrite: bool = False
    reads: tuple[Path, ...] = ()


def run(
    job: Job, stdout: BinaryIO, observer: Observer | None = None, encoder: Encoder | None = None
) -> RunReport:
    """Explain the job's images and write what came of it.

    Args:
        job: What to do.
        stdout: Where the JSON goes, if that is wanted.
        observer: Told about the progress.
        encoder: Used in place of what the job's model names.

    Raises:
        ClipclsError: See `clipcls.errors`; the pictures written into a folder before are kept.
    """
    observer = observer or Observer()
    classifier = ask(job.question, job.model, job.inputs.decode, encoder)
    classifier.warn = observer.warned
    found = Discovery(job.inputs.paths, job.inputs.discovery, is_image=is_candidate)
    refs = list(found)
    read = [*(ref.path for ref in refs), *map(str, job.reads)]
    job.targets.check(len(refs), overwrite=job.overwrite, reads=read)
    device = classifier.device
    classifier.settle(tell=observer.downloading)
    observer.loading(classifier.name, device)
    writer = Writer(
        job.targets,
        {
            "clipcls": clipcls.__version__,
            "model": classifier.identity(device.precision),
            "prompts": dict(zip(classifier.labels, classifier.prompts.prompts, strict=True)),
            "head": job.question.head.digest if job.question.head else None,
        },
    )
    # Loaded before the folder is emptied; the scorer of a head needs no model.
    _ = classifier.scorer, classifier.encoder.dim
    writer.start()
    observer.started(classifier.prompts, len(refs), 0)
    report = RunReport(model=classifier.name)
    report.skipped.update(found.skipped)
    began = time.perf_counter()
    for explained in explain(classifier, refs, job.inputs.decode):
        writer.add(explained)
        record = explained if isinstance(explained, Failure) else explained.prediction
        report.add(record)
        observer.scored(record)
    report.seconds = time.perf_counter() - began
    written = writer.finish(stdout)
    observer.finished(report)
    if written:
        observer.noted(f"Written to {', '.join(visible(str(path)) for path in written)}")
    return report
