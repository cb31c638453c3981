"""Towers with folded batch norms: the same embeddings, or the tower as it was."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.std_conv import StdConv2d
from torch import nn

from clipcls.models.devices import DeviceChoice
from clipcls.models.fusion import fused
from clipcls.models.names import resolve_model
from clipcls.models.openclip import load_encoder
from clipcls.options import Precision
from tests.e2e.conftest import ROOT

SIZE = (32, 48)


def trained(tower: nn.Module) -> nn.Module:
    """Give batch norms what training leaves in them; fresh ones would change nothing."""
    torch.manual_seed(1)
    for part in tower.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.3, 3)  # type: ignore[union-attr]
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias, 0, 0.3)
    return tower.eval()


def norms(tower: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in tower.modules())


def rows(tower: nn.Module) -> torch.Tensor:
    images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return nn.functional.normalize(tower(images).flatten(1))


class Tower(nn.Module):
    """A convolution and a norm, with a twist in the way they are used."""

    def __init__(self, twist: str = "", conv: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        self.conv: nn.Module = conv(3, 3, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(3)
        self.twist = twist

    def forward(self, x: torch.Tensor) -> Any:
        if self.twist == "norm first":
            return self.conv(self.norm(x))
        y = self.conv(x)
        if self.twist == "also as it is":
            return self.norm(y) + y.relu()
        return self.norm(y) if self.twist != "nan" else self.norm(y) * torch.nan


def test_norms_are_folded_and_activations_stay() -> None:
    tower = trained(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            BatchNormAct2d(8),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 5, 1),
        )
    )
    before = copy.deepcopy(tower.state_dict())
    faster = fused(tower, SIZE)
    assert (norms(tower), norms(faster)) == (2, 0)
    torch.testing.assert_close(rows(faster), rows(tower), rtol=0, atol=1e-6)
    for name, value in tower.state_dict().items():
        assert torch.equal(value, before[name])


def test_branches_that_training_needed_are_merged() -> None:
    tower = trained(timm.create_model("fastvit_t8", num_classes=0))
    faster = fused(tower, SIZE)
    assert norms(faster) < norms(tower) / 10
    assert len(list(faster.modules())) < 0.8 * len(list(tower.modules()))
    torch.testing.assert_close(rows(faster), rows(tower), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "tower",
    [Tower("norm first"), Tower("also as it is"), Tower("nan"), Tower(conv=StdConv2d)],
    ids=["norm first", "used twice", "nan", "weights are standardised"],
)
def test_a_tower_that_works_in_another_way_is_left_alone(tower: Tower) -> None:
    assert fused(trained(tower), SIZE) is tower
    assert norms(tower) == 1


def test_the_plain_way_is_fused() -> None:
    tower = trained(Tower())
    assert norms(fused(tower, SIZE)) == 0


def test_a_tower_without_norms_is_never_run() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 4, 99), nn.LayerNorm(7))
    assert fused(tower, SIZE) is tower


def test_nobodys_random_numbers_depend_on_it() -> None:
    tower = trained(Tower())
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fused(tower, SIZE)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("precision", list(Precision)[1:])
def test_mini_gives_what_open_clip_gives(precision: Precision) -> None:
    import open_clip

    spec = resolve_model("mini")
    encoder = load_encoder(spec, DeviceChoice("cpu", precision, 4, 2, "test"))
    is_fused = norms(encoder._model.visual) == 0
    assert is_fused is (precision is Precision.FP32)
    model, _, preprocess = open_clip.create_model_and_transforms(spec.config().source)
    images = [Image.open(ROOT / f"examples/photos/{name}.jpg") for name in ("cat", "rocket")]
    with torch.inference_mode():
        prepared: Any = torch.stack([preprocess(image) for image in images])
        expected = model.eval().encode_image(prepared, normalize=True).numpy()
    found = encoder.encode_images(np.stack([encoder.prepare(image) for image in images]))
    assert (1 - (found * expected).sum(axis=1)).max() < (1e-6 if is_fused else 0.01)
