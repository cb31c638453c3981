"""The small JSON file beside an output that says exactly what made it.

It serves the reader of a result (which model, which prompts?) and `--resume`, which refuses to add
rows of one run to the rows of another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipcls.errors import ResumeError
from clipcls.outputs.base import move_into_place

VERSION = 1
"""Version of the layout of the file."""

COMPARED = ("versions", "prompts", "scoring", "decode", "output", "device_kind", "model")
"""The keys that must be equal for two runs to give equal rows."""

SUMMARY = ("failed", "counts", "reasons", "skipped")
"""Keys that the manifest of a complete output has besides."""


def manifest_path(output: Path) -> Path:
    """Return where the manifest of an output lies: `out.csv` -> `out.csv.manifest.json`."""
    return output.with_name(output.name + ".manifest.json")


def is_complete(content: Mapping[str, Any]) -> bool:
    """Whether a manifest describes an output that was finished."""
    return "inputs_sha256" in content


def model_of(content: Mapping[str, Any]) -> str | None:
    """Return the name of the model that made the output, None if the manifest does not say."""
    model = content.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    return name if isinstance(name, str) else None


def write_manifest(path: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest so that a reader sees the old one or the new one, never a half."""
    temporary = path.with_name(path.name + ".tmp")
    text = json.dumps({"manifest": VERSION, **content}, indent=2, ensure_ascii=False)
    temporary.unlink(missing_ok=True)
    try:
        # "x" follows no link.
        with temporary.open("x", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        move_into_place(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        ResumeError: It is not there, or it is damaged; the message never says to overwrite.
    """
    rows = path.with_name(path.name.removesuffix(".manifest.json"))
    way_out = f"the rows in {rows} are intact: move them away to keep them, or choose another -o"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResumeError(
            f"{path} is missing, so nothing says what made the rows; {way_out}"
        ) from None
    except OSError as error:
        raise ResumeError(f"{path} cannot be read: {error.strerror}; {way_out}") from error
    except (ValueError, RecursionError) as error:
        raise ResumeError(f"{path} is damaged (it is no JSON); {way_out}") from error
    if not isinstance(content, dict):
        raise ResumeError(f"{path} is damaged (it is no JSON object); {way_out}")
    if content.get("manifest") != VERSION:
        raise ResumeError(f"{path} is no manifest of version {VERSION}; {way_out}")
    needed = [*COMPARED, "batch_size", *(SUMMARY if is_complete(content) else ())]
    missing = [key for key in needed if key not in content]
    if missing:
        raise ResumeError(f"{path} is damaged (it lacks '{missing[0]}'); {way_out}")
    size = content["batch_size"]
    if type(size) is not int or size < 1:
        raise ResumeError(f"{path} is damaged (its 'batch_size' is {_shown(size)}); {way_out}")
    return content


def check_same_run(old: Mapping[str, Any], new: Mapping[str, Any], where: Path) -> None:
    """Refuse to continue a run with different settings.

    Only the keys of `COMPARED` that `new` has are looked at, so that what is known before the
    model is loaded can be checked before the model is loaded.

    Raises:
        ResumeError: Naming the first difference and both values.
    """
    for key in COMPARED:
        if key not in new:
            continue
        # Through JSON, so that tuples and lists or 1 and 1.0 do not count as differences.
        found = _first_difference(old.get(key), json.loads(json.dumps(new[key])), key)
        if found is not None:
            raise ResumeError(
                f"cannot resume {where}: {found}; use the old setting, or --overwrite to start anew"
            )


def _first_difference(old: Any, new: Any, place: str) -> str | None:
    """Return the first difference as a sentence, None when there is none."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return None if old == new else f"{place} was {_shown(old)} and is now {_shown(new)}"
    added = [key for key in new if key not in old]
    removed = [key for key in old if key not in new]
    if added or removed:
        parts = [f"without {_shown(removed)}"] if removed else []
        parts += [f"with {_shown(added)}"] if added else []
        return f"{place} is now {' and '.join(parts)}"
    if list(old) != list(new):
        return f"{place} has another order: {_shown(list(old))}, now {_shown(list(new))}"
    differences = (_first_difference(old[key], new[key], f"{place}.{key}") for key in new)
    return next((found for found in differences if found is not None), None)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
