"""The outputs of the shards of a run, as the one output that the run without shards has.

Each shard's manifest says where in the whole list its images are. So the rows are read side by
side, one after another from the shard whose turn it is, and none is held longer than its batch.
What comes out is compared with the digest of the list, so neither a row nor the order can be wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcls.columns import Columns
from clipcls.errors import InputError, MergeError, OptionError, ResumeError, UsageError
from clipcls.options import OutputFormat, OutputOptions
from clipcls.outputs import SavedRow, Writer, make_writer
from clipcls.outputs.base import check_not_read
from clipcls.outputs.manifest import (
    COMPARED,
    OF_SHARD,
    SUMMARY,
    PathDigest,
    difference,
    is_complete,
    manifest_path,
    read_manifest,
    summary,
    unpacked,
)
from clipcls.outputs.sink import Sink, open_sink
from clipcls.records import RunReport
from clipcls.shards import Shard, parse_shard
from clipcls.text import original_path, visible

_MOST_PROBLEMS = 20
_BESIDE = (".manifest.json", ".lock")
"""What lies beside an output and is found by the same pattern (`part-*`)."""
_WAY_OUT = "bring it here from where that shard was run, or run that shard again"
"""What can be done about a manifest that will not do."""


@dataclass(frozen=True)
class Shards:
    """The complete outputs of all shards of one run.

    Attributes:
        paths: The outputs, by the number of their shard.
        manifest: What all of them say alike, as the manifest of the whole begins.
        turns: (images,) whose turn it is, place by place: the index in `paths`.
        inputs_sha256: The digest of the whole list.
        skipped: Why a file was left out of the list -> how many.
        skipped_paths: The first of them as (path, why).
    """

    paths: tuple[Path, ...]
    manifest: Mapping[str, Any]
    turns: NDArray[np.unsignedinteger]
    inputs_sha256: str
    skipped: Mapping[str, int]
    skipped_paths: Sequence[tuple[str, str]]

    @property
    def format(self) -> OutputFormat:
        """The format of all of them."""
        return OutputFormat(self.manifest["output"]["format"])

    @property
    def columns(self) -> Columns:
        """The columns of all of them."""
        asked = self.manifest["output"]
        labels = tuple(self.manifest["prompts"])
        parts = (asked["top_k"], asked["logits"], asked["similarities"], asked["keep"])
        return Columns(labels, *parts, self.manifest["scoring"].get("unknown") is not None)


def read_shards(paths: Iterable[str | os.PathLike[str]]) -> Shards:
    """Find out from their manifests whether outputs are all shards of one run; no row is read.

    Args:
        paths: The outputs, in any order. Manifests and locks among them, as a pattern like
            `part-*` finds them, are left out.

    Raises:
        MergeError: Shards are missing, there twice, unfinished or not of one run; names each.
    """
    found = _Found()
    for path in map(Path, paths):
        if not path.name.endswith(_BESIDE):
            found.take(path)
    if not found.complete and not found.problems:
        raise MergeError(["no outputs of shards are given"])
    found.compare()
    if found.problems:
        rest = len(found.problems) - _MOST_PROBLEMS
        more = [f"and {rest} problems more"] if rest > 0 else []
        raise MergeError([*found.problems[:_MOST_PROBLEMS], *more])
    return found.shards()


@dataclass
class _Found:
    """What is known so far.

    Attributes:
        complete: Number of a shard -> its output and manifest.
        unfinished: Numbers of the shards that are not complete.
        problems: A line each.
    """

    complete: dict[int, tuple[Path, dict[str, Any]]] = field(default_factory=dict)
    unfinished: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def take(self, path: Path) -> None:
        """Read the manifest of an output."""
        name = visible(str(path))
        part = path if path.suffix == ".part" else path.with_name(path.name + ".part")
        if path == part or (part.exists() and not path.exists()):
            with suppress(ResumeError, OptionError):
                self.unfinished.add(_shard(read_manifest(manifest_path(part))).number)
            self.problems.append(
                f"{visible(str(part))} is not finished: run that shard again with --resume"
            )
            return
        try:
            if not path.is_file():
                raise InputError("is a folder" if path.is_dir() else "no such file")
            manifest = read_manifest(manifest_path(path), _WAY_OUT)
            if not is_complete(manifest):
                raise InputError("its manifest is of an unfinished run: run that shard again")
            shard = _shard(manifest)
        except UsageError as error:
            self.problems.append(f"{name}: {visible(str(error))}")
            return
        if shard.number in self.complete:
            other = visible(str(self.complete[shard.number][0]))
            self.problems.append(f"shard {shard} is there twice: {other} and {name}")
        else:
            self.complete[shard.number] = (path, manifest)

    def compare(self) -> None:
        """Note what keeps the outputs from being all shards of one run."""
        if not self.complete:
            return
        (first, was), *others = self.complete.values()
        whole = _of_run(was)
        for path, manifest in others:
            if found := difference(whole, _of_run(manifest)):
                self.problems.append(
                    f"{visible(str(path))} is of another run than {visible(str(first))}: {found}"
                )
        of = whole["shards"]
        missing = [
            number
            for number in range(1, of + 1)
            if number not in self.complete and number not in self.unfinished
        ]
        if missing:
            who = "shard {} of {} is" if len(missing) == 1 else "shards {} of {} are"
            self.problems.append(f"{who.format(_ranges(missing), of)} missing")

    def shards(self) -> Shards:
        """Return them, with the order of their rows.

        Raises:
            MergeError: A manifest is damaged.
        """
        by_number = [self.complete[number] for number in sorted(self.complete)]
        manifests = [manifest for _, manifest in by_number]
        first = manifests[0]
        own = {"manifest", "finished", "inputs_sha256", *SUMMARY, *OF_SHARD}
        merged = {key: value for key, value in first.items() if key not in own}
        started = min((m["started"] for m in manifests if "started" in m), default=None)
        merged.update(shard=None, started=started, shards=len(by_number))
        return Shards(
            tuple(path for path, _ in by_number),
            merged,
            _turns(by_number),
            first["inputs_sha256"],
            first["skipped"],
            [(original_path(path), why) for path, why in first["skipped_paths"]],
        )


def _shard(manifest: Mapping[str, Any]) -> Shard:
    """Return the shard that an output is of.

    Raises:
        OptionError: It is of none.
    """
    if not manifest["shard"]:
        raise OptionError("is the output of a whole run, not of a shard (--shard i/n)")
    return parse_shard(str(manifest["shard"]))


def _of_run(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal in all shards of a run."""
    keys = [*(key for key in COMPARED if key != "shard"), "listed", "inputs_sha256"]
    return {"shards": _shard(manifest).of, **{key: manifest[key] for key in keys}}


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as text: `2, 5-7`."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{run[0]}-{run[-1]}" if run[1:] else str(run[0]) for run in runs)


