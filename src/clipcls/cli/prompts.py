"""`clipcls prompts`: the template sets, and the finished prompts of a choice of labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from clipcls.cli import _flags as flags
from clipcls.cli import prompts_search
from clipcls.cli._base import Command, ListByDefault, echo, on_terminal

if TYPE_CHECKING:
    from clipcls.models.names import ModelSpec
    from clipcls.prompts import PromptSet

app = typer.Typer(
    cls=ListByDefault,
    subcommand_metavar="[NAME | COMMAND ...]",
    help="List the template sets, or the templates of the set NAME; show finished prompts, and"
    " search for the best ones.",
    epilog="""\b
Examples:
  clipcls prompts
  clipcls prompts openai7
  clipcls prompts show --labels glasses,no-glasses --templates faces
""",
)

_SHOW_EPILOG = """\b
Examples:
  clipcls prompts show --labels "glasses=a person wearing glasses,no-glasses"
  clipcls prompts show --labels-file labels.csv -t "a photo of a <>" -t "a <>"
  clipcls prompts show --labels cat,dog --templates openai7 --model ViT-B/32
"""


@app.command(
    "list",
    cls=Command,
    short_help="List the template sets, or the templates of one: the default.",
    epilog="Example: clipcls prompts list openai7",
)
def list_sets(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Print the templates of this set (or file), one per line.",
            autocompletion=flags.complete_set,
        ),
    ] = "",
) -> None:
    """List the template sets: name, number of templates, description; or one set's templates."""
    from clipcls.prompts import list_sets, load_templates

    if name:
        for template in load_templates(name):
            echo(template)
        return
    row = "{:10} {:>9}  {}" if on_terminal() else "{}\t{}\t{}"
    echo(row.format("name", "templates", "description"))
    for found in list_sets():
        echo(row.format(found.name, len(found.templates), found.description))


app.command("search", cls=Command, epilog=prompts_search.EPILOG)(prompts_search.search)


@app.command(cls=Command, epilog=_SHOW_EPILOG)
def show(
    labels: flags.LabelsFlag = None,
    label: flags.LabelFlag = None,
    labels_file: flags.LabelsFileFlag = None,
    template: flags.TemplateFlag = None,
    templates: flags.TemplatesFlag = None,
    model: flags.ModelFlag = None,
    arch: flags.ArchFlag = None,
) -> None:
    """Print each label's prompts, and warn of those that the model cuts."""
    from clipcls.prompts import build_prompts

    prompts = build_prompts(
        *flags.labels_and_templates(labels, label, labels_file, template, templates)
    )
    remarks = list(_remarks(prompts, model, arch))
    for name, texts in zip(prompts.labels, prompts.prompts, strict=True):
        for text in texts:
            echo(f"{name}\t{text}")
    for remark in remarks:
        echo(remark, err=True)


def _remarks(prompts: PromptSet, model: str | None, arch: str | None) -> Iterator[str]:
    """Yield the notes on the model's name, then a line per prompt that the model cuts."""
    from clipcls.models.auto import settle_here
    from clipcls.models.names import default_model, resolve_model

    spec = settle_here(resolve_model(model or default_model(), arch))
    yield from spec.notes
    if _surely_fit(prompts, spec):
        return
    from clipcls.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(spec)
    limit = tokenizer.context_length
    for owner, texts in zip(prompts.labels, prompts.prompts, strict=True):
        for text, count in zip(texts, tokenizer.count_tokens(texts), strict=True):
            if count > limit:
                yield (
                    f"Warning: '{text[:60]}...' ({owner[:30]}): {count} tokens, {spec.name} reads"
                    f" {limit} and ignores the rest; shorten the wording or the template"
                )


def _surely_fit(prompts: PromptSet, spec: ModelSpec) -> bool:
    """Whether the model reads all prompts whole, for all that is known without its tokenizer.

    The tokenizer takes seconds to load. For CLIP's own, begin and end are two tokens and every
    other one covers a character, as long as no HTML entity or Unicode repair changes the text.
    """
    from clipcls.models.names import CLIP_TOKENIZER, describe

    known = dict(describe(spec))
    if known.get("tokenizer") != CLIP_TOKENIZER:
        return False
    longest = int(known["context_length"]) - 2
    return all(
        prompt.isascii() and "&" not in prompt and len(prompt) <= longest
        for prompt in prompts.flat()
    )
