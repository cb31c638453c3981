"""A clean environment for every test: no user settings, no network, no terminal size by chance."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipcls.testing import FakeEncoder, save_colours

# No test may reach a model hub, whatever this machine could reach; the hub's client reads this
# when it is imported, so a fixture would come too late.
os.environ["HF_HUB_OFFLINE"] = "1"

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; torch, here and in the programs that are started, would take all.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CLIPCLS_MODEL", "FORCE_COLOR", "NO_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")
    # The CPU of the tests computes in float32, whatever machine they run on.
    monkeypatch.setattr("clipcls.models.devices._CPUINFO", tmp_path / "no-cpuinfo")


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A folder with seven images of one colour each."""
    folder = tmp_path / "pictures"
    save_colours(folder, ["red", "green", "blue", "red", "yellow", "blue", "red"])
    return folder
