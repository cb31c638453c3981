"""What is installed: the wheel has the bundled model, and nothing that belongs elsewhere."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MINI = "clipcls/models/bundled/mini/"
MEGABYTE = 1_000_000


def built(target: str, folder: Path) -> Path:
    """Build a distribution without network and return its file."""
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    [path] = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def members(wheel: Path) -> dict[str, int]:
    """Name -> uncompressed size in bytes."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def test_the_bundled_model_is_whole_and_small(wheel: Path, members: dict[str, int]) -> None:
    mini = {name.removeprefix(MINI): n for name, n in members.items() if name.startswith(MINI)}
    assert set(mini) == {
        "MODEL_CARD.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    assert min(mini.values()) > 0
    assert sum(mini.values()) <= 55 * MEGABYTE
    assert wheel.stat().st_size <= 60 * MEGABYTE


def test_the_weights_are_the_ones_that_the_card_measures() -> None:
    weights = (ROOT / "src" / MINI / "open_clip_model.safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    assert digest == "d7656e966669e49182b01996b691d4c5b684cbb1d00903d5dd2b69acd2369704"
    assert digest in (ROOT / "src" / MINI / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_wheel_holds_the_package_and_nothing_else(members: dict[str, int]) -> None:
    source = ROOT / "src" / "clipcls"
    own = {f"clipcls/{p.relative_to(source).as_posix()}" for p in source.rglob("*.py")}
    prompts = [path for path in (ROOT / "prompts").rglob("*") if path.is_file()]
    data = {f"clipcls/{path.relative_to(ROOT).as_posix()}" for path in prompts}
    data |= {f"clipcls/models/{name}.json" for name in ("catalog", "published")}
    data |= {"clipcls/py.typed"}
    page = ("page.html", "page.css", "state.js", "filter.js", "gallery.js", "viewer.js", "main.js")
    data |= {f"clipcls/page/templates/{name}" for name in page}
    rest = {name for name in members if not name.startswith(MINI) and ".dist-info/" not in name}
    assert rest == own | data
    others = sum(size for name, size in members.items() if not name.startswith(MINI))
    assert others <= 3 * MEGABYTE, "something else than the model is large"


def test_the_source_has_what_the_wheel_needs(tmp_path: Path) -> None:
    with tarfile.open(built("sdist", tmp_path)) as archive:
        names = {member.name.partition("/")[2]: member.size for member in archive.getmembers()}
    assert {"pyproject.toml", "LICENSE"} <= set(names)
    assert f"src/{MINI}open_clip_model.safetensors" in names
    large = {name for name, size in names.items() if size > MEGABYTE}
    assert large == {f"src/{MINI}open_clip_model.safetensors"}
