"""The commands of the steps, and the one teacher that can be made without a download."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.training.small import write_sets
from training.mini import evaluate, features
from training.mini.teachers import LITE0, load_lite0


@pytest.mark.parametrize("step", ["features", "texts", "heads", "tower", "export", "evaluate"])
def test_every_step_is_a_command_that_explains_its_arguments(step: str) -> None:
    app = typer.Typer()
    module = importlib.import_module(f"training.mini.{step}")
    app.command()(module.main)
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    assert "work" in done.output.lower()
    assert f"python -m training.mini.{step} WORK" in (module.__doc__ or "")


def test_lite0_is_loaded_under_whatever_names_its_file_has(tmp_path: Path) -> None:
    network = timm.create_model(LITE0, pretrained=False)
    state = network.state_dict()
    renamed = {f"_other.{k}": v for k, v in state.items() if "num_batches" not in k}
    torch.save(renamed, tmp_path / "lite0.pth")
    teacher = load_lite0(tmp_path / "lite0.pth")
    assert torch.equal(teacher.classifier()[0], state["classifier.weight"])
    assert set(teacher.trunk()) == {k for k in state if not k.startswith("classifier")}
    torch.save(dict(list(renamed.items())[:-1]), tmp_path / "short.pth")
    with pytest.raises(ValueError, match="shorter"):
        load_lite0(tmp_path / "short.pth")


def test_a_set_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sets(tmp_path / "sets")
    monkeypatch.setattr(features, "load_lite0", lambda _: None)
    with pytest.raises(SystemExit, match=r"sets has no pets\.tar"):
        features.main(tmp_path / "work", tmp_path / "sets", Path("lite0.pth"), only="pets")


def test_views_are_what_they_are_called() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 64), np.uint8)
    tall = Image.fromarray(pixels)
    draw = random.Random(0)
    centre = np.asarray(features.centre(tall, 64, draw))
    assert (centre == pixels[16:80]).all()
    assert features.part(tall, 32, draw).size == features.lowered(tall, 32, draw).size == (32, 32)


def test_evaluate_measures_the_model_of_the_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("benchmarks.mini.main", asked.extend)
    evaluate.main(tmp_path, Path("data"), ["pets=pets"])
    assert asked[:4] == ["--data", "data", "--model", str(tmp_path / "model")]
    assert asked[4:6] == ["--tree", "pets=pets"]
    assert "speed" not in asked
