"""What it costs to work past one folder and one process: `python -m benchmarks.scale --images DIR`.

Ray beside the local engine, a store beside files, and the memory of long listings. On Linux; see
`benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.__main__ import model_folder, repeated
from benchmarks.processes import hardware, run_python
from benchmarks.question import LABELS
from benchmarks.speed import distinct

Table = list[str]

_ASKED = ",".join(LABELS)

_CHILD = """
import json, sys, time
from clipcls.labels import make_labels
from clipcls.observer import Observer
from clipcls.options import OutputOptions, RayOptions, RuntimeOptions
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.run import Job, run
from pathlib import Path

class Clock(Observer):
    times = []
    def scored(self, record):
        self.times.append(time.perf_counter())

engine, folder, labels, model = sys.argv[1:]
job = Job(
    Inputs((folder,)),
    Question(make_labels(labels), ("a photo of a <>",)),
    ModelChoice(model, runtime=RuntimeOptions("cpu")),
    OutputOptions(Path(f"{engine}.csv"), overwrite=True),
)
began = time.perf_counter()
if engine == "ray":
    from clipcls.engines.ray import RayEngine
    with RayEngine(RayOptions()) as ray:
        report = run(job, engine=ray, observer=Clock())
else:
    report = run(job, observer=Clock())
first, last = 32, len(Clock.times)
pace = (last - first) / (Clock.times[-1] - Clock.times[first - 1])
print(json.dumps([pace, Clock.times[first - 1] - began, report.failed]), file=sys.stderr)
"""
"""Its pace is counted from the first batch on, when models and actors are there."""

_LISTING = """
import resource, sys
import fsspec
from clipcls.inputs.packed import PackedRefs
from clipcls.inputs.walk import Discovery
from clipcls.options import DiscoveryOptions

folders, files = int(sys.argv[1]), int(sys.argv[2])

class Keys(fsspec.AbstractFileSystem):
    def ls(self, path, detail=True):
        path = path.strip("/")
        if path == "bucket" and folders > 1:
            return [{"name": f"bucket/{i}", "type": "directory", "size": 0} for i in range(folders)]
        return [{"name": f"{path}/{i:07}.jpg", "type": "file", "size": 1} for i in range(files)]

fsspec.register_implementation("gs", Keys, clobber=True)
found = Discovery(["gs://bucket"], DiscoveryOptions(), is_image=lambda path: True)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6

before, kept = resident(), PackedRefs(found.ref)
for ref in found:
    kept.append(ref)
assert len(kept) == folders * files
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
print(resident() - before, peak - before, file=sys.stderr)
"""


@dataclass(frozen=True)
class Bench:
    """What all parts share.

    Attributes:
        workspace: An empty folder for what the processes write.
        images: A folder of distinct images.
        count: How many there are.
        model: As `clipcls --model` takes it.
        runs: Of each contender; the median counts.
    """

    workspace: Path
    images: Path
    count: int
    model: str
    runs: int


def engines(bench: Bench) -> Table:
    """Ray of this machine beside the local engine, in turns."""
    paces: dict[str, list[float]] = {"local": [], "ray": []}
    starts: dict[str, list[float]] = {"local": [], "ray": []}
    for _ in range(bench.runs):
        for engine in paces:
            arguments = ["-c", _CHILD, engine, str(bench.images), _ASKED, bench.model]
            said = run_python(arguments, bench.workspace).said
            pace, start, _failed = json.loads(said.splitlines()[-1])
            paces[engine].append(pace)
            starts[engine].append(start)
    files = {(bench.workspace / f"{engine}.csv").read_bytes() for engine in paces}
    same = "the same, byte for byte" if len(files) == 1 else "NOT the same"
    first = median(paces["local"])
    return [
        "| engine | img/s | lowest to highest | time per image | first batch after, s |",
        "|---|---|---|---|---|",
        *(
            f"| {engine} | {median(of):.1f} | {min(of):.1f} to {max(of):.1f}"
            f" | {first / median(of):.2f} x | {median(starts[engine]):.1f} |"
            for engine, of in paces.items()
        ),
        "",
        f"The files of both engines are {same}.",
    ]


@contextmanager
def bucket(images: Path) -> Iterator[tuple[str, int]]:
    """Serve a folder's files as a bucket from this machine; yield its address and the process."""
    import s3fs

    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "5123"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.environ.update(
        AWS_ENDPOINT_URL="http://127.0.0.1:5123",
        AWS_ACCESS_KEY_ID="nobody",
        AWS_SECRET_ACCESS_KEY="nothing",
        AWS_DEFAULT_REGION="us-east-1",
    )
    try:
        store = s3fs.S3FileSystem()
        for _ in range(120):
            try:
                store.mkdir("bench")
                break
            except OSError:
                time.sleep(0.5)
        for path in sorted(images.iterdir()):
            store.pipe_file(f"bench/{path.name}", path.read_bytes())
        yield "s3://bench/", server.pid
    finally:
        server.terminate()
        server.wait()


