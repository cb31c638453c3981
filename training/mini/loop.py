"""One training loop for everything that is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.mini.files import load_tensors, save_tensors

Losses = Callable[[np.random.Generator, int], dict[str, Tensor]]
"""From a step's own random numbers and its number to its losses, weighted, by name."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast.

    Attributes:
        steps: How many.
        lr: The highest learning rate.
        warmup: Steps of a linear rise to it; a cosine brings it down to `floor` of it.
        floor: Share of the highest rate at the end.
        decay: Weight decay of matrices; vectors and embeddings have none.
        clip: Largest norm of the gradient.
        seed: Of all random numbers.
        save_every: Steps between two checkpoints.
        half: Whether layers compute in bfloat16; without instructions for it, a processor is many
            times slower so.
    """

    steps: int
    lr: float
    warmup: int = 200
    floor: float = 0.02
    decay: float = 0.02
    clip: float = math.inf
    seed: int = 0
    save_every: int = 200
    half: bool = True

    def autocast(self) -> torch.autocast:
        """Return the context in which layers are computed."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.half)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.lr * rise * (self.floor + (1 - self.floor) * fall)


def train(module: nn.Module, losses: Losses, plan: Plan, checkpoint: Path) -> None:
    """Train a module; an interrupted training goes on from its checkpoint as if nothing had been.

    Every step has random numbers of its own, made from the seed and the step's number, so the
    checkpoint need not keep any state of them.
    """
    named = list(module.named_parameters())
    matrices = [p for name, p in named if p.ndim > 1 and "embedding" not in name]
    others = [p for name, p in named if p.ndim <= 1 or "embedding" in name]
    groups = [
        {"params": matrices, "weight_decay": plan.decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.98))
    first = 0
    if checkpoint.exists():
        state = load_tensors(checkpoint)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    module.train()
    for step in range(first, plan.steps):
        torch.manual_seed(plan.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        parts = losses(np.random.default_rng([plan.seed, step]), step)
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), plan.clip)
        optimizer.step()
        if (step + 1) % plan.save_every == 0:
            told = ", ".join(f"{name} {part.item():.3f}" for name, part in parts.items())
            print(f"{checkpoint.stem}: step {step + 1} of {plan.steps}, {told}", flush=True)
            save_tensors(
                checkpoint,
                {
                    "module": module.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                },
            )
    module.eval()
