"""The files of a model: in a folder, in the hub's cache, or still on the hub.

The hub's cache is asked for and filled through `huggingface_hub` alone, so its variables
(`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`, `HF_ENDPOINT`) mean what they mean everywhere.
"""

from __future__ import annotations

import errno
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from clipcls.errors import ModelDownloadError, ModelError
from clipcls.models.catalog import PUBLISHED

Answer = TypeVar("Answer")
Tell = Callable[[str], None]
"""Takes a sentence for the user."""

REACH_SECONDS = 3.0
"""How long the hub may take to answer at all, whatever is asked of it until a download begins. Its
client retries for over 20 seconds."""

CONFIG_NAME = "open_clip_config.json"
WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors", ".bin")
HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# The file names that open_clip writes and looks for, in its order of preference.
_CHECKPOINT_NAMES: list[str] = PUBLISHED["checkpoint_names"]

_VOCABULARIES: list[str] = PUBLISHED["tokenizer_vocabularies"]
_TOKENIZER_FILES = [*_VOCABULARIES, *PUBLISHED["tokenizer_settings"]]
"""What a tokenizer of the transformers library can be made of."""

_ELSEWHERE = (
    "run `clipcls models pull {}` where there is a network and copy its hub cache (HF_HOME), or"
    " take a local model, with --model FOLDER or --model mini"
)


def checkpoint_in(folder: Path) -> Path:
    """Return the weight file of a folder in open_clip's layout.

    Raises:
        ModelError: There is none, or several and none of them has a name that open_clip writes.
    """
    for name in _CHECKPOINT_NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in WEIGHT_SUFFIXES)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(f"the folder {folder} has no weight file ({_CHECKPOINT_NAMES[0]})")
    names = ", ".join(path.name for path in found[:5])
    raise ModelError(
        f"the folder {folder} has {len(found)} weight files ({names}): name the one to use"
        f" {_CHECKPOINT_NAMES[0]} (or .bin, .pth alike), or give it with --model FILE --arch ARCH"
    )


def tokenizer_files(model: str, source: str | Path) -> list[Path]:
    """Return the files of a transformers tokenizer, of a hub repository downloaded if need be.

    Args:
        model: The model's name, for messages.
        source: The folder that holds them, or the name of the hub repository.

    Raises:
        ModelDownloadError: They are not here and cannot be had.
    """

    def here() -> list[Path]:
        if isinstance(source, Path):
            return [path for name in _TOKENIZER_FILES if (path := source / name).is_file()]
        return [found for name in _TOKENIZER_FILES if (found := cached(source, name))]

    found = here()
    if isinstance(source, Path) or any(path.name in _VOCABULARIES for path in found):
        return found
    from huggingface_hub import HfApi, snapshot_download

    with _explained(model, source), no_progress_bars():
        # A sign of life first, because the client takes long to give up.
        _ask(model, lambda: HfApi().model_info(source, timeout=REACH_SECONDS), REACH_SECONDS)
        snapshot_download(source, allow_patterns=_TOKENIZER_FILES)
    return here()


def cached(repository: str, *names: str) -> Path | None:
    """Return the first of some files that the hub's cache has; never touches the network.

    Raises:
        ModelDownloadError: The hub's library, which knows its cache, is missing.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError as error:
        why, advice = "huggingface_hub cannot be imported", "pip install huggingface_hub"
        message = f"{repository}: {why} ({error}): {advice}"
        raise ModelDownloadError(message, why, advice) from error
    try:
        found = [try_to_load_from_cache(repository, name) for name in names]
    except ValueError as error:
        raise ModelError(f"{repository!r} is no name of a hub repository") from error
    return next((Path(path) for path in found if isinstance(path, str)), None)


def fetch(model: str, repository: str, names: Sequence[str], tell: Tell | None = None) -> Path:
    """Return the first of some files that the cache or the hub has, downloaded if need be.

    Args:
        model: The model's name, for messages.
        repository: The hub repository.
        names: The files to look for, the preferred first.
        tell: Told what is downloaded, before it is; with it, the hub's client draws its bars on
            stderr. Without, the download is silent.

    Raises:
        ModelDownloadError: None is here, and none can be had.
    """
    if found := cached(repository, *names):
        return found
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

    left = REACH_SECONDS
    for name in names:
        with _explained(model, repository), nullcontext() if tell else no_progress_bars():
            began = time.monotonic()
            try:
                url = hf_hub_url(repository, name)
                known = _ask(model, lambda: get_hf_file_metadata(url, timeout=left), left)  # noqa: B023
                if known.commit_hash is None:
                    stranger = "does not answer as a model hub does (a login page, a proxy?)"
                    raise _not_here(model, f"{constants.ENDPOINT} {stranger}")
                if tell:
                    size = f" ({known.size / 1e6:,.0f} MB)" if known.size else ""
                    tell(f"Downloading {model}{size} to {constants.HF_HUB_CACHE}")
                return Path(hf_hub_download(repository, name))
            except errors.LocalEntryNotFoundError:
                raise
            except errors.EntryNotFoundError:
                left = max(left - (time.monotonic() - began), 0.1)
    reason = f"the hub's {repository} has no {' and no '.join(names)}"
    raise ModelDownloadError(f"{reason}: is it an open_clip model?", reason, "take another model")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep the bars of the hub's client from the terminal, those of transformers' downloads too."""
    try:
        from huggingface_hub import constants
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )
    except ImportError:  # no client, no bars; a local model does not need it
        yield
        return
    # Whoever decided through the variable HF_HUB_DISABLE_PROGRESS_BARS is not overruled.
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _explained(model: str, repository: str) -> Iterator[None]:
    """Say in one line why the hub's client failed, and keep its log of retries from stderr."""
    from huggingface_hub import errors

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except ModelDownloadError:
        raise
    except Exception as error:
        # LocalEntryNotFoundError: so the client calls whatever went wrong on the way to a file of
        # which it has no copy to fall back on.
        wrapped = isinstance(error, errors.LocalEntryNotFoundError)
        reason, advice = _reason_and_advice(repository, (wrapped and error.__cause__) or error)
        raise ModelDownloadError(f"{model}: {reason}; {advice}", reason, advice) from error
    finally:
        logger.setLevel(level)


