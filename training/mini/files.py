"""Files that are either whole or not there, so that an interrupted step can simply be run again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a name to write under; what is there at the end takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"part-{path.name}")
    yield partial
    os.replace(partial, path)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as .npy."""
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, array)


def save_json(path: Path, content: Any) -> None:
    """Write what JSON can say."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def load_json(path: Path) -> Any:
    """Read what `save_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a dict of tensors, numbers and dicts of these."""
    with whole(path) as partial:
        torch.save(content, partial)


def load_tensors(path: Path) -> dict[str, Any]:
    """Read what `save_tensors` wrote."""
    content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return content


def finished(*paths: Path) -> bool:
    """Whether all outputs of a step are there; the user is told."""
    done = all(path.exists() for path in paths)
    if done:
        print(f"{paths[0]}: is there", flush=True)
    return done
