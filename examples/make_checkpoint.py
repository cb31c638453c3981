"""Write a model with random weights, to try clipcls where no real weights can be had.

    python examples/make_checkpoint.py OUTDIR [--arch ViT-B-32] [--seed 0]
    clipcls classify examples/photos --labels cat,rocket --model OUTDIR

The model runs and gives the same answers every time, but it has learned nothing: its answers are
meaningless. OUTDIR gets open_clip's `local-dir` layout, `open_clip_config.json` beside
`open_clip_model.safetensors`. Without `--arch` the architecture is a tiny one of our own that takes
a second to make and a few megabytes; with it, it is one of open_clip's.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import warnings
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 64,
            "patch_size": 16,
            "width": 64,
            "head_width": 32,
            "layers": 2,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
"""Configuration of the tiny model: a 64-pixel vision transformer of two layers."""


def known_config(arch: str) -> dict[str, Any]:
    """Return the configuration of one of open_clip's architectures, as its first weights have it.

    Raises:
        SystemExit: open_clip knows no such architecture, or nobody published weights for it.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not tags:
        raise SystemExit(f"open_clip has no published {arch}; `clipcls models` lists its names")
    published = open_clip.get_pretrained_cfg(arch, tags[0])
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {
        "model_cfg": open_clip.get_model_config(arch),
        "preprocess_cfg": {key: published[key] for key in keys},
    }


def write_checkpoint(folder: Path, config: dict[str, Any], seed: int = 0) -> None:
    """Write a model with seeded random weights in half precision.

    Args:
        folder: Where to; it is made if need be.
        config: The content of `open_clip_config.json`.
        seed: The same seed gives the same weights.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = random_model(folder)
    state = {name: _halved(tensor).contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def random_model(folder: Path) -> Any:
    """Build the folder's model with random weights that tell pictures apart."""
    import open_clip
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100.0))
        _settle_batch_norms(model)
    return model.eval()


def _settle_batch_norms(model: Any) -> None:
    """Measure batch-norm statistics on noise; fresh ones let a deep network fade or blow up."""
    import torch

    norms = [m for m in model.visual.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        # Residual branches start at zero, which makes all pictures alike.
        norm.weight.fill_(1.0)
        norm.momentum = None
        norm.reset_running_stats()
    height, width = model.visual.preprocess_cfg["size"], model.visual.preprocess_cfg["size"]
    if not isinstance(height, int):
        height, width = height
    noise = torch.randn(8, 3, height // 16, width // 16)
    model.visual.train()
    model.encode_image(torch.nn.functional.interpolate(noise, size=(height, width)))


def _halved(tensor: Any) -> Any:
    return tensor.half() if tensor.is_floating_point() else tensor


def main() -> None:
    """Read the command line and write the checkpoint."""
    logging.getLogger().addHandler(logging.NullHandler())
    parser = argparse.ArgumentParser(description="Write a model with random weights.")
    parser.add_argument("folder", type=Path, metavar="OUTDIR")
    parser.add_argument("--arch", help="one of open_clip's architectures (default: a tiny one)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = known_config(arguments.arch) if arguments.arch else TINY
    write_checkpoint(arguments.folder, config, arguments.seed)
    print(f"{arguments.folder}: random weights, its answers are meaningless")


if __name__ == "__main__":
    main()
