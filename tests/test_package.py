"""The package as a whole: public names, light start, docs that say what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import clipcls

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("numpy", "torch", "open_clip", "pandas", "PIL", "pyarrow")


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules of a fresh interpreter after `code`."""
    names = "{m.split('.')[0] for m in sys.modules}"
    listing = f"import sys\n{code}\nprint(*{names}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["classify", "--help"],
        ["models", "--help"],
        ["prompts", "show", "--help"],
        ["prompts"],
        ["classify", "x"],
        ["classify", ".", "--labels", "a,b", "--batch-size", "no"],
    ],
)
def test_what_needs_no_model_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
from clipcls.cli import main
sys.argv = ["clipcls", *{arguments!r}]
sys.stderr, errors = open("/dev/null", "w"), sys.stderr
try:
    main()
except SystemExit:
    sys.stderr = errors
"""
    assert not loaded_by(code).intersection(HEAVY)


def test_import_clipcls_is_light_and_every_public_name_is_there() -> None:
    assert not loaded_by("import clipcls").intersection(HEAVY)
    assert set(clipcls.__all__) <= set(dir(clipcls))
    for name in clipcls.__all__:
        assert getattr(clipcls, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Klassifier'"):
        _ = clipcls.Klassifier


def test_versions_agree() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = re.search(r'^version = "(.*)"', text, flags=re.MULTILINE)
    assert project is not None
    assert project[1] == clipcls.__version__
    assert f"## [{clipcls.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
