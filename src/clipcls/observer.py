"""Who is told what happens; the console shows it, tests collect it, the library stays silent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from clipcls.records import Record, RunReport

if TYPE_CHECKING:
    from clipcls.models.devices import DeviceChoice
    from clipcls.models.files import Tell
    from clipcls.prompts import PromptSet


class Observer:
    """Told what a run does as it does it, from the thread that runs it; this one stays silent.

    Attributes:
        downloading: Told of a download, which then draws its progress on stderr; None where
            downloads are silent.
    """

    downloading: Tell | None = None

    def joined(self, lines: Iterable[str]) -> None:
        """Images and their truth came together; what did not, and what was guessed, a line each."""

    def loading(self, model: str, device: DeviceChoice) -> None:
        """The model of that name is about to be loaded."""

    def started(self, prompts: PromptSet, total: int | None, resumed: int) -> None:
        """Scoring begins.

        Args:
            prompts: The labels and their finished prompts.
            total: Number of images, None where it cannot be known in advance.
            resumed: Number of rows kept from an interrupted run.
        """

    def scored(self, record: Record) -> None:
        """One more image has its record; it is written with its batch."""

    def working(self, total: int) -> None:
        """So many images are about to be worked on after scoring: sorted, or drawn small."""

    def worked(self) -> None:
        """One more of them is done, or cannot be."""

    def noted(self, message: str) -> None:
        """Something that is worth knowing while it runs."""

    def warned(self, message: str) -> None:
        """Something that the user should know, though the run goes on."""

    def finished(self, report: RunReport) -> None:
        """The run is over."""
