"""The files of a model: on this machine already, or on the hub.

Folders of the hub's cache are asked for and filled through `huggingface_hub` alone, so its
variables (`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`, `HF_ENDPOINT`) mean what they mean everywhere.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from clipcls.errors import ModelDownloadError, ModelError
from clipcls.models.catalog import (
    Architecture,
    architecture_of,
    architectures,
    describe_preprocessing,
)
from clipcls.models.names import AUTO, CONFIG_NAME, HUB_PREFIX, WEIGHT_SUFFIXES, ModelSpec

Answer = TypeVar("Answer")
Tell = Callable[[str], None]
"""Takes a sentence for the user."""

REACH_SECONDS = 5.0
"""How long the hub may take to answer at all. Its client retries for over 20 seconds."""

CLIP_TOKENIZER = "CLIP's own"
"""How `describe` calls the tokenizer that needs no files."""

# The file names that open_clip writes and looks for, in its order of preference.
_CHECKPOINT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


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


def _remote(spec: ModelSpec) -> tuple[str, tuple[str, ...]]:
    """Return the hub repository and the weight files to look for, the preferred first."""
    if spec.kind == AUTO:
        raise ModelError("auto is no model yet: clipcls.models.auto.settle decides which one it is")
    if spec.kind == "hub":
        return spec.name.removeprefix(HUB_PREFIX), _HUB_NAMES
    published = architectures()[spec.architecture or ""].tags[spec.tag or ""]
    repository, _, filename = published.hub.rpartition("/")
    if not filename:
        return repository, _HUB_NAMES
    stem, dot, suffix = filename.rpartition(".")
    safe = f"{stem}.safetensors"
    return repository, ((safe, filename) if dot and suffix in ("bin", "pth") else (filename,))


def _cached(repository: str, filename: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError as error:
        missing = "the package huggingface_hub cannot be imported"
        raise ModelDownloadError(
            f"{repository}: {missing} ({error}): pip install huggingface_hub", missing
        ) from error
    found = try_to_load_from_cache(repository, filename)
    return Path(found) if isinstance(found, str) else None


def weights_location(spec: ModelSpec) -> Path | None:
    """Return the weight file if it is on this machine; never touches the network.

    Raises:
        ModelError: A folder that has no weight file, or too many; `auto`, which is no model.
        ModelDownloadError: The hub's library, which knows its cache, is missing.
    """
    if spec.kind == "file":
        return spec.path
    if spec.kind == "folder" and spec.path is not None:
        return checkpoint_in(spec.path)
    repository, names = _remote(spec)
    return next((path for name in names if (path := _cached(repository, name))), None)


def pull(spec: ModelSpec, *, tell: Tell | None = None) -> Path:
    """Return the weight file, downloaded if it is not here yet.

    A hub model's configuration comes along, so that the model can be used offline.

    Args:
        spec: The model.
        tell: Told what is downloaded, before it is; with it, the hub's client draws its bars on
            stderr. Without, the download is silent.

    Raises:
        ModelDownloadError: It is not here and cannot be had.
    """
    with nullcontext() if tell else no_progress_bars():
        if spec.kind == "hub":
            pull_config(spec)
        found = weights_location(spec)
        return found or _download(spec, *_remote(spec), tell)


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


def pull_config(spec: ModelSpec) -> Path:
    """Return the `open_clip_config.json` of a hub model, downloaded if it is not here yet.

    Raises:
        ModelDownloadError: It is not here and cannot be had.
    """
    repository = spec.name.removeprefix(HUB_PREFIX)
    return _cached(repository, CONFIG_NAME) or _download(spec, repository, (CONFIG_NAME,))


def _download(
    spec: ModelSpec, repository: str, names: tuple[str, ...], tell: Tell | None = None
) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download

    for name in names:
        try:
            size = _size_on_hub(spec, repository, name)
            if tell:
                known = f" ({size / 1e6:,.0f} MB)" if size else ""
                tell(f"Downloading {spec.name}{known} to {constants.HF_HUB_CACHE}")
            with _quiet_client():
                return Path(hf_hub_download(repository, name))
        except ModelDownloadError:
            raise
        except errors.LocalEntryNotFoundError as error:
            # So the client calls whatever went wrong on the way, and has no copy to fall back on.
            raise _trouble(spec, repository, error.__cause__ or error) from error
        except errors.EntryNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001  # its storage client has errors of no common kind
            raise _trouble(spec, repository, error) from error
    reason = f"the hub's {repository} has no {' and no '.join(names)}"
    raise ModelDownloadError(f"{reason}: is it an open_clip model?", reason)


def _size_on_hub(spec: ModelSpec, repository: str, name: str) -> int | None:
    """Return the size of a file on the hub in bytes, where the hub tells it.

    Raises:
        ModelDownloadError: Offline by choice, or no hub answers within `REACH_SECONDS`.
        Exception: The hub's client's own, if the hub answers with a refusal.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    _refuse_offline(spec)
    url = hf_hub_url(repository, name)
    try:
        with _quiet_client():
            found = _answered(lambda: get_hf_file_metadata(url, timeout=REACH_SECONDS))
    except Exception as error:
        if _status(error) is None:
            raise _not_here(spec, f"{constants.ENDPOINT} cannot be reached") from error
        raise
    if found.commit_hash is None:
        stranger = "does not answer as a model hub does (a login page, a proxy?)"
        raise _not_here(spec, f"{constants.ENDPOINT} {stranger}")
    return found.size