def _ask(model: str, call: Callable[[], Answer], seconds: float) -> Answer:
    """Return what a call to the hub returns, or raise what it raises, soon in any case.

    The client's own limit holds anew for each of the hub's addresses, and not at all for looking
    them up, so it is a thread that is waited for no longer.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _not_here(model, "HF_HUB_OFFLINE is set")
    answer: Future[Answer] = Future()

    def ask() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001  it is raised where the answer is awaited
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        return answer.result(seconds)
    except Exception as error:
        # An answer that refuses, and trouble with this machine's own files, is something else.
        local = isinstance(error, OSError) and error.errno in (*_FULL, *_FORBIDDEN)
        if local or _status(error) is not None or "CERTIFICATE" in str(error).upper():
            raise
        raise _not_here(model, f"{constants.ENDPOINT} cannot be reached") from error


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of a hub that answered with a refusal."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _not_here(model: str, reason: str) -> ModelDownloadError:
    advice = _ELSEWHERE.format(model)
    return ModelDownloadError(f"{model} is not on this machine and {reason}: {advice}", reason)


_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def _reason_and_advice(repository: str, error: BaseException) -> tuple[str, str]:
    from huggingface_hub import errors

    status = _status(error)
    number = error.errno if isinstance(error, OSError) else None
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, errors.GatedRepoError):
        terms = "accept them on its page and set HF_TOKEN"
        return f"{repository} asks its users to accept terms", terms
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no {repository}, or it is private", "if so, set HF_TOKEN"
    if status is not None and status not in (401, 403):
        return f"the hub answers {status}", "try again later, or take a local model"
    if status is not None:
        return f"the hub refuses {repository} ({status})", "check HF_TOKEN"
    if number in _FULL:
        return "the disk is full", "free some space or set HF_HOME to another disk"
    if number in _FORBIDDEN:
        where = getattr(error, "filename", None) or "the hub's cache"
        return f"{where} cannot be written", "set HF_HOME to a folder of yours"
    if "CERTIFICATE" in first.upper():
        trust = "name your organisation's certificates in SSL_CERT_FILE"
        return f"the hub's certificate is not trusted here ({first})", trust
    return f"the download failed ({first})", "run it again, it continues where it was"


def read_config(path: Path) -> dict[str, Any]:
    """Read an `open_clip_config.json`.

    Raises:
        ModelError: It is not readable, or lacks what every model has: open_clip would take
            OpenAI's mean and std for missing ones, and every score would be silently wrong.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no JSON file ({error})") from error
    model = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model, dict) or "embed_dim" not in model:
        raise ModelError(f"{path} has no model_cfg with an embed_dim: it is not open_clip's")
    if not all(isinstance(p, dict) for p in (model.get("vision_cfg"), model.get("text_cfg"))):
        raise ModelError(f"{path} lacks vision_cfg or text_cfg in its model_cfg")
    preprocess = config.get("preprocess_cfg")
    # Old configurations name neither interpolation nor resize_mode. There open_clip's defaults,
    # bicubic and shortest, are right: it knew no other way when they were written.
    bad = []
    for key in ("mean", "std"):
        numbers = preprocess.get(key) if isinstance(preprocess, dict) else None
        if (
            not isinstance(numbers, list)
            or [type(x) in (int, float) for x in numbers] != [True] * 3
        ):
            bad.append(key)
    if bad:
        example = ", ".join(f'"{key}": [R, G, B]' for key in bad)
        raise ModelError(
            f"{path} lacks {' and '.join(bad)} (three numbers each) in its preprocess_cfg, and a"
            f" guess could make every score wrong: add {example} as the model was trained, for a"
            " hub model in a copy of its files that is given with --model FOLDER"
        )
    return dict(config)
