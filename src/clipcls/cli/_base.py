"""What all commands share: how they fail, how their help is laid out, what a group does by default.

Typer carries a click of its own. `main` therefore runs it in its non-standalone mode, where usage
errors and failing writes come up to here and leave in one form: a line on stderr, an exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any, NoReturn

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from clipcls.errors import ClipclsError, MergeError
from clipcls.text import visible

_WORDINGS = {
    "Invalid value for ": "",
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "give a whole number",
    "Input should be a valid number, unable to parse string as a number": "give a number",
}
"""Parts of typer's messages about a value, in our words."""


@contextmanager
def _quiet_ends() -> Iterator[None]:
    """Turn what ends a program without being an error into an exit code."""
    try:
        yield
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted.
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        echo("Interrupted", err=True)
        raise typer.Exit(130) from None


class ErrorGroup(TyperGroup):
    """The one place where an error becomes a line on stderr and an exit code."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Read the command line; `--help` and `--version` print as it is read."""
        with _quiet_ends():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _quiet_ends():
            return super().invoke(ctx)

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command line and exit."""
        messages: tuple[str, ...] = ()
        try:
            code = super().main(*args, **{**options, "standalone_mode": False}) or 0
        except MergeError as error:
            messages, code = error.problems, error.exit_code
        except ClipclsError as error:
            messages, code = (str(error),), error.exit_code
        except typer.TyperException as error:
            messages, code = (_usage(error),), 2
        except OSError as error:
            if error.filename is not None:
                raise
            messages, code = (_unwritable(error),), 1
        with suppress(OSError):
            for message in messages:
                echo(f"Error: {visible(message)}", err=True)
        sys.exit(_flushed(code))


def echo(text: str, *, err: bool = False) -> None:
    """Print a line; what the stream's encoding lacks becomes `?`.

    Left to itself, click takes an ASCII stream for a mistake and writes UTF-8 into it.
    """
    typer.echo(text, file=sys.stderr if err else sys.stdout)


def on_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout is not None and sys.stdout.isatty()


def _usage(error: typer.TyperException) -> str:
    """Return one of typer's messages in our words, with the way to the help."""
    text = " ".join(error.format_message().split()).rstrip(".")
    option, ctx = getattr(error, "option_name", ""), getattr(error, "ctx", None)
    if text.startswith("No such option"):
        known = [name for p in ctx.command.get_params(ctx) for name in p.opts] if ctx else []
        near = get_close_matches(option, known, n=1, cutoff=0.7)
        text = f"there is no option {option}" + (f", did you mean {near[0]}?" if near else "")
    elif text.startswith("Missing argument"):
        text = f"{text.split(chr(39))[1]} is missing"
    elif isinstance(error, typer.BadParameter) and error.param is not None:
        for foreign, ours in _WORDINGS.items():
            text = text.replace(foreign, ours)
    path = f"{ctx.command_path} " if ctx else ""
    return f"{text} (see {path}--help)"


def _unwritable(error: OSError) -> str:
    return f"cannot write to standard output: {error.strerror or error}"


def _flushed(code: int) -> int:
    """Write what is left of the output; return the exit code.

    What cannot be written is led to nowhere, or Python would complain of it once more at its end.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if code == 0 and stream is sys.stdout and not isinstance(error, BrokenPipeError):
                code = 1
                echo(f"Error: {_unwritable(error)}", err=True)
    return code


def own_process(max_megapixels: float) -> None:
    """Set what only a program that owns its process may set.

    Args:
        max_megapixels: May go beyond the limit that Pillow has of its own.
    """
    from clipcls.inputs.pillow import lift_pillow_limit
    from clipcls.lazy import leave_loading
    from clipcls.models.devices import keep_freed_memory

    lift_pillow_limit(max_megapixels)
    keep_freed_memory()
    leave_loading()


class Command(TyperCommand):
    """A command whose `--help` keeps the options in groups, as plain text."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the command's name in its usage line."""
        names = [(p, str(p.metavar)) for p in self.get_params(ctx) if isinstance(p, TyperArgument)]
        return ["[OPTIONS]", *(name if p.required else f"[{name}]" for p, name in names)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group of options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            group = getattr(parameter, "rich_help_panel", None) or "Options"
            if isinstance(parameter, TyperArgument):
                record, group = (str(parameter.metavar), parameter.help or ""), "Arguments"
            if record:
                groups.setdefault(group, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


class ListByDefault(TyperGroup):
    """Takes `clipcls models` and `clipcls models WORD` for `clipcls models list ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` before arguments that begin with no command and no call for help."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)