def store(bench: Bench) -> Table:
    """An S3 server on this machine beside files, and who takes the processors' time."""
    paces: dict[str, list[float]] = {"files": [], "loopback S3": []}
    taken: dict[str, list[tuple[float, float]]] = {where: [] for where in paces}
    with bucket(bench.images) as (address, server):
        for _ in range(bench.runs):
            for where, given in zip(paces, (str(bench.images), address), strict=True):
                arguments = ["-m", "clipcls", "classify", given, "--labels", _ASKED, "--no-cache"]
                output = ["--model", bench.model, "-o", "store.csv", "--overwrite"]
                before = _processor_time(server)
                ended = run_python([*arguments, *output], bench.workspace)
                taken[where].append((ended.processor, _processor_time(server) - before))
                [pace] = re.findall(r"([\d.]+) img/s", ended.said)
                paces[where].append(float(pace))
    first = median(paces["files"])
    lines = [
        "| from | img/s | lowest to highest | time per image | processor of clipcls, ms per image"
        " | of the server |",
        "|---|---|---|---|---|---|",
    ]
    for where, of in paces.items():
        ours, theirs = (
            1000 * median(part) / bench.count for part in zip(*taken[where], strict=True)
        )
        lines.append(
            f"| {where} | {median(of):.1f} | {min(of):.1f} to {max(of):.1f}"
            f" | {first / median(of):.2f} x | {ours:.1f} | {theirs:.1f} |"
        )
    return lines


def _processor_time(process: int) -> float:
    """Return the seconds that a process has taken of the processors."""
    told = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def listing(bench: Bench) -> Table:
    """What a run's list of the keys of a store takes, where a folder is described as a whole."""
    lines = ["| keys | in | MB afterwards | MB at most |", "|---|---|---|---|"]
    for folders, files in ((1, 10_000), (1, 1_000_000), (1_000, 1_000)):
        said = run_python(["-c", _LISTING, str(folders), str(files)], bench.workspace).said
        shown = f"{folders:,} folder{'s' if folders > 1 else ''}"
        after, most = map(float, said.splitlines()[-1].split())
        lines.append(f"| {folders * files:,} | {shown} | {after:.0f} | {most:.0f} |")
    return lines


SECTIONS: dict[str, Callable[[Bench], Table]] = {
    "engines": engines,
    "store": store,
    "listing": listing,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, and print each table when it is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=2000, help="images, by repetition if need be")
    parser.add_argument("--model", default="mini", help="or another's weights at random: ViT-B-32")
    parser.add_argument("--runs", type=int, default=1, help="of each; the median counts")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    asked = parser.parse_args(arguments)
    print(*hardware(), "", f"{asked.count} images, {asked.model}, {asked.runs} runs.", "", sep="\n")
    with tempfile.TemporaryDirectory(prefix="clipcls-scale-") as temporary:
        workspace = Path(temporary)
        for link in repeated(asked.images, asked.count, workspace / "links"):
            distinct(link, workspace / "images")
        model = "mini" if asked.model == "mini" else str(model_folder(asked.model, workspace))
        bench = Bench(workspace, workspace / "images", asked.count, model, asked.runs)
        for name in SECTIONS:
            if name in asked.only:
                print(*SECTIONS[name](bench), "", sep="\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
