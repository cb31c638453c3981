"""Commands in this process, with the fake encoder in the model's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clipcls.cli import app
from clipcls.models.names import ModelSpec, Published
from clipcls.testing import FakeEncoder

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run `clipcls ARGUMENTS`; models are all here, load at once and know colours."""

    def load(spec: ModelSpec, *_: object) -> FakeEncoder:
        encoder = FakeEncoder()
        encoder.name = spec.name
        return encoder

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    monkeypatch.setattr(Published, "checkpoint", lambda spec, tell: Path("weights"))
    monkeypatch.setattr(
        Published, "fingerprint", lambda spec, precision, decode: f"{spec.name} {decode.decoding}"
    )

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)

    return call
