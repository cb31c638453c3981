from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SLOW = """
import time
from clipcls.lazy import LazyEncoder
from clipcls.testing import FakeEncoder

def load(ready):
    ready(FakeEncoder())
    time.sleep(0.5)
    print("loaded", flush=True)
    return FakeEncoder()

LazyEncoder(load, None, "fp32").image_size
"""

INTERRUPTED = f"""
import os, signal, sys, time
os.chdir({str(ROOT)!r})
# Whoever runs the tests in the background may ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
import clipcls.models.openclip
from clipcls.cli import main

def load(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(3600)

clipcls.models.openclip.load_encoder = load
sys.argv = ["clipcls", "similarity", "examples/photos", "--text", "a cat", "-q", "--model", "mini"]
main()
"""


def ended(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )


def test_python_does_not_end_below_a_model_that_is_being_loaded() -> None:
    done = ended(SLOW)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loaded\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_program_does_not_wait_for_a_model_when_it_is_interrupted() -> None:
    done = ended(INTERRUPTED)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted\n")
