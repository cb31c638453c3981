"""The bridge joined with the image teacher's classes, in common coordinates.

A second pair of embeddings stands beside the bridge's, in the manner of ConSE (arXiv:1312.5650): of
an image, how strongly it excites each class; of a text, how near it is to each class's name. Both
pairs are then rotated so that few numbers keep the scores of images and texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from timm.layers.mlp import Mlp
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from training.mini.heads import Bridge, TextHead

WEIGHT = 0.6
"""Of the second pair beside the first."""

SHARPNESS, THRESHOLD, SLOPE = 6.0, 3.0, 0.7
"""Of a text's softmax over classes; of a class unit, gelu(SLOPE * (logit - THRESHOLD))."""

CONSTANT = 5.0
"""Input of a hidden unit that is the same for every image, to subtract the mean with."""


def image_sides(image_head: Mlp, classes: tuple[Tensor, Tensor], features: Tensor) -> list[Tensor]:
    """Return the bridge's part (M, D) and the class units (M, C), neither normalised."""
    weight, bias = classes
    units = F.gelu(SLOPE * (features @ weight.T + bias - THRESHOLD))
    return [image_head(features), units]


def text_sides(text_head: TextHead, sentences: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bridge's part (B, D) and nearness to the classes (B, C), unit length both."""
    near = (SHARPNESS * sentences @ text_head.class_vectors.T).softmax(-1)
    return text_head(sentences), F.normalize(near, dim=-1)


def root(moment: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square root of a covariance matrix, slightly widened, and its inverse."""
    values, vectors = torch.linalg.eigh(moment)
    values = values.clamp(min=0) + 1e-3 * values.max()
    return (vectors * values.sqrt()) @ vectors.T, (vectors / values.sqrt()) @ vectors.T


def rotation(images: Tensor, texts: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return maps of images and texts into `dim` numbers whose products are the scores.

    Of all maps into so few numbers these lose least, over images and texts of these covariances.

    Args:
        images: (M, R).
        texts: (B, R).
        dim: K.

    Returns:
        (R, K) for images, (R, K) for texts, and (K,), how much each number counts.
    """
    centred = images - images.mean(0), texts - texts.mean(0)
    (a, a_inverse), (b, b_inverse) = (root(x.T @ x / len(x)) for x in centred)
    left, strength, right = torch.linalg.svd(a @ b)
    kept = strength[:dim]
    for_images = a_inverse @ left[:, :dim] * kept.sqrt()
    for_texts = b_inverse @ right[:dim].T * kept.sqrt()
    return for_images, for_texts, kept


@torch.no_grad()
def build_join(
    bridge: Bridge, classes: tuple[Tensor, Tensor], features: Tensor, short: Tensor, dim: int
) -> dict[str, Tensor]:
    """Return the joined image head and what `joined_texts` needs.

    Args:
        bridge: Trained.
        classes: The image teacher's weight (C, F) and bias (C,).
        features: (M, F), images that stand for all.
        short: (B, E), sentence vectors that stand for all labels.
        dim: K, numbers of an embedding.

    Returns:
        `head.*`, the state of `image_head`; `rotation`, `strength`, `near_mean` and
        `near_norm`.
    """
    seen, units = image_sides(bridge.image, classes, features)
    norms = seen.norm(dim=1).mean(), units.norm(dim=1).mean()
    raw = torch.cat([seen / norms[0], WEIGHT * units / norms[1]], dim=1)  # (M, D + C)
    near = text_sides(bridge.text, short)[1]
    near_mean = near.mean(0)
    found = {"near_mean": near_mean, "near_norm": (near - near_mean).norm(dim=1).mean()}
    texts = side_by_side(bridge.text, short, found)
    for_images, for_texts, strength = rotation(F.normalize(raw, dim=1), texts, dim)
    for_images = for_images / ((raw - raw.mean(0)) @ for_images).norm(dim=1).mean()

    # All of it as one perceptron, which is what open_clip can load: the bridge's hidden units, the
    # class units, and a constant one that carries the mean.
    weight, bias = classes
    old = bridge.image.state_dict()
    (own, hidden), count = old["fc2.weight"].shape, len(weight)
    first = torch.zeros(2 * dim, features.shape[1])  # (2K, F)
    offset = torch.zeros(2 * dim)
    first[:hidden], offset[:hidden] = old["fc1.weight"], old["fc1.bias"]
    first[hidden : hidden + count] = SLOPE * weight
    offset[hidden : hidden + count] = SLOPE * (bias - THRESHOLD)
    offset[hidden + count] = CONSTANT
    second = torch.zeros(raw.shape[1], 2 * dim)  # (D + C, 2K)
    second[:own, :hidden] = old["fc2.weight"] / norms[0]
    second[own:, hidden : hidden + count] = WEIGHT * torch.eye(count) / norms[1]
    second[:, hidden + count] = -raw.mean(0) / F.gelu(torch.tensor(CONSTANT))
    head = {
        "head.fc1.weight": first,
        "head.fc1.bias": offset,
        "head.fc2.weight": for_images.T @ second,
    }
    return {**head, **found, "rotation": for_texts, "strength": strength}


def side_by_side(text_head: TextHead, sentences: Tensor, join: dict[str, Tensor]) -> Tensor:
    """Return both parts of texts as one vector before the rotation, (B, D + C), unit length."""
    own, near = text_sides(text_head, sentences)
    near = (near - join["near_mean"]) / join["near_norm"]
    return F.normalize(torch.cat([own, WEIGHT * near], dim=1), dim=1)


def joined_texts(text_head: TextHead, sentences: Tensor, join: dict[str, Tensor]) -> Tensor:
    """Return what the text tower is to say of texts, (B, K), unit length.

    Args:
        text_head: The bridge's.
        sentences: (B, E), unit length.
        join: What `build_join` returned.
    """
    return F.normalize(side_by_side(text_head, sentences, join) @ join["rotation"], dim=1)


def image_head(join: dict[str, Tensor]) -> Mlp:
    """Return the joined image head; its output is not normalised."""
    state = {k.removeprefix("head."): v for k, v in join.items() if k.startswith("head.")}
    hidden, features = state["fc1.weight"].shape
    head = Mlp(features, hidden, hidden // 2, bias=(True, False))
    head.load_state_dict(state)
    return head.eval()
