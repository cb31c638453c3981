"""`auto`, the model of a user who names none: `fast` where it can be had, else the bundled `mini`.

The decision falls before a model is loaded or an image is read, and the user is told of it. Only
`auto` is ever exchanged for another model; one that the user has named is used or is an error.
"""

from __future__ import annotations

from clipcls.errors import ModelDownloadError, ResumeError
from clipcls.models.catalog import PUBLISHED
from clipcls.models.files import Tell
from clipcls.models.names import MINI, preset
from clipcls.models.specs import Auto, ModelSpec

PREFERRED = "fast"
"""The preset that `auto` means wherever it can be had."""


def settle(spec: ModelSpec, *, made_by: str | None = None, tell: Tell | None = None) -> ModelSpec:
    """Return the model to use: `spec` itself, unless it is `auto`.

    `auto` downloads `fast` where its weights are not here yet. Weights that are here but damaged
    are no reason for another model: loading them is the error that it always is.

    Args:
        spec: What the user's word means.
        made_by: The model that made the rows which this run continues, if it continues any.
        tell: Told of a download, which then draws its progress on stderr.

    Raises:
        ResumeError: The rows so far are of a model that `auto` never means.
        ModelDownloadError: They are of `fast`, which is gone from here and cannot be had.
        ModelError: The bundled model is needed and its files are missing.
    """
    if not isinstance(spec, Auto):
        return spec
    fast, mini = preset(PREFERRED), preset(MINI)
    if made_by == mini.name:
        note = (
            f"{made_by} is used, because it made the rows that are there; --overwrite starts anew"
        )
        return mini.noted(*spec.notes, note)
    if made_by not in (None, fast.name):
        raise ResumeError(
            f"the rows so far are by {made_by}: give --model {made_by} to go on with it, or"
            " --overwrite to start anew"
        )
    try:
        fast.checkpoint(tell)
    except ModelDownloadError as error:
        if made_by is None:
            right = PUBLISHED["cifar10_top1"]
            connect = f"`clipcls models pull {PREFERRED}` gets it where there is a network"
            note = (
                f"{MINI}, the small model that comes with clipcls, is used because {PREFERRED} is"
                f" not on this machine and {error.reason}; {MINI} gets {right[MINI]} % of CIFAR-10"
                f" right, {PREFERRED} {right[PREFERRED]} %: {error.advice or connect}, and naming"
                f" {MINI} as the model silences this"
            )
            return mini.noted(*spec.notes, note)
        why = f"{PREFERRED} made the rows that are there; --overwrite starts anew"
        raise ModelDownloadError(f"{error}; {why}", error.reason, error.advice) from error
    return fast.noted(*spec.notes)


def settle_here(spec: ModelSpec) -> ModelSpec:
    """Return what `settle` would without any download; notes are those of the word alone."""
    if not isinstance(spec, Auto):
        return spec
    fast = preset(PREFERRED)
    try:
        found = fast.here()
    except ModelDownloadError:
        found = None
    return (fast if found else preset(MINI)).noted(*spec.notes)


def meaning(spec: ModelSpec) -> ModelSpec:
    """Return what a word is after, for showing and pulling: `auto` is `fast`, and says so."""
    if not isinstance(spec, Auto):
        return spec
    note = f"auto is {PREFERRED}, or {MINI} where {PREFERRED} is not here and cannot be downloaded"
    return preset(PREFERRED).noted(*spec.notes, note)
