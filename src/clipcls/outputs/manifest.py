"""The small JSON file beside an output that says exactly what made it.

It serves the reader of a result (which model, which prompts?) and `--resume`, which refuses to add
rows of one run to the rows of another.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipcls.errors import ResumeError
from clipcls.outputs.base import move_into_place
from clipcls.records import RunReport
from clipcls.text import listed, printable_path, visible

VERSION = 1
"""Version of the layout of the file."""

COMPARED = (
    *("prompts", "head", "scoring", "decode", "output", "shard", "versions", "device_kind"),
    "model",
)
"""The keys that must be equal for two runs to give equal rows; what users choose comes first."""

SUMMARY = ("images", "failed", "counts", "reasons", "skipped", "skipped_paths")
"""Keys that the manifest of a complete output has besides."""

OF_SHARD = ("listed", "places")
"""Keys that the manifest of a complete shard has besides: how many images all shards have together,
and where among them its own are, as `packed` gives it."""

_Words: TypeAlias = "str | tuple[str, str] | Mapping[str, _Words]"
_WORDS: Mapping[str, _Words] = {
    "prompts": ("the list of labels", "the list of prompts for '{}'"),
    "head": "--head",
    "scoring": {
        "multi_label": "--multi-label",
        "threshold": "--threshold",
        "margin": "--margin",
        "calibration": "--calibration",
        "unknown": {
            "": "--unknown",
            "words": "--unknown-words",
            "threshold": "--unknown-threshold",
        },
    },
    "decode": {
        "max_megapixels": "--max-megapixels",
        "truncated": "--truncated",
        "fit": "--fit",
        "decoding": "--decode",
    },
    "output": {
        "format": "--format",
        "top_k": "--top-k",
        "logits": "--logits",
        "similarities": "--similarities",
        "keep": ("--keep", "the type of the column '{}'"),
    },
    "shard": "--shard",
    "shards": "the number of shards",
    "versions": {
        "clipcls": "the version of clipcls",
        "open_clip": "the version of open_clip",
        "torch": "the version of torch",
        "lexicon": "the list of nouns of --unknown",
    },
    "device_kind": "the device (--device)",
    "model": {
        "name": "the model (--model)",
        "precision": "the precision (--precision)",
        "fingerprint": "the weights or preprocessing of the model",
    },
    "listed": "the number of images",
    "inputs_sha256": "the list of images",
}
"""Key of a manifest -> what the user calls it; of names that the user chose, all and each."""

_is_digest = re.compile("[0-9a-f]{32,}").fullmatch


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


def read_manifest(path: Path, way_out: str = "") -> dict[str, Any]:
    """Read a manifest.

    Args:
        path: The manifest.
        way_out: What the user can do when it will not do; by default, what a run is told.

    Raises:
        ResumeError: It is not there, or it is damaged; the message never says to overwrite.
    """
    rows = path.with_name(path.name.removesuffix(".manifest.json"))
    way_out = way_out or (
        f"the rows in {rows} are intact: move them away to keep them, or choose another -o"
    )
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
    needed = [*COMPARED, "batch_size"]
    if is_complete(content):
        needed += [*SUMMARY, *(OF_SHARD if content.get("shard") else ())]
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
    found = difference(old, {key: new[key] for key in COMPARED if key in new})
    if found is not None:
        raise ResumeError(
            f"cannot resume {where}: {found}; use the old setting, or --overwrite to start anew"
        )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return the first difference in the keys that `new` has, as a clause in the user's words."""
    # Through JSON, so that tuples and lists or 1 and 1.0 do not count as differences.
    plain = json.loads(json.dumps(new))
    return _first_difference({key: old.get(key) for key in plain}, plain, _WORDS)


def summary(report: RunReport, inputs_sha256: str) -> dict[str, Any]:
    """Return what the manifest of a complete output adds.

    Args:
        report: All its rows, counted.
        inputs_sha256: The digest of `PathDigest` of all paths of the list.
    """
    return {
        "finished": now(),
        "images": report.counts.total() + report.failed,
        "failed": report.failed,
        "counts": dict(report.counts),
        "reasons": dict(report.reasons),
        "skipped": dict(report.skipped),
        "skipped_paths": [[printable_path(path), why] for path, why in report.skipped_paths],
        "inputs_sha256": inputs_sha256,
    }


def now() -> str:
    """Return the time as manifests have it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class PathDigest:
    """The digest of the paths of a list, in their order."""

    def __init__(self) -> None:
        self._digest = sha256()

    def add(self, path: str) -> None:
        """Take the next path, as the system calls it."""
        self._digest.update(os.fsencode(path) + b"\0")

    def __str__(self) -> str:
        return self._digest.hexdigest()


def packed(places: Iterable[int]) -> str:
    """Return places in a list, which ascend, as text: for eight shards, less than a byte each.

    The gaps between them are small, so of the eight bytes of each all but the lowest compress to
    next to nothing, each kind beside its like.
    """
    steps = np.diff(np.fromiter(places, "<u8"), prepend=np.uint64(0))
    by_byte = steps.astype("<u8").view(np.uint8).reshape(-1, 8).T
    return b64encode(zlib.compress(by_byte.tobytes(), 9)).decode("ascii")


def unpacked(text: str, count: int) -> NDArray[np.uint64]:
    """Return the (count,) places that `packed` has made text of.

    Raises:
        ValueError: There are more or fewer, or the text is damaged.
    """
    try:
        # No further than it should go, whatever the text holds.
        data = zlib.decompressobj().decompress(b64decode(text, validate=True), 8 * count + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(data) != 8 * count:
        raise ValueError(f"not {count} places")
    by_byte = np.frombuffer(data, np.uint8).reshape(8, count)
    return np.cumsum(np.ascontiguousarray(by_byte.T).view("<u8").ravel(), dtype=np.uint64)


def _first_difference(old: Any, new: Any, words: _Words) -> str | None:
    """Return the first difference as a clause in the user's words, None when there is none."""
    if isinstance(old, dict) and isinstance(new, dict) and not isinstance(words, str):
        if isinstance(words, tuple):
            if list(old) != list(new):
                return _other_names(old, new, words[0])
            words = {name: words[1].format(visible(name)) for name in new}
        parts = ((old.get(key), new.get(key), words.get(key, key)) for key in {**new, **old})
        return next((found for part in parts if (found := _first_difference(*part))), None)
    if old == new:
        return None
    if not isinstance(words, str):
        words = words[0] if isinstance(words, tuple) else words.get("", "a setting")
    before, now = map(_value, (old, new))
    return f"{words} is another one" if before == now else f"{words} was {before} and is now {now}"


def _other_names(old: Mapping[str, Any], new: Mapping[str, Any], words: str) -> str:
    if set(old) == set(new):
        return f"{words} was in the order {listed(old)} and is now {listed(new)}"
    removed = [name for name in old if name not in new]
    added = [name for name in new if name not in old]
    parts = [f"without {listed(removed)}"] if removed else []
    parts += [f"with {listed(added)}"] if added else []
    return f"{words} is now {' and '.join(parts)}"


def _value(value: Any) -> str:
    if value is None or value is False:
        return "not given"
    if value is True or isinstance(value, dict) or _is_digest(str(value)):
        return "given"
    return visible(value) if isinstance(value, str) else _shown(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
