"""The package as a whole: public names, light start, docs that say what is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import clipcls

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"numpy", "torch", "torchvision", "open_clip", "timm", "transformers", "pandas", "PIL",
         "pyarrow"}  # fmt: skip
IMPORT_TIME = re.compile(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", flags=re.MULTILINE)
"""A line of `python -X importtime`, which tells every module on stderr."""


@dataclass(frozen=True)
class Traced:
    """A finished interpreter.

    Attributes:
        exit_code: As a shell sees it.
        stdout: What it printed.
        stderr: What it said, without the trace of its imports.
        loaded: Top-level names of the modules that it imported.
    """

    exit_code: int
    stdout: str
    stderr: str
    loaded: frozenset[str]


def traced(*arguments: str, environment: Mapping[str, str] | None = None) -> Traced:
    """Run `python ARGUMENTS` and note what it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **(environment or {})},
        timeout=300,
    )
    loaded = frozenset(name.split(".")[0] for name in IMPORT_TIME.findall(done.stderr))
    lines = (line for line in done.stderr.splitlines() if not line.startswith("import time:"))
    return Traced(done.returncode, done.stdout, "\n".join(lines), loaded)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["--help"], 0, "Zero-shot"),
        (["--version"], 0, f"clipcls {clipcls.__version__}"),
        (["classify", "--help"], 0, "--labels-file"),
        (["models", "--help"], 0, "pull"),
        (["models", "pull", "--help"], 0, "NAME"),
        (["prompts", "show", "--help"], 0, "--templates"),
        (["prompts"], 0, "openai80"),
        (["classify"], 2, "INPUT"),
        (["classify", "x"], 2, "--labels"),
        (["classify", "x", "--labels", ""], 2, "Error: "),
        (["classify", ".", "--labels", "a,b", "--batch-size", "no"], 2, "--batch-size is 'no'"),
        (["classify", ".", "--labels", "a,b", "-t", "no slot"], 2, "<>"),
        (["clasify"], 2, "clasify"),
    ],
)
def test_what_needs_no_model_imports_nothing_heavy(
    arguments: list[str], exit_code: int, said: str
) -> None:
    program = traced("-m", "clipcls", *arguments)
    assert program.exit_code == exit_code, program.stderr
    assert said in (program.stderr if exit_code else program.stdout)
    assert program.loaded >= {"clipcls", "typer"}
    assert not program.loaded & HEAVY


def test_import_clipcls_is_light_and_every_public_name_is_there() -> None:
    program = traced("-c", "import clipcls; print(clipcls.__version__)")
    assert program.stdout.strip() == clipcls.__version__
    assert "clipcls" in program.loaded
    assert not program.loaded & HEAVY
    assert set(clipcls.__all__) <= set(dir(clipcls))
    for name in clipcls.__all__:
        assert getattr(clipcls, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Klassifier'"):
        _ = clipcls.Klassifier


def test_the_trace_of_imports_sees_a_heavy_one() -> None:
    assert "numpy" in traced("-c", "import clipcls.records, clipcls.scoring").loaded


def test_versions_agree() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = re.search(r'^version = "(.*)"', text, flags=re.MULTILINE)
    assert project is not None
    assert project[1] == clipcls.__version__
    assert f"## [{clipcls.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
