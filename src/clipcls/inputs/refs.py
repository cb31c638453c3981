"""Where an image is, not what it shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One input image before it was opened.

    Attributes:
        index: Place in the input order, from 0.
        path: The path as the user gave it or as the walk found it below what the user gave.
    """

    index: int
    path: str
