"""`clipcls classify --engine`: what is refused before Ray is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clipcls.testing import save_colours
from tests.cli.conftest import Invoke


@pytest.mark.parametrize(
    "flag", [("--ray-address", "auto"), ("--num-gpus", "1"), ("--partitions", "4")]
)
def test_flags_of_ray_mean_nothing_without_it(invoke: Invoke, flag: tuple[str, str]) -> None:
    result = invoke("classify", ".", "--labels", "a,b", *flag)
    assert result.exit_code == 2
    assert f"{flag[0]} is for Ray: add --engine ray" in result.stderr


@pytest.mark.parametrize(
    "flag", [("--workers", "2"), ("--cache-dir", "kept"), ("--verify-cache",)], ids=str
)
def test_flags_that_mean_nothing_to_ray_are_refused(invoke: Invoke, flag: tuple[str, ...]) -> None:
    result = invoke("classify", ".", "--labels", "a,b", "--engine", "ray", *flag)
    assert result.exit_code == 2
    assert f"{flag[0]} means nothing to Ray" in result.stderr


def test_a_gpu_and_a_half_is_refused(invoke: Invoke) -> None:
    result = invoke("classify", ".", "--labels", "a,b", "--engine", "ray", "--num-gpus", "-1")
    assert result.exit_code == 2
    assert "--num-gpus is -1: give a part of a GPU (0.5), or a whole number" in result.stderr
    result = invoke("classify", ".", "--labels", "a,b", "--engine", "ray", "--num-gpus", "1.5")
    assert result.exit_code == 2
    assert "--num-gpus is 1.5: give a part of a GPU (0.5), or a whole number" in result.stderr


def test_partitions_are_not_sorted(invoke: Invoke, tmp_path: Path) -> None:
    given = ("--engine", "ray", "--partitions", "2", "-o", str(tmp_path / "out"))
    result = invoke(
        "classify", ".", "--labels", "a,b", *given, "--sort-into", str(tmp_path / "sorted")
    )
    assert result.exit_code == 2
    assert "--partitions gives several files" in result.stderr


def test_ray_that_is_not_installed_is_named(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_colours(tmp_path, ["red"])
    monkeypatch.setitem(sys.modules, "ray", None)
    result = invoke("classify", tmp_path, "--labels", "a,b", "--engine", "ray")
    assert result.exit_code == 1
    assert "--engine ray needs an optional package: pip install 'clipcls[ray]'" in result.stderr
