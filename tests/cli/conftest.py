"""Commands in this process, with the fake encoder in the model's place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from clipcls.cli import app
from clipcls.testing import FakeEncoder

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run `clipcls ARGUMENTS`; models load at once and know colours."""
    monkeypatch.setattr("clipcls.run.load_encoder", lambda spec, device: FakeEncoder())
    monkeypatch.setattr("clipcls.run.pull", lambda spec, progress: None)

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)

    return call