def _turns(parts: Sequence[tuple[Path, Mapping[str, Any]]]) -> NDArray[np.unsignedinteger]:
    """Return the index of the part that each place of the whole list is in.

    Raises:
        MergeError: The places are not those of one list.
    """
    none = len(parts)
    listed, *counts = (parts[0][1]["listed"], *(manifest["images"] for _, manifest in parts))
    if any(type(n) is not int or n < 0 for n in (listed, *counts)) or sum(counts) != listed:
        raise MergeError(["the manifests are damaged: their images are not as many as were listed"])
    turns = np.full(listed, none, np.min_scalar_type(none))
    for index, (path, manifest) in enumerate(parts):
        try:
            places = unpacked(manifest["places"], manifest["images"])
            if (turns[places] != none).any():
                raise ValueError("places of another shard")
        except (ValueError, IndexError, TypeError) as error:
            described = visible(str(manifest_path(path)))
            raise MergeError([f"{described} is damaged ({error}): run that shard again"]) from error
        turns[places] = index
    if (turns == none).any():
        raise MergeError(["the manifests are damaged: places of the list are in no shard"])
    return turns


def merge_shards(
    shards: Shards,
    output: str | os.PathLike[str],
    *,
    format: OutputFormat | None = None,
    overwrite: bool = False,
    worked: Callable[[], None] = lambda: None,
) -> RunReport:
    """Write the rows of all shards in the order of the inputs, and a manifest for the whole.

    Args:
        shards: What `read_shards` returned.
        output: The file to write; like every output it appears when it is complete.
        format: Its format, which must be that of the shards; None takes it from the extension.
        overwrite: Whether it may be replaced.
        worked: Called after each row.

    Returns:
        All rows, counted.

    Raises:
        MergeError: A shard's rows are not those of its manifest.
        OptionError: The output is one of the shards, or of another format.
        OutputExistsError: The output is there and may not be replaced.
        OutputError: It cannot be written.
    """
    output = Path(output)
    options = OutputOptions(output, format, overwrite=overwrite)
    if options.resolved_format is not shards.format:
        raise OptionError(
            f"the shards are {shards.format} and {output} would be {options.resolved_format}: rows"
            f" are merged as they are, so name it .{shards.format}, or add --format {shards.format}"
        )
    if overwrite and output.is_file():
        check_not_read(output, map(str, shards.paths))
    with open_sink(options, shards.columns, shards.manifest) as sink:
        sink.begin(shards.manifest, shards.manifest["batch_size"])
        try:
            report = _copied(shards, sink, worked)
        except BaseException:
            sink.discard()
            raise
        report.skipped.update(shards.skipped)
        report.skipped_paths = list(shards.skipped_paths)
        report.model = shards.manifest["model"]["name"]
        sink.finish(summary(report, shards.inputs_sha256))
    return report


def _copied(shards: Shards, sink: Sink, worked: Callable[[], None]) -> RunReport:
    """Copy the rows of all shards in their order, and count them.

    Raises:
        MergeError: They are not those of the list.
    """
    report, digest = RunReport(), PathDigest()
    size = shards.manifest["batch_size"]
    with ExitStack() as opened:
        writers = [_opened(path, shards, opened) for path in shards.paths]
        rows = [writer.copies() for writer in writers]
        # In the batches of a run, as a Parquet file shows where they ended.
        for start in range(0, len(shards.turns), size):
            copies = []
            for index in shards.turns[start : start + size].tolist():
                row, copy = _next(rows[index], shards.paths[index])
                digest.add(original_path(row.path))
                report.count(row.prediction, row.error)
                copies.append(copy)
                worked()
            sink.put(writers[0].joined(copies), len(copies))
    if str(digest) != shards.inputs_sha256:
        changed = "a shard's file was changed or exchanged after its run"
        raise MergeError([f"the rows are not those of the list: {changed}"])
    return report


def _opened(path: Path, shards: Shards, opened: ExitStack) -> Writer:
    try:
        stream = opened.enter_context(path.open("rb"))
    except OSError as error:
        raise InputError(f"{visible(str(path))} cannot be read: {error.strerror}") from error
    return make_writer(shards.format, shards.columns, stream)


def _next(rows: Iterator[tuple[SavedRow, Any]], path: Path) -> tuple[SavedRow, Any]:
    found = next(rows, None)
    if found is None:
        fewer = "has fewer readable rows than its manifest says"
        raise MergeError([f"{visible(str(path))} {fewer}: run that shard again"])
    return found
