"""Habits of the source that a linter does not hold, each a mistake seen in a good project."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import clipcls

PACKAGE = Path(clipcls.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LIBRARY = [path for path in MODULES if path.parent.name != "cli"]
LONGEST = 60


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_function_is_too_long_to_read(path: Path) -> None:
    # The flags of a command are its parameters, so commands are measured by their bodies.
    long = {
        f.name: size
        for f in functions(path)
        if (size := (f.end_lineno or 0) - f.body[0].lineno + 1) > LONGEST
    }
    assert long == {}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_never_ends_the_process(path: Path) -> None:
    names = {ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text("utf-8")))
             if isinstance(n, ast.Call)}  # fmt: skip
    assert not names & {"sys.exit", "exit", "quit", "os._exit", "typer.Exit"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_logit_scale_is_a_constant(path: Path) -> None:
    products = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and any(isinstance(s, ast.Constant) and s.value == 100.0 for s in (node.left, node.right))
    ]
    # The one place is a percentage in a table for people.
    assert [p for p in products if p != "100 * share"] == []


def test_drawers_without_a_name_of_their_own_do_not_exist() -> None:
    assert not {path.stem for path in MODULES} & {"helpers", "utils", "util", "misc", "common"}
