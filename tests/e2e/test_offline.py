"""A fresh machine without network: the program works at once, with `mini`, and says so."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.checkpoints import CheckpointFolders, checkpoints
from tests.e2e.conftest import ROOT, command
from tests.hub_cache import HubCache

__all__ = ["checkpoints"]

PHOTOS = ROOT / "examples" / "photos"
JOB = ("classify", PHOTOS, "--labels", "cat,rocket", "--device", "cpu")
FRESH = {"CLIPCLS_MODEL", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"}
FRESH |= {name for name in os.environ if name.lower().endswith("_proxy")}
CLOSED = "http://127.0.0.1:9"
"""An address where nobody answers."""

Fresh = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    """Run `clipcls ARGUMENTS` with an empty cache and a hub that is out of reach."""

    def call(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in FRESH}
        own = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": CLOSED}
        return subprocess.run(
            command(*arguments),
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            env={**inherited, **own, **variables},
        )

    return call


@pytest.mark.parametrize(
    ("variables", "reason"),
    [({}, f"{CLOSED} cannot be reached"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set")],
    ids=["unreachable", "offline"],
)
def test_without_a_word_about_models_it_works_and_warns_once(
    fresh: Fresh, variables: dict[str, str], reason: str
) -> None:
    done = fresh(*JOB, **variables)
    assert done.returncode == 0, done.stderr
    header, *rows = list(csv.reader(done.stdout.splitlines()))
    assert header == ["path", "prediction", "probability", "cat", "rocket", "note", "error"]
    assert len(rows) == 12
    assert {row[-1] for row in rows} == {""}
    [warning] = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert warning.startswith("Warning: mini, the small model that comes with clipcls, is used")
    assert reason in warning
    assert "Model mini on cpu" in done.stderr
    assert done.stderr.rstrip().endswith(", model mini")


def test_quiet_leaves_only_the_warning_and_naming_mini_silences_it(fresh: Fresh) -> None:
    quiet = fresh(*JOB, "--quiet", "--format", "jsonl")
    assert quiet.stderr.count("\n") == 1
    assert quiet.stderr.startswith("Warning: mini, ")
    named = fresh(*JOB, "--quiet", "--format", "jsonl", "--model", "mini")
    assert (named.returncode, named.stderr) == (0, "")
    assert named.stdout == quiet.stdout
    rows = [json.loads(line) for line in quiet.stdout.splitlines()]
    assert [list(row["probabilities"]) for row in rows] == [["cat", "rocket"]] * 12


def hub(behaviour: str) -> Iterator[str]:
    """Serve an address that is reached but gives no model: a status, a login page or silence."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if behaviour == "silence" and self.path != "/":
                over.wait(60)
            self.send_response(503 if behaviour == "503" else 200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        over.set()
        server.shutdown()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("503", "the hub answers 503; mini"),
        ("login page", "does not answer as a model hub does"),
        ("silence", "cannot be reached; mini"),
    ],
)
def test_a_hub_that_fails_is_given_up_at_once_and_named_in_one_line(
    fresh: Fresh, behaviour: str, reason: str
) -> None:
    with contextmanager(hub)(behaviour) as address:
        done = fresh(*JOB, "--quiet", HF_ENDPOINT=address)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert done.stdout.count("\n") == 13


@pytest.mark.parametrize("how", [("--model", "fast"), ("--model", "ViT-B-32:openai")])
def test_a_named_model_is_an_error_and_never_mini(fresh: Fresh, how: tuple[str, str]) -> None:
    done = fresh(*JOB, *how)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ViT-B-32")
    assert "cannot be reached" in done.stderr
    assert "or --model mini" in done.stderr


def test_a_model_named_by_the_environment_is_an_error_too(fresh: Fresh) -> None:
    done = fresh(*JOB, CLIPCLS_MODEL="fast")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ViT-B-32-256")


@pytest.mark.slow
def test_damaged_weights_of_fast_are_an_error_and_not_mini(
    fresh: Fresh, tmp_path: Path, checkpoints: CheckpointFolders
) -> None:
    weights = checkpoints.folder("tiny") / "open_clip_model.safetensors"
    repository = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
    HubCache(tmp_path / "hub").add(repository, weights.name, weights)
    done = fresh(*JOB, HF_HUB_CACHE=str(tmp_path / "hub"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: ViT-B-32-256:datacomp_s34b_b86k: " in done.stderr
    assert "pull it again" in done.stderr
    assert "mini" not in done.stderr


def test_a_run_that_mini_began_is_resumed_and_its_manifest_names_it(
    fresh: Fresh, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    assert fresh(*JOB, "-o", out).returncode == 0
    before = out.read_bytes()
    again = fresh(*JOB, "-o", out, "--resume")
    assert again.returncode == 0, again.stderr
    assert out.read_bytes() == before
    assert "Warning: mini is used, because it made the rows that are there" in again.stderr
    manifest = json.loads(out.with_name("out.csv.manifest.json").read_bytes())
    assert manifest["model"]["name"] == "mini"
    other = fresh(*JOB, "-o", out, "--resume", "--model", "ViT-B-32:openai")
    assert (other.returncode, out.read_bytes()) == (1, before)
