"""The fast way to six decimals is the exact one; targets are looked at before the work."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcls.errors import OptionError
from clipcls.outputs.base import NumberLine, check_target


def six_decimals(values: NDArray[np.floating]) -> list[str]:
    lines = NumberLine(["\n"] * len(values)).filled(values)
    return lines.decode("ascii").split("\n")[1:]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6, -1.0, 50.0])
def test_six_decimals_are_those_of_python(dtype: type, scale: float) -> None:
    values: NDArray[np.floating] = (np.random.default_rng(0).random(3_000) * scale).astype(dtype)
    assert six_decimals(values) == [f"{value:.6f}" for value in values.tolist()]


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, 1.0, *(tie * 1e-6 for tie in (0.5, 1.5, 2.5, 3.5)), 9.9999996, 10, np.nan, np.inf],
)
def test_the_edges_of_the_fast_way_are_exact(value: float) -> None:
    assert six_decimals(np.array([value], np.float64)) == [f"{value:.6f}"]


def test_a_folder_that_cannot_be_written_in_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so the system's answer is made up.
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path)
    with pytest.raises(OptionError, match="nothing can be written in .*: permit it, or change -o"):
        check_target(tmp_path / "a.json", overwrite=False, reads=())
