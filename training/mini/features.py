"""Step 1: what the image teacher sees in every image, in up to three views.

    python -m training.mini.features WORK SETS --lite0 FILE [--only NAME,NAME] [--views cr]

SETS holds tar files; `NAME-00.tar`, `NAME-01.tar` and `NAME.tar` are the set NAME. A tar has
`KEY.jpg` beside `KEY.json` (`{"labels": [...]}` or `{"captions": [...]}`); an image without a JSON
file lies in a folder that is its label. `NAME.skip` lists labels to leave out, one per line.

Writes `WORK/features/NAME.npy`, (V, N, F) float16, and `NAME.json`, what is said of the N images.
"""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from training.mini.files import finished, save_array, save_json
from training.mini.teachers import ImageTeacher, load_lite0

BATCH = 32
Said = dict[str, list[str]]
"""What is said of an image: `labels` or `captions`."""


def centre(image: Image.Image, size: int, _: random.Random) -> Image.Image:
    """Return the view that the finished model has: shortest side to `size`, centre crop."""
    scale = size / min(image.size)
    wide, high = (max(size, round(side * scale)) for side in image.size)
    left, top = (wide - size) // 2, (high - size) // 2
    resized = image.resize((wide, high), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


def part(image: Image.Image, size: int, draw: random.Random) -> Image.Image:
    """Return a random part, 30 to 100 % of the area, mirrored half the time."""
    wide, high = image.size
    area, ratio = wide * high * draw.uniform(0.3, 1), 2 ** draw.uniform(-0.4, 0.4)
    w, h = min(wide, int((area * ratio) ** 0.5)), min(high, int((area / ratio) ** 0.5))
    left, top = draw.randint(0, wide - w), draw.randint(0, high - h)
    box = (left, top, left + w, top + h)
    cut = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else cut


def lowered(image: Image.Image, size: int, draw: random.Random) -> Image.Image:
    """Return one of the two other views as it looks when the file has few pixels."""
    view = draw.choice([centre, part])(image, size, draw)
    few = draw.choice([32, 32, 40, 48, 64, 96])
    ways = [Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR]
    small = view.resize((few, few), draw.choice(ways))
    return small.resize((size, size), Image.Resampling.BICUBIC)


VIEWS: dict[str, Callable[[Image.Image, int, random.Random], Image.Image]] = {
    "c": centre,
    "r": part,
    "l": lowered,
}


def read_set(tars: Sequence[Path]) -> Iterator[tuple[str, bytes, Said]]:
    """Yield key, image file and what is said of it, in the order of the files."""
    for path in tars:
        with tarfile.open(path) as tar:
            members = {member.name: member for member in tar if member.isfile()}

            def content(name: str, tar: tarfile.TarFile = tar, of: Any = members) -> bytes:
                file = tar.extractfile(of[name])
                return file.read() if file else b""

            for name in members:
                key, _, suffix = name.rpartition(".")
                if suffix.lower() not in ("jpg", "jpeg"):
                    continue
                said = {"labels": [Path(name).parent.name]}
                if f"{key}.json" in members:
                    said = json.loads(content(f"{key}.json"))
                yield key, content(name), {k: said[k] for k in ("labels", "captions") if k in said}


def see(item: tuple[str, bytes, Said], views: str, size: int) -> NDArray[np.uint8]:
    """Return an image's views, (V, 3, S, S); chance depends on its key only."""
    key, data, _ = item
    draw = random.Random(zlib.crc32(key.encode()))
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at half its size or less
    rgb = image.convert("RGB")
    return np.stack([np.asarray(VIEWS[v](rgb, size, draw)).transpose(2, 0, 1) for v in views])


def make_features(
    tars: Sequence[Path], out: Path, teacher: ImageTeacher, views: str = "crl"
) -> None:
    """Write the features of one set; see the module.

    Args:
        tars: The files of the set, `NAME.skip` beside them.
        out: `WORK/features/NAME.npy`.
        teacher: Who looks.
        views: Letters of `VIEWS`.
    """
    if finished(out, out.with_suffix(".json")):
        return
    skip_file = tars[0].with_name(f"{out.stem}.skip")
    skip = set(skip_file.read_text(encoding="utf-8").split("\n")) if skip_file.exists() else set()
    items = (item for item in read_set(tars) if not skip & set(item[2].get("labels", ())))
    said: list[Said] = []
    found: list[NDArray[np.float16]] = []
    with ThreadPoolExecutor(2) as pool:
        while batch := list(islice(items, BATCH)):
            look = partial(see, views=views, size=teacher.image_size)
            pixels = np.stack(list(pool.map(look, batch)))  # (B, V, 3, S, S)
            seen = teacher.features(pixels.reshape(-1, *pixels.shape[2:]))  # (B * V, F)
            found.append(seen.reshape(len(batch), len(views), -1))
            said += [texts for _, _, texts in batch]
    save_json(out.with_suffix(".json"), said)
    save_array(out, np.concatenate(found).transpose(1, 0, 2))


def set_name(tar: Path) -> str:
    """Return the name of the set that a tar file belongs to."""
    return re.sub(r"-\d+$", "", tar.stem)


def main(work: Path, sets: Path, lite0: Path, only: str = "", views: str = "crl") -> None:
    """Make the features of all sets, or of those that `--only` names."""
    teacher = load_lite0(lite0)
    tars = sorted(sets.glob("*.tar"))
    for name in only.split(",") if only else sorted({set_name(tar) for tar in tars}):
        own = [tar for tar in tars if set_name(tar) == name]
        if not own:
            raise SystemExit(f"{sets} has no {name}.tar")
        make_features(own, work / "features" / f"{name}.npy", teacher, views)


if __name__ == "__main__":
    typer.run(main)
