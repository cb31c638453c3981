"""Step 6: the figures of the exported model, by `benchmarks/mini.py`.

python -m training.mini.evaluate WORK DATA [--tree NAME=DIR]
"""

from __future__ import annotations

from pathlib import Path

import typer

from benchmarks import mini


def main(work: Path, data: Path, tree: list[str] | None = None) -> None:
    """Print accuracy, calibration and retrieval of the model in `WORK/model`."""
    trees = [argument for pair in tree or [] for argument in ("--tree", pair)]
    model = str(work / "model")
    parts = ["accuracy", "flickr8k", "trees"]
    mini.main(["--data", str(data), "--model", model, *trees, "--only", *parts])


if __name__ == "__main__":
    typer.run(main)
