"""Write `src/clipcls/models/catalog.json`: a copy of the installed open_clip's list of models.

Run it after an update of open_clip. Models are built on torch's meta device, which takes no memory
and no weights; those whose text tower needs the hub have no parameter count.

    python scripts/make_catalog.py
"""

from __future__ import annotations

import json
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
    return {key: value for key, value in fields.items() if value is not None}


def main() -> None:
    """Write the catalog."""
    open_clip = import_open_clip()
    entries = {name: entry(open_clip, name, found) for name, found in live_architectures().items()}
    content = {"open_clip": version("open_clip_torch"), "architectures": entries}
    TARGET.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(entries)} architectures of open_clip {content['open_clip']}")


if __name__ == "__main__":
    main()
