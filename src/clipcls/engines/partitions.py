"""A run on Ray whose rows go into several files in a folder, each the output of a shard.

All are written from one stream, one after the other, so the models are loaded once and nothing
waits for a file to end. Each is what `--shard i/n` writes: `clipcls merge` joins them, and any of
them can be made again elsewhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcls.classifier import ask
from clipcls.engines.ray import RayEngine, cut
from clipcls.errors import OptionError, OutputError, ResumeError
from clipcls.inputs.packed import PackedRefs
from clipcls.observer import Observer
from clipcls.outputs.manifest import check_same_run, model_of, packed, summary
from clipcls.outputs.sink import Sink
from clipcls.records import Record, RunReport
from clipcls.run import Job, Listed, circumstances, discovered, open_output, settings
from clipcls.shards import Shard, shard_of

if TYPE_CHECKING:
    from clipcls.models.base import Encoder


@dataclass
class _Partition:
    """One of the files.

    Attributes:
        job: The run of its shard, into its file.
        refs: Its images.
        complete: Its manifest, where it is there already.
    """

    job: Job
    refs: PackedRefs = field(init=False)
    complete: Mapping[str, Any] | None = None


def run_partitions(
    job: Job,
    count: int,
    engine: RayEngine,
    *,
    observer: Observer | None = None,
    encoder: Encoder | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Classify the job's images into the files of a folder, which is made if it is not there.

    To resume leaves complete files as they are, and makes the others anew.

    Args:
        job: What to do; its output is the folder.
        count: How many files there will be.
        engine: Where images are scored.
        observer: As for `clipcls.run.run`, like all that follows.
        encoder: Used in place of what the job's model names.
        should_stop: Asked after each batch; True ends the run, which can be resumed.

    Raises:
        ClipclsError: See `clipcls.errors`; files that are complete are kept.
    """
    observer = observer or Observer()
    classifier = ask(job.question, job.model, job.inputs.decode, encoder)
    classifier.warn = observer.warned
    partitions = _partitions(job, count)
    found = discovered(job.inputs)
    kept = found.tables.kept
    for partition in partitions:
        partition.refs = PackedRefs(found.ref)
        with open_output(partition.job, classifier, kept) as sink:
            partition.complete = sink.complete
    inputs = Listed(job, found)
    for ref in inputs:
        partitions[shard_of(ref.path, count).number - 1].refs.append(ref)
    made_by = next((model_of(p.complete) for p in partitions if p.complete), None)
    device = engine.device(classifier)
    classifier.settle(made_by, observer.downloading)
    observer.loading(classifier.name, device)
    size = device.batch_size
    described = {**circumstances(classifier, device, job), "batch_size": size}
    report = _report_of(partitions, described, inputs)
    report.model = classifier.name
    observer.started(classifier.prompts, inputs.total, report.resumed)
    waiting = [partition for partition in partitions if partition.complete is None]
    batches = (batch for partition in waiting for batch in cut(partition.refs, size))
    began = time.perf_counter()
    with closing(engine.scored(classifier, batches)) as scored:
        for partition in waiting:
            with open_output(partition.job, classifier, kept) as sink:
                asked = settings(partition.job, classifier.prompts, kept)
                sink.begin({**asked, **described}, size)
                own = RunReport(skipped=inputs.skipped, skipped_paths=inputs.skipped_paths)
                mine = islice(scored, -(-len(partition.refs) // size))
                report.interrupted = _fill(sink, mine, (own, report), observer, should_stop)
                if not report.interrupted:
                    places = packed(ref.index for ref in partition.refs)
                    of_shard = {"listed": inputs.images, "places": places}
                    sink.finish({**summary(own, str(inputs.digest)), **of_shard})
            if report.interrupted:
                break
    report.seconds = time.perf_counter() - began
    observer.finished(report)
    return report


def _fill(
    sink: Sink,
    batches: Iterable[list[Record]],
    reports: Sequence[RunReport],
    observer: Observer,
    should_stop: Callable[[], bool],
) -> bool:
    """Write the rows of a file; return whether it was interrupted."""
    for records in batches:
        sink.write(records)
        for record in records:
            for report in reports:
                report.add(record)
            observer.scored(record)
        if should_stop():
            return True
    return False


def _partitions(job: Job, count: int) -> list[_Partition]:
    """Return the files, and make their folder.

    Raises:
        OptionError: The folder cannot be one, or has files of other partitions.
        OutputError: It cannot be made.
    """
    folder, form = job.output.path, job.output.resolved_format
    if folder is None or (folder.exists() and not folder.is_dir()):
        raise OptionError("--partitions needs a folder for its files: -o DIR")
    if job.inputs.shard is not None:
        raise OptionError("--partitions and --shard contradict each other: a partition is a shard")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}") from error
    paths = [folder / f"part-{number:05}.{form}" for number in range(1, count + 1)]
    ours = tuple(path.name for path in paths)
    if other := [path for path in folder.glob("part-*") if not path.name.startswith(ours)]:
        raise OptionError(
            f"{min(other)} is of another run, with more partitions or another format: choose"
            " another folder with -o"
        )
    return [
        _Partition(
            replace(
                job,
                inputs=replace(job.inputs, shard=Shard(number, count)),
                output=replace(job.output, path=path, format=form),
            )
        )
        for number, path in enumerate(paths, start=1)
    ]


def _report_of(
    partitions: Sequence[_Partition], described: Mapping[str, Any], inputs: Listed
) -> RunReport:
    """Count the files that are there, and make the others ready to be written anew.

    Raises:
        ResumeError: One is of another run.
    """
    report = RunReport(skipped=Counter(inputs.skipped), skipped_paths=inputs.skipped_paths)
    for partition in partitions:
        complete, output = partition.complete, partition.job.output
        if complete is None:
            again = replace(output, overwrite=True, resume=False)
            partition.job = replace(partition.job, output=again)
            continue
        check_same_run(complete, described, output.path or Path())
        if str(inputs.digest) != complete["inputs_sha256"]:
            raise ResumeError(
                f"{output.path} is complete, but for other inputs: choose another folder with -o,"
                " or --overwrite"
            )
        report.resumed += complete["images"]
        report.failed += complete["failed"]
        report.counts.update(complete["counts"])
        report.reasons.update(complete["reasons"])
    return report
