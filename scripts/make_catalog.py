"""Write `src/clipcls/models/catalog.json`: a copy of the installed open_clip's list of models.

Run it after an update of open_clip. Models are built on torch's meta device, which takes no memory
and no weights; those whose text tower needs the hub have no parameter count.

    python scripts/make_catalog.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clipcls.models.catalog import (
    Architecture,
    import_open_clip,
    live_architectures,
    quiet_open_clip,
)

TARGET = Path(__file__).parents[1] / "src" / "clipcls" / "models" / "catalog.json"


def sizes(open_clip: Any, name: str) -> dict[str, int]:
    """Return the numbers of parameters and of elements in the state dict of an architecture."""
    import torch

    if "hf_model_name" in open_clip.get_model_config(name)["text_cfg"]:
        return {}
    with torch.device("meta"), quiet_open_clip():
        model = open_clip.create_model(name, load_weights=False, device="meta")
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "elements": sum(t.numel() for t in model.state_dict().values()),
    }


def entry(open_clip: Any, name: str, found: Architecture) -> dict[str, Any]:
    """Return the catalog's entry of one architecture, without what is not known."""
    fields = {**asdict(found), **sizes(open_clip, name)}
    fields["tags"] = {
        tag: {"hub": known.hub, "quick_gelu": known.quick_gelu, "preprocess": known.preprocessing}
        for tag, known in found.tags.items()
    }
    return {key: value for key, value in fields.items() if value is not None}


def openai_archives(open_clip: Any, names: Iterable[str]) -> dict[str, str]:
    """Return SHA-256 -> architecture of OpenAI's archives: their addresses hold the digest."""
    found = {}
    for name in names:
        for tag in open_clip.list_pretrained_tags_by_model(name):
            address = open_clip.get_pretrained_cfg(name, tag)["url"]
            digest = re.search(r"//openaipublic\.[^/]+/.*/([0-9a-f]{64})/", address)
            if digest and not name.endswith("-quickgelu"):
                found[digest[1]] = name
    return found


def main() -> None:
    """Write the catalog."""
    open_clip = import_open_clip()
    known = live_architectures()
    content = {
        "open_clip": version("open_clip_torch"),
        "openai_archives": openai_archives(open_clip, known),
        "preprocessing": {
            tag.preprocessing: dict(tag.preprocess)
            for found in known.values()
            for tag in found.tags.values()
        },
        "architectures": {name: entry(open_clip, name, found) for name, found in known.items()},
    }
    TARGET.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(known)} architectures of open_clip {content['open_clip']}")


if __name__ == "__main__":
    main()
