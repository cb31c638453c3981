from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make files below a fresh current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


@pytest.fixture
def small_pillow_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns above 1 megapixel and refuses above 2."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
