"""Hugging Face's CLIP with the weights of an open_clip folder, for the comparison of speed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.question import Skipped

_RENAMED = (
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.", ".self_attn."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^text_projection$", "text_projection.weight"),
)
"""open_clip's name of a weight -> Hugging Face's; the first that fits changes it, then the next."""


def load(folder: Path, texts: Sequence[str]) -> tuple[Any, Any, Any]:
    """Return the model, its image processor, and the (N, L) tokens of N texts.

    Raises:
        Skipped: transformers is missing, or has no such model.
    """
    try:
        from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel
    except ImportError as error:
        raise Skipped("transformers is not installed") from error
    from open_clip.tokenizer import SimpleTokenizer
    from safetensors.torch import load_file

    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    whole, prepared = config["model_cfg"], config["preprocess_cfg"]
    vision, text = whole["vision_cfg"], whole["text_cfg"]
    if not isinstance(vision.get("layers"), int) or "timm_model_name" in vision:
        raise Skipped("only a plain vision transformer has the same shape in transformers")
    size = vision["image_size"]
    heads = vision["width"] // vision.get("head_width", 64)
    model = CLIPModel(
        CLIPConfig(
            vision_config={
                **_tower(whole, vision, heads),
                "image_size": size,
                "patch_size": vision["patch_size"],
            },
            text_config={
                **_tower(whole, text, text["heads"]),
                "vocab_size": text["vocab_size"],
                "max_position_embeddings": text["context_length"],
            },
            projection_dim=whole["embed_dim"],
        )
    )
    state = load_file(folder / "open_clip_model.safetensors")
    model.load_state_dict(dict(_renamed(state)), strict=True)
    processor = CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=prepared["mean"],
        image_std=prepared["std"],
    )
    return model, processor, SimpleTokenizer(context_length=text["context_length"])(list(texts))


def _tower(whole: dict[str, Any], tower: dict[str, Any], heads: int) -> dict[str, Any]:
    return {
        "hidden_size": tower["width"],
        "intermediate_size": 4 * tower["width"],
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": heads,
        "hidden_act": "quick_gelu" if whole.get("quick_gelu") else "gelu",
        "projection_dim": whole["embed_dim"],
    }


def _renamed(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the weights in float32 under the names that Hugging Face has for them."""
    for name, tensor in state.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if "in_proj_" in name:
            for part, rows in zip("qkv", tensor.float().chunk(3), strict=True):
                yield name.replace("in_proj_", f"{part}_proj."), rows
        else:
            # What projects from the right there multiplies from the left here.
            yield name, (tensor.T if name.endswith("_projection.weight") else tensor).float()
