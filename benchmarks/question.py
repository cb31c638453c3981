"""What all contenders are asked; no imports, because the measuring process stays light."""

from __future__ import annotations

LABELS = ("cat", "dog", "bird", "fish", "car", "ship", "tree", "house", "fruit", "machine")
OTHER_LABELS = ("indoors", "outdoors", "by day", "by night")
TEMPLATE = "a photo of a <>"


class Skipped(Exception):
    """A contender that cannot take part; says why."""
