"""Each measurement is a process of its own: its time and its peak memory are nobody else's.

This module and those that import it stay light. A child's peak memory is never less than that of
the process that starts it, so torch, numpy and Pillow are imported by the children alone.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import clipcls

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 1_000_000
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Ended:
    """A process that has ended well.

    Attributes:
        seconds: Wall time, start of the interpreter and imports included.
        processor: Processor time in seconds, of its own children too.
        memory: Largest resident size in MB that it, or the largest of its own children, reached.
        said: What it wrote to stderr.
    """

    seconds: float
    processor: float
    memory: float
    said: str


def run_python(arguments: Sequence[str], workspace: Path) -> Ended:
    """Run this interpreter in `workspace` and wait for it.

    Raises:
        SystemExit: It failed; says the end of what it wrote.
    """
    source = Path(clipcls.__file__).parent.parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)]),
        # What a run remembers about these short-lived files stays with them.
        "XDG_CACHE_HOME": str(workspace / "cache-home"),
        "HF_HUB_OFFLINE": "1",
    }
    # Files, because nobody empties a pipe while `wait4` waits.
    out, err = workspace / "stdout", workspace / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=workspace,
            env=environment,
            stdout=stdout,
            stderr=stderr,
        )
        # Of all ways to wait, this one tells what that one process used.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    said = err.read_text(encoding="utf-8", errors="replace")
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)[:200]} failed:\n{said[-2000:]}")
    processor = usage.ru_utime + usage.ru_stime
    return Ended(seconds, processor, usage.ru_maxrss * _MAXRSS_BYTES / MEGABYTE, said)


def hardware() -> list[str]:
    """Return what the figures were taken on, and when, as lines of Markdown."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("torch", "open_clip_torch", "transformers", "pillow")
    return [
        f"{cpu_name()}, {cores} usable cores, {memory:.0f} GiB;"
        f" load average at the start {os.getloadavg()[0]:.1f}.",
        f"clipcls {clipcls.__version__}, "
        + ", ".join(f"{name} {installed(name)}" for name in packages)
        + f", Python {platform.python_version()}; {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC.",
    ]


def cpu_name() -> str:
    """Return the processor's name, as far as the system says it."""
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def installed(package: str) -> str:
    """Return a package's version, or that it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
