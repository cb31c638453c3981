"""Step 5: tower, heads and text tower as one model in open_clip's `local-dir` layout.

    python -m training.mini.export WORK --lite0 FILE

Writes `WORK/model`: `open_clip_config.json` and `open_clip_model.safetensors` (float16).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from training.mini.files import finished, load_tensors, whole
from training.mini.teachers import ImageTeacher, load_lite0
from training.mini.tower import SCALE, TowerOptions


def model_config(
    teacher: ImageTeacher, tower: dict[str, Tensor], options: TowerOptions
) -> dict[str, Any]:
    """Return the content of `open_clip_config.json`."""
    blocks = {name.split(".")[2] for name in tower if name.startswith("transformer.resblocks.")}
    return {
        "model_cfg": {
            "embed_dim": tower["text_projection"].shape[1],
            "custom_text": True,
            "vision_cfg": {
                "timm_model_name": teacher.architecture,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "mlp",
                "image_size": teacher.image_size,
            },
            "text_cfg": {
                "context_length": options.context,
                "vocab_size": tower["token_embedding.weight"].shape[0],
                "width": options.width,
                "heads": options.heads,
                "layers": len(blocks),
            },
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "size": [teacher.image_size, teacher.image_size],
        },
    }


def export(
    work: Path, teacher: ImageTeacher, stage: str = "pairs", options: TowerOptions | None = None
) -> Path:
    """Write the model and return its folder.

    Args:
        work: The work folder.
        teacher: Whose trunk becomes the image tower.
        stage: Of the text tower.
        options: Those that the text tower was made with.
    """
    folder = work / "model"
    config, weights = folder / "open_clip_config.json", folder / "open_clip_model.safetensors"
    if finished(weights, config):
        return folder
    tower = load_tensors(work / "tower" / f"{stage}.pt")
    join = load_tensors(work / "heads" / "join.pt")
    state = {f"visual.trunk.{name}": value for name, value in teacher.trunk().items()}
    for name, value in join.items():
        if name.startswith("head."):
            state[f"visual.head.mlp.{name.removeprefix('head.')}"] = value
    state |= {f"text.{name}": value for name, value in tower.items()}
    state["logit_scale"] = torch.tensor(math.log(SCALE))
    small = {
        # Vectors stay exact: they are few, and the statistics of batch norms need it.
        name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous()
        for name, value in state.items()
    }
    with whole(config) as partial:
        text = json.dumps(model_config(teacher, tower, options or TowerOptions()), indent=2)
        partial.write_text(text + "\n", encoding="utf-8")
    with whole(weights) as partial:
        save_file(small, partial)
    return folder


def main(work: Path, lite0: Path) -> None:
    """Write the model."""
    print(export(work, load_lite0(lite0)))


if __name__ == "__main__":
    typer.run(main)
