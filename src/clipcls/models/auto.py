"""`auto`, the model of a user who names none: `fast` where it can be had, else the bundled `mini`.

The decision falls before a model is loaded or a picture is read, and the user is told of it. Only
`auto` is ever exchanged for another model; one that the user has named is used or is an error.
"""

from __future__ import annotations

from dataclasses import replace

from clipcls.errors import ModelDownloadError, ResumeError
from clipcls.models.files import Tell, pull, weights_location
from clipcls.models.names import (
    AUTO,
    FAST_ON_CIFAR10,
    MINI,
    MINI_ACCURACY,
    ModelSpec,
    bundled,
    preset,
)

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
    if spec.kind != AUTO:
        return spec
    if made_by is not None:
        return _continued(spec, made_by, tell)
    fast = preset(PREFERRED)
    try:
        pull(fast, tell=tell)
    except ModelDownloadError as error:
        return replace(bundled(), notes=(*spec.notes, _stopgap(error.reason)))
    return replace(fast, notes=spec.notes)


def settle_here(spec: ModelSpec) -> ModelSpec:
    """Return what `settle` would without any download; notes are those of the word alone."""
    if spec.kind != AUTO:
        return spec
    fast = preset(PREFERRED)
    try:
        found = weights_location(fast)
    except ModelDownloadError:
        found = None
    return replace(fast if found else bundled(), notes=spec.notes)


def meaning(spec: ModelSpec) -> ModelSpec:
    """Return what a word is after, for showing and pulling: `auto` is `fast`, and says so."""
    if spec.kind != AUTO:
        return spec
    note = f"auto is {PREFERRED}, or {MINI} where {PREFERRED} is not here and cannot be downloaded"
    return replace(preset(PREFERRED), notes=(*spec.notes, note))


def _stopgap(reason: str) -> str:
    """Say that `mini` takes the place of `fast`: why, how good it is, and what to do about it."""
    return (
        f"{MINI}, the small model that comes with clipcls, is used because {PREFERRED} is not on"
        f" this machine and {reason}; {MINI} gets {MINI_ACCURACY:.1f} % of CIFAR-10 right,"
        f" {PREFERRED} {FAST_ON_CIFAR10:.1f} %: `clipcls models pull {PREFERRED}` gets it where"
        f" there is a network, and naming {MINI} as the model silences this"
    )


def _continued(spec: ModelSpec, made_by: str, tell: Tell | None) -> ModelSpec:
    """Return the model that made the rows so far, whichever `auto` would be now."""
    if made_by == MINI:
        note = f"{MINI} is used, because it made the rows that are there; --overwrite starts anew"
        return replace(bundled(), notes=(*spec.notes, note))
    fast = preset(PREFERRED)
    if made_by == fast.name:
        try:
            pull(fast, tell=tell)
        except ModelDownloadError as error:
            why = f"{PREFERRED} made the rows that are there; --overwrite starts anew"
            raise ModelDownloadError(f"{error}; {why}", error.reason) from error
        return replace(fast, notes=spec.notes)
    raise ResumeError(
        f"the rows so far are by {made_by}: give --model {made_by} to go on with it, or --overwrite"
        " to start anew"
    )