def require_hub(spec: ModelSpec) -> None:
    """Ask the hub for a sign of life, because its client takes long to give up.

    Raises:
        ModelDownloadError: Offline by choice, or no answer within `REACH_SECONDS`.
    """
    from huggingface_hub import constants, get_session

    _refuse_offline(spec)
    try:
        _answered(lambda: get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS))
    except Exception as error:  # the hub's clients have changed theirs from version to version
        raise _not_here(spec, f"{constants.ENDPOINT} cannot be reached") from error


def _refuse_offline(spec: ModelSpec) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _not_here(spec, "HF_HUB_OFFLINE is set")


def _answered(call: Callable[[], Answer]) -> Answer:
    """Return what a call to the hub returns, or raise what it raises, soon in any case.

    The client's own limit holds anew for each of the hub's addresses, and not at all for looking
    them up, so it is a thread that is waited for no longer.
    """
    answer: Future[Answer] = Future()

    def ask() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001  it is raised where the answer is awaited
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    return answer.result(REACH_SECONDS)


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep the client's log of its retries from stderr: how they end is said in one line."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of a hub that answered with a refusal."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _not_here(spec: ModelSpec, reason: str) -> ModelDownloadError:
    return ModelDownloadError(
        f"{spec.name} is not on this machine and {reason}: run `clipcls models pull {spec.name}`"
        " where there is a network and copy its hub cache (HF_HOME), or take a local model, with"
        " --model FOLDER or --model mini",
        reason,
    )


def _trouble(spec: ModelSpec, repository: str, error: BaseException) -> ModelDownloadError:
    """Say in one line why a download failed, and what to do about it."""
    reason, advice = _reason_and_advice(repository, error)
    return ModelDownloadError(f"{spec.name}: {reason}; {advice}", reason)


def _reason_and_advice(repository: str, error: BaseException) -> tuple[str, str]:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        terms = "accept them on its page and set HF_TOKEN"
        return f"{repository} asks its users to accept terms", terms
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no {repository}, or it is private", "if so, set HF_TOKEN"
    status = _status(error)
    if status in (401, 403):
        return f"the hub refuses {repository} ({status})", "check HF_TOKEN"
    if status is not None:
        return f"the hub answers {status}", "try again later, or take a local model"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full", "free some space or set HF_HOME to another disk"
    if isinstance(error, PermissionError):
        return f"{error.filename} cannot be written", "set HF_HOME to a folder of yours"
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"the download failed ({reason})", "run it again, it continues where it was"


def describe(spec: ModelSpec) -> list[tuple[str, str]]:
    """Return what is known of a model without loading or downloading it, as (key, value) pairs."""
    if spec.kind in ("pretrained", "file"):
        found = architectures()[spec.architecture or ""]
        # A file without tag was accepted because all tags are prepared alike.
        weights = found.tags[spec.tag or next(iter(found.tags))]
        quick = found.quick_gelu or bool(spec.tag and weights.quick_gelu)
        known = [("architecture", spec.architecture or "")]
        return known + _facts(found, weights.preprocessing, quick_gelu=quick)
    config = _config_here(spec)
    if config is None:
        return [("configuration", "not here: it comes with the weights")]
    found = architecture_of(config["model_cfg"], {})
    preprocess = config["preprocess_cfg"]
    complete = {"interpolation", "resize_mode"} <= preprocess.keys()
    text = describe_preprocessing(preprocess) if complete else "partly open_clip's defaults"
    return _facts(found, text, quick_gelu=found.quick_gelu)


def _facts(found: Architecture, preprocessing: str, *, quick_gelu: bool) -> list[tuple[str, str]]:
    height, width = found.image_size
    extra = f"{found.tokenizer}, needs clipcls[siglip]" if found.tokenizer else CLIP_TOKENIZER
    return [
        ("image_size", f"{width}x{height}"),
        ("preprocessing", preprocessing),
        ("activation", "QuickGELU" if quick_gelu else "the architecture's own (GELU as a rule)"),
        ("context_length", str(found.context_length)),
        ("tokenizer", extra),
    ]


def _config_here(spec: ModelSpec) -> dict[str, Any] | None:
    """Return the `open_clip_config.json` of a folder, or of a hub model that was downloaded."""
    if spec.kind == "folder" and spec.path is not None:
        return read_config(spec.path / CONFIG_NAME)
    path = _cached(spec.name.removeprefix(HUB_PREFIX), CONFIG_NAME)
    return read_config(path) if path else None


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
    _check_preprocessing(config.get("preprocess_cfg"), path)
    return dict(config)


def _check_preprocessing(preprocess: object, path: Path) -> None:
    if not isinstance(preprocess, dict):
        preprocess = {}
    # Old configurations name neither interpolation nor resize_mode. There open_clip's defaults,
    # bicubic and shortest, are right: it knew no other way when they were written.
    bad = [key for key in ("mean", "std") if not _is_per_channel(preprocess.get(key))]
    if bad:
        example = ", ".join(f'"{key}": [R, G, B]' for key in bad)
        raise ModelError(
            f"{path} lacks {' and '.join(bad)} (three numbers each) in its preprocess_cfg, and a"
            f" guess could make every score wrong: add {example} as the model was trained, for a"
            " hub model in a copy of its files that is given with --model FOLDER"
        )


def _is_per_channel(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value)
    )
