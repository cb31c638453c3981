"""Measure the speed of clipcls beside the usual ways: `python -m benchmarks --images DIR`.

The weights are random but seeded, because speed does not depend on them. See `benchmarks/README.md`
for what the figures mean.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.processes import ROOT, hardware, run_python
from benchmarks.speed import SECTIONS, Bench

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def repeated(folder: Path, count: int, into: Path) -> list[Path]:
    """Link the images in and below a folder under new names until there are `count`.

    Raises:
        SystemExit: There are none.
    """
    found = sorted(p.resolve() for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not found:
        raise SystemExit(f"--images {folder}: there are no images in it")
    into.mkdir()
    links = [into / f"{i:06}{found[i % len(found)].suffix}" for i in range(count)]
    for i, link in enumerate(links):
        link.symlink_to(found[i % len(found)])
    return links


def model_folder(word: str, workspace: Path) -> Path:
    """Return a folder with a model: the named one, or one with random weights."""
    if Path(word).is_dir():
        return Path(word).resolve()
    folder = workspace / "model"
    architecture = [] if word == "tiny" else ["--arch", word]
    run_python(
        [str(ROOT / "examples" / "make_checkpoint.py"), str(folder), *architecture], workspace
    )
    return folder


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=960, help="images, by repetition if need be")
    parser.add_argument("--runs", type=int, default=3, help="of each; the median counts")
    parser.add_argument("--model", default="ViT-B-32", help="an architecture, a folder, or tiny")
    parser.add_argument("--device", default="auto", help="as clipcls takes it")
    parser.add_argument(
        "--precision", nargs="+", default=["fp32"], choices=["fp32", "fp16", "bf16"]
    )
    parser.add_argument("--listed", type=int, default=100_000, help="paths in the long list")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the tables there too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, and print each table when it is there."""
    asked = parsed(arguments)
    lines: list[str] = []

    def tell(more: Iterable[str]) -> None:
        lines.extend([*more, ""])
        print(*more, "", sep="\n", flush=True)
        # After each table, so that an interrupt costs only what is missing.
        if asked.output is not None:
            asked.output.write_text("\n".join(lines), encoding="utf-8")

    weights = f"Model {asked.model}, random weights; --device {asked.device}"
    tell(["# Speed", "", *hardware(), "", f"{weights}; medians of {asked.runs} runs."])
    with tempfile.TemporaryDirectory(prefix="clipcls-bench-") as temporary:
        workspace = Path(temporary)
        bench = Bench(
            workspace,
            repeated(asked.images, asked.count, workspace / "images"),
            str(model_folder(asked.model, workspace)),
            asked.device,
            tuple(asked.precision),
            asked.runs,
            asked.listed,
        )
        for name in SECTIONS:
            if name in asked.only:
                tell(SECTIONS[name](bench))


if __name__ == "__main__":
    main()
