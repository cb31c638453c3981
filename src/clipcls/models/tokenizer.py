"""Texts to token ids, exactly as the model was trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clipcls.errors import MissingExtraError, ModelError
from clipcls.models.catalog import import_open_clip, quiet_open_clip
from clipcls.models.files import no_progress_bars, tokenizer_files
from clipcls.models.specs import ModelSpec
from clipcls.models.weights import first_line

if TYPE_CHECKING:
    import torch


class PromptTokenizer:
    """A tokenizer of open_clip.

    Attributes:
        context_length: Tokens that the text tower takes; longer prompts are cut there.
    """

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self._tokenizer = tokenizer
        self.context_length = context_length

    def __call__(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return (N, context_length) int64 token ids."""
        ids: torch.Tensor = self._tokenizer(list(prompts))
        return ids

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens each prompt has, begin and end included and nothing cut."""
        if not hasattr(self._tokenizer, "tokenizer"):
            return [len(self._tokenizer.encode(prompt)) + 2 for prompt in prompts]
        if not prompts:
            return []
        # In this mode open_clip itself adds begin, end and a class token.
        own = getattr(self._tokenizer, "tokenizer_mode", "") == "clips"
        ids = self._tokenizer.tokenizer(
            [self._tokenizer.clean_fn(prompt) for prompt in prompts],
            add_special_tokens=not own,
            truncation=False,
            verbose=False,
        ).input_ids
        return [len(tokens) + (3 if own else 0) for tokens in ids]


def require_transformers(spec: ModelSpec, what: str = "tokenizer") -> None:
    """Raise `MissingExtraError` where the library is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError(f"the {what} of {spec.name}", "siglip")


def load_tokenizer(spec: ModelSpec) -> PromptTokenizer:
    """Load a model's tokenizer without its weights.

    Raises:
        MissingExtraError: It needs transformers, which is not installed.
        ModelDownloadError: It is neither on this machine nor reachable.
        ModelError: Its files are missing or damaged.
    """
    config = spec.config()
    if config.tokenizer is None:
        open_clip = import_open_clip()
        with quiet_open_clip():
            found = open_clip.get_tokenizer(config.source)
        return PromptTokenizer(found, int(found.context_length))
    require_transformers(spec)
    text = config.model["text_cfg"]
    if not any(path.name != "config.json" for path in tokenizer_files(spec.name, config.tokenizer)):
        raise ModelError(
            f"{spec.name} lacks the files of its tokenizer (tokenizer.json,"
            f" tokenizer_config.json): copy those of {text['hf_tokenizer_name']} into its folder"
        )
    # The files may name code of their own, which is never run.
    extra = {**text.get("tokenizer_kwargs", {}), "trust_remote_code": False}
    open_clip = import_open_clip()
    try:
        with quiet_open_clip(), no_progress_bars():
            found = open_clip.tokenizer.HFTokenizer(
                str(config.tokenizer),
                context_length=text.get("context_length", 77),
                tokenizer_mode=text.get("tokenizer_mode"),
                local_files_only=True,
                **extra,
            )
    except ImportError as error:
        raise MissingExtraError(f"the tokenizer of {spec.name}", "siglip") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = first_line(error)
        raise ModelError(f"{spec.name}: its tokenizer is unusable ({reason})") from error
    return PromptTokenizer(found, int(found.context_length))
