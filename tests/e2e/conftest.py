"""The installed program in a process of its own, with a small real checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
Program = Callable[..., "subprocess.CompletedProcess[bytes]"]


def command(*arguments: object) -> list[str]:
    """Return the command line of the program that belongs to this interpreter."""
    return [str(Path(sys.executable).with_name("clipcls")), *(str(a) for a in arguments)]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random checkpoint, made by the script that the README uses."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    script = ROOT / "examples" / "make_checkpoint.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def program(checkpoint: Path) -> Program:
    """Run `clipcls ARGUMENTS` with the checkpoint as the model and return what it printed."""

    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            command(*arguments),
            capture_output=True,
            timeout=120,
            env={**os.environ, "CLIPCLS_MODEL": str(checkpoint)},
            **options,
        )

    return call
