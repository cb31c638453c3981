"""The copy of open_clip's list, and open_clip kept silent."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from dataclasses import replace
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import pytest

from clipcls.errors import ModelError
from clipcls.models import catalog as module
from clipcls.models.catalog import (
    architectures,
    catalog,
    import_open_clip,
    live_architectures,
    quiet_open_clip,
)
from clipcls.models.names import PRESETS


def test_copy_equals_the_installed_open_clip() -> None:
    text = resources.files("clipcls.models").joinpath("catalog.json").read_text(encoding="utf-8")
    if json.loads(text)["open_clip"] != version("open_clip_torch"):
        pytest.skip("another open_clip than the catalogue's is installed")
    unsized = {
        name: replace(found, parameters=None, elements=None) for name, found in catalog().items()
    }
    assert unsized == live_architectures()


def test_presets_are_in_open_clip_s_own_list() -> None:
    listed = import_open_clip().list_pretrained(as_str=True)
    assert set(PRESETS.values()) - {"bundled/mini"} <= set(listed)


def test_another_open_clip_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    newcomer = replace(catalog()["ViT-B-32"], parameters=None, elements=None)
    live = {"ViT-B-32": newcomer, "ViT-Z-9": newcomer}
    monkeypatch.setattr(module, "_version", lambda name: "99.0")
    monkeypatch.setattr(module, "live_architectures", lambda: live)
    architectures.cache_clear()
    try:
        assert set(architectures()) == set(live)
        assert architectures()["ViT-B-32"].parameters == catalog()["ViT-B-32"].parameters
    finally:
        architectures.cache_clear()


def test_open_clip_s_messages_stay_inside(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), list(root.filters))
    with quiet_open_clip():
        warnings.warn("QuickGELU mismatch", stacklevel=1)
        record = root.makeRecord(
            "root", logging.ERROR, "/x/open_clip/factory.py", 1, "no", (), None
        )
        assert not root.filter(record)
        ours = root.makeRecord("root", logging.ERROR, "/x/app.py", 1, "yes", (), None)
        assert root.filter(ours)
    assert (list(root.handlers), list(root.filters)) == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("trouble", "advice"),
    [
        (
            "RuntimeError('operator torchvision::nms does not exist')",
            "torch .* and torchvision .* do not work together.*--force-reinstall torch torchvision",
        ),
        ("ImportError('no module named timm')", "timm.*--force-reinstall open_clip_torch"),
    ],
)
def test_import_trouble_says_how_to_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, advice: str
) -> None:
    (tmp_path / "open_clip.py").write_text(f"raise {trouble}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    with pytest.raises(ModelError, match=advice):
        import_open_clip()
