"""What README and docs show: the Python runs as it stands, and the commands have their flags."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from clipcls.cli import app
from clipcls.heads import Head
from clipcls.labels import make_labels
from clipcls.options import OutputOptions
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.run import Job, run
from clipcls.shards import Shard
from clipcls.testing import FakeEncoder, save_colours

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    fenced = rf"^```{language}\n(.*?)^```"
    return re.findall(fenced, page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


EXAMPLES = {
    f"{page.name}-{number}": code
    for page in PAGES
    for number, code in enumerate(blocks(page, "python"))
}
COMMANDS = [
    (page.name, words.split())
    for page in PAGES
    for block in blocks(page, "(?:ba)?sh")
    for words in re.findall(r"clipcls ([a-z][^|#;&\n]*)", block.replace("\\\n", " "))
]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda given: str(given)[:60])
def test_the_flags_that_the_docs_show_are_there(page: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    while words[0] in getattr(command, "commands", {}):
        command = command.commands[words[0]]
        words = words[1:] or ["--help"]
    known = {name for given in command.params for name in (*given.opts, *given.secondary_opts)}
    shown = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert shown <= known | {"--help"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: FakeEncoder) -> None:
    """What the examples name: images, outputs, shards and a head; any model is the fake one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("clipcls.classifier.resolve_model", lambda *_: encoder)
    shutil.copytree(ROOT / "examples", "examples")
    save_colours(Path("images"), ["red", "green", "blue"])
    for name in ("pet.jpg", "bicycle.jpg"):
        shutil.copy("examples/photos/cat.jpg", name)
    for output, shard in (("out", None), ("part-1", Shard(1, 2)), ("part-2", Shard(2, 2))):
        job = Job(
            Inputs(("images",), shard=shard),
            Question(make_labels(["red", "blue"]), ("<>",)),
            ModelChoice("fake"),
            OutputOptions(Path(f"{output}.csv")),
        )
        run(job, encoder=encoder)
    head = Head(
        labels=("glasses", "no-glasses"),
        prompts=((), ()),
        weights=np.eye(2, encoder.dim, dtype=np.float32),
        biases=np.zeros(2, dtype=np.float32),
        temperature=1.0,
        method="gda",
        model="fake",
        model_fingerprint=encoder.fingerprint,
    )
    Path("glasses.head.safetensors").write_bytes(head.to_bytes())


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.usefixtures("folder")
def test_the_python_of_the_docs_runs(name: str) -> None:
    exec(EXAMPLES[name], {})
