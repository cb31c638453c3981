"""Slips on the command line: one line in our words, exit code 2, whoever finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

RGB = ("--labels", "red,green,blue")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify"], "INPUT... is missing (see "),
        (["models", "show"], "NAME is missing (see "),
        (["models", "pull"], "NAME is missing (see "),
        (["classify", "x", "--lables", "a"], "no option --lables, did you mean --labels? (see "),
        (["classify", "x", "--quite"], "no option --quite, did you mean --quiet? (see "),
        (["classify", "x", "--zzzzzzz"], "there is no option --zzzzzzz (see "),
        (["classify", "x", "-y"], "there is no option -y (see "),
        (["models", "--jsn"], "there is no option --jsn (see "),
        (["--versin"], "there is no option --versin, did you mean --version? (see "),
        (["classify", "x", "--precision", "f"], "'--precision': 'f' is not one of 'auto', 'fp32'"),
        (["classify", "x", "--fit", "crop"], "'--fit': 'crop' is not one of 'model', 'pad'"),
        (["classify", "x", "--decode", "f"], "'--decode': 'f' is not one of 'fast', 'exact'"),
        (["classify", "x", "--format", "xlsx"], "'--format': 'xlsx' is not one of 'csv'"),
        (["classify", "x", "--top-k", "z"], "'--top-k': give a whole number"),
        (["classify", "x", "--top-k", "1.5"], "'--top-k': give a whole number"),
        (["classify", "x", "--threshold", "z"], "'--threshold': give a number (see "),
        (["classify", "x", "--labels"], "'--labels' requires an argument (see "),
        (["classify", "x", "--quiet=1"], "--quiet"),
        (["clasify"], "'clasify'. Did you mean 'classify'? (see "),
        (["models", "list", "a", "b"], "unexpected extra argument"),
        (["models", "zzz"], "no model's name contains 'zzz'"),
        (["prompts", "zzz"], "there is no set 'zzz'"),
    ],
)
def test_a_slip_is_one_plain_line(invoke: Invoke, arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert not set("╭│╰") & set(result.stderr)


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["--labels", "cat", "dog"], '--labels "cat,dog"'),
        (["--labels", "cat,", "dog"], '--labels "cat,dog"'),
        (["--labels", "cat,bird", "no dog"], '--labels "cat,bird,no dog"'),
        (["--labels", "cat", "眼鏡"], '--labels "cat,眼鏡"'),
    ],
)
def test_labels_that_are_not_joined_by_commas_are_explained(
    invoke: Invoke, colours: Path, words: list[str], joined: str
) -> None:
    result = invoke("classify", colours, *words)
    assert result.exit_code == 2
    assert "labels are joined by commas" in result.stderr
    assert result.stderr.rstrip().endswith(joined)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["missing.jpg", "sub/missing", "*.gif", "@missing"])
def test_what_can_be_no_label_is_not_taken_for_one(
    invoke: Invoke, colours: Path, name: str
) -> None:
    result = invoke("classify", colours, *RGB, name)
    assert result.exit_code == 2
    assert "commas" not in result.stderr


def test_images_and_labels_cannot_both_come_from_standard_input(invoke: Invoke) -> None:
    result = invoke("classify", "-", "--labels-file", "-", stdin=b"a\nb\n")
    assert result.exit_code == 2
    assert "standard input (-) can be read only once" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_a_command_the_help_is_shown(invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "Commands:" in result.stdout
