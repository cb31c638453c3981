"""What a user is told: help of every command, documented flags and codes, completion in a shell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from clipcls import errors
from clipcls.cli import app
from clipcls.errors import ClipclsError
from clipcls.records import RunReport
from tests.cli.conftest import Invoke
from tests.test_package import HEAVY, ROOT, traced

SIGTERM_EXIT_CODE = 128 + 15


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words after `clipcls`, command) of a command and of everything below it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


TREE = dict(commands(typer.main.get_command(app)))


COMMANDS = ("classify", "evaluate", "calibrate", "learn", "similarity", "explain", "report", "sort")


def documentation() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def mentioned(flag: str, text: str) -> bool:
    """Whether a flag stands in a text as a word of its own."""
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) is not None


def test_the_tree_has_the_commands_that_the_readme_shows() -> None:
    named = re.findall(r"clipcls (models|prompts) (show|pull)\b", documentation())
    assert named
    assert {("classify",), ("prompts",), ("models",), *named} <= set(TREE)


@pytest.mark.parametrize("path", [path for path in TREE if path], ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(
    invoke: Invoke, path: tuple[str, ...]
) -> None:
    result = invoke(*path, "--help")
    assert result.exit_code == 0
    _, heading, examples = result.stdout.partition("Example")
    assert heading
    assert f"clipcls {' '.join(path)}" in examples


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_parameter_has_help(path: tuple[str, ...]) -> None:
    silent = [parameter.name for parameter in TREE[path].params if not parameter.help]
    assert silent == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_documented(command: str) -> None:
    """One spelling is enough: `-o` for `--output`, `--no-recursive` for `--recursive`."""
    text = documentation()
    spellings = [
        [*parameter.opts, *parameter.secondary_opts]
        for parameter in TREE[(command,)].params
        if parameter.opts[0].startswith("-")
    ]
    assert len(spellings) > 3
    unknown = [names for names in spellings if not any(mentioned(name, text) for name in names)]
    assert unknown == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_that_the_documentation_names_exists(command: str) -> None:
    shown = re.findall(rf"clipcls {command} [^\n`]*(?:\\\n[^\n`]*)*", documentation())
    flags = {flag for line in shown for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)}
    known = {name for p in TREE[(command,)].params for name in [*p.opts, *p.secondary_opts]}
    assert flags
    assert flags <= known


def error_classes(kind: type[ClipclsError] = ClipclsError) -> Iterator[type[ClipclsError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from error_classes(below)


def test_the_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Exit codes")[2]
    table = re.findall(r"^\| (\d+) \| (.+) \|$", section.partition("\n## ")[0], re.MULTILINE)
    meaning = {int(code): text for code, text in table}
    reports = [RunReport(), RunReport(failed=1), RunReport(interrupted=True)]
    assert set(meaning) == {kind.exit_code for kind in error_classes()} | {
        report.exit_code for report in reports
    }
    assert "error" in meaning[ClipclsError.exit_code]
    assert "command line" in meaning[errors.UsageError.exit_code]
    assert "failed" in meaning[RunReport(failed=1).exit_code]
    assert "interrupted" in meaning[RunReport(interrupted=True).exit_code]
    assert str(SIGTERM_EXIT_CODE) in section


def test_the_tree_of_errors_is_the_one_that_its_docstring_draws() -> None:
    drawn = re.findall(r"^[│├└─\s]*(\w+Error)\s.*?(\d)\b", errors.__doc__ or "", re.MULTILINE)
    assert {name: int(code) for name, code in drawn} == {
        kind.__name__: kind.exit_code for kind in error_classes()
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("clipcls cl", "classify"),
        ("clipcls classify --labels-f", "--labels-file"),
        ("clipcls classify --model ViT-B-", "ViT-B-32"),
        ("clipcls classify --model bal", "balanced"),
        ("clipcls classify --model mi", "mini"),
        ("clipcls classify --model au", "auto"),
        ("clipcls classify --templates fa", "faces"),
        ("clipcls classify --precision b", "bf16"),
        ("clipcls prompts show --templates openai", "openai80"),
        ("clipcls models pull RN50", "RN50"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_offered_what_can_follow(shell: str, words: str, expected: str) -> None:
    """The variables are those that the scripts of `--show-completion` set."""
    last = words.rsplit(" ", 1)[1]
    environment = {
        "_CLIPCLS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": last,
    }
    program = traced("-c", "from clipcls.cli import app; app(prog_name='clipcls')",
                     environment=environment)  # fmt: skip
    assert program.exit_code == 0, program.stderr
    assert program.stderr == ""
    offered = re.findall(r"[\w@./-]+", program.stdout)
    assert expected in offered
    assert not program.loaded & HEAVY


def test_the_shell_is_offered_nothing_that_does_not_fit() -> None:
    environment = {
        "_CLIPCLS_COMPLETE": "complete_bash",
        "COMP_WORDS": "clipcls classify --model ViT-B-",
        "COMP_CWORD": "3",
    }
    program = traced("-c", "from clipcls.cli import app; app(prog_name='clipcls')",
                     environment=environment)  # fmt: skip
    offered = program.stdout.split()
    assert "ViT-B-32" in offered
    assert all(name.startswith("ViT-B-") for name in offered)
