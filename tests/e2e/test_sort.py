"""The real program, killed at random moments of a move."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from clipcls.sorting.journal import NAME
from tests.e2e.conftest import command
from tests.sorting.trees import snapshot, write_output
from tests.test_package import traced

IMAGES = 4_000
KILLS = 2


def call(*arguments: object, code: int = 0) -> None:
    done = subprocess.run(command("sort", *arguments), capture_output=True, timeout=120)
    assert done.returncode == code, done.stderr


def killed(begun: Callable[[], bool], seconds: float, *arguments: object) -> bool:
    """Kill the program so long after it has begun; return whether that was before its end."""
    with subprocess.Popen(command("sort", *arguments), stderr=subprocess.DEVNULL) as program:
        while program.poll() is None and not begun():
            time.sleep(0.0005)
        time.sleep(seconds)
        program.kill()
    return program.returncode == -9


def test_a_move_killed_at_random_has_every_file_once_and_is_undone(tmp_path: Path) -> None:
    tree, dest = tmp_path / "photos", tmp_path / "photos" / "sorted"
    tree.mkdir()
    images = [tree / f"{i % 40}" / f"{i % 500}-{i // 2000}.jpg" for i in range(IMAGES)]
    for i, image in enumerate(images):
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(f"{i} ".encode() * (i % 7 + 1))
        os.utime(image, ns=(0, 10**18 + i))
    rows = [(image, f"label {i % 7}", 0.9) for i, image in enumerate(images)]
    output = write_output(tmp_path / "out.csv", rows)
    before = snapshot(tree)

    def files() -> Counter[object]:
        found = (p for p in tree.rglob("*") if p.is_file() and not p.name.startswith("."))
        return Counter(path.read_bytes() for path in found)

    whole, amid = files(), 0
    for _ in range(KILLS):
        job = (output, dest, "--by", "move")
        for half in (0, IMAGES // 2):

            def begun(image: Path = images[half]) -> bool:
                return not image.exists()

            amid += killed(begun, random.uniform(0, 0.05), *job)
            assert files() == whole
        call(*job)
        assert files() == whole
        assert not any(image.exists() for image in images)
        amid += killed(images[-1].exists, random.uniform(0, 0.1), "--undo", dest)
        assert files() == whole
        if (dest / NAME).exists():
            call("--undo", dest)
        assert snapshot(tree) == before
    assert amid > 0


def test_a_sort_loads_no_torch(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(b"image")
    output = write_output(tmp_path / "out.csv", [(image, "cat", 0.9)])
    program = traced("-m", "clipcls", "sort", str(output), str(tmp_path / "sorted"))
    assert program.exit_code == 0, program.stderr
    assert (tmp_path / "sorted" / "cat" / "a.jpg").exists()
    assert not program.loaded & {"torch", "open_clip", "timm"}
